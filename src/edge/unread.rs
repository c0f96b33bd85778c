//! What a caller sends and nobody reads: the body of a call that takes none, the rest of one that is refused.
//!
//! A newcomer's usual mistake is to answer while the request is still coming. Over HTTP/1.1 a client that is sending sees a
//! broken pipe instead of the answer; over HTTP/2 a request whose end is malformed would have been answered as a good one.
//!
//! *Knows:* how much is read for that, and for how long. *Does not know:* what the bytes mean.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::Body;
use crate::base::Result;

/// Most that is read: enough for small calls to keep their connection, too little to be abused.
const BYTES_MAX: usize = 64 << 10;
/// How long is waited for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for the end of a request, within bounds; beyond them the answer no longer waits.
///
/// # Errors
/// When the body turns out to be malformed, or its caller to have gone.
pub(super) async fn ended(body: &mut Body) -> Result<()> {
    if body.is_end_stream() {
        return Ok(());
    }
    let reading = async {
        let mut bytes = 0;
        while bytes <= BYTES_MAX
            && let Some(frame) = body.frame().await
        {
            bytes += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(())
    };
    timeout(PATIENCE, reading).await.unwrap_or(Ok(()))
}
