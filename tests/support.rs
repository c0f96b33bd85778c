//! What tests share.

pub(crate) mod source;
