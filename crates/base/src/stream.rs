//! Streams of messages, in and out of a handler.
//!
//! A newcomer's usual mistake is to collect them. Both sides are pulled: the producer waits until its consumer has
//! taken what came before, so nothing here buffers.
//!
//! *Knows:* boxed streams of results. *Does not know:* how messages are framed.

use std::pin::Pin;

use futures_core::Stream;

use crate::Result;

/// Messages from the caller. Ends when the caller is done; yields an error at most once, last.
pub type Incoming<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;

/// Messages to the caller. Dropped when the caller hangs up.
pub type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send>>;
