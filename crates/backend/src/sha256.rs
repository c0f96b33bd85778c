//! The SHA-256 of an object, once all of its bytes have passed.

use aws_lc_rs::digest::Context;
use portico_port::blobs::Digest;

/// The digest as the port has it.
pub(super) fn finished(context: Context) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Digest(digest)
}
