//! What the operator decides before start.
//!
//! A newcomer's usual mistake is to read the environment where a value is needed. Everything is read here, once, before
//! anything runs; what comes out is typed, complete and never changes: whoever is told to read again (SIGHUP) makes
//! another one, which the few parts that can take over. What administrators change while the gateway runs is called
//! *settings of the platform* and lives in the domain.
//!
//! One table ([`SETTINGS`]) holds every setting: the file, the environment, the command line and the reference document
//! all come from it, so a setting cannot exist in one and be missing in another.
//!
//! *Knows:* keys, sources and their order, what values mean. *Does not know:* who uses them.

mod bytes;
mod fields;
mod load;
mod names;
mod parse;
mod places;
mod problem;
mod reference;
mod table;

pub use bytes::ByteSize;
pub use fields::{
    AtStart, Blobs, Bucket, Bus, Config, Encryption, Environment, Fleet, Host, Limits, Log, LogFormat, LogLevel,
    Origins, Otlp, Peers, Rate, Records, Registry, S3, SealingKey, Tls, Uploads,
};
pub use load::{FILE_VARIABLE, Loaded, Origin, Sources};
pub use places::PrivateUrl;
pub use problem::{Place, Problem, Problems};
pub use reference::reference;
pub use table::{Change, SETTINGS, Setting};

#[cfg(test)]
mod tests;
