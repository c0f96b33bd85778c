//! The messages and the service of the Connect conformance suite.
//!
//! A newcomer's usual mistake is to look for the protos here. They come with the suite, in the version of the runner.
//!
//! *Knows:* what build.rs wrote. *Does not know:* how the service answers.

/// The raw descriptor set.
pub const SCHEMA: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes,
    clippy::doc_lazy_continuation,
    reason = "generated from proto files of another project"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/messages.rs"));
}

pub use generated::connectrpc::conformance::v1::*;
