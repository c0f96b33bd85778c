//! The ports, implemented: one file or folder for each way to answer.
//!
//! A newcomer's usual mistake is to let a backend decide something. It answers what a port asks and says what failed;
//! meaning stays in the domain.
//!
//! *Knows:* ports and one vendor each. *Does not know:* the domain.

pub mod coordinator;
pub mod disk;
pub mod ensemble;
pub mod local;
pub mod local_fleet;
pub mod otlp;
mod ownership;
pub mod postgres;
pub mod private;
pub mod s3;
pub mod sealer;
mod sha256;
pub mod sqlite;
pub mod valkey;
