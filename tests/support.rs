//! What tests share.

pub(crate) mod caller;
pub(crate) mod certificates;
pub(crate) mod doors;
pub(crate) mod ensemble;
pub(crate) mod example;
pub(crate) mod gateway;
pub(crate) mod hosts;
pub(crate) mod installation;
pub(crate) mod line;
pub(crate) mod minio;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod server;
pub(crate) mod source;
pub(crate) mod stage;
pub(crate) mod valkey;
