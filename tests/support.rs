//! What tests share.

pub(crate) mod doors;
pub(crate) mod ensemble;
pub(crate) mod example;
pub(crate) mod gateway;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod valkey;
