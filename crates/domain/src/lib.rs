//! What the words mean: keys, secrets, deployments, instances. No HTTP, no protobuf, no vendor.
//!
//! A newcomer's usual mistake is to put a rule into a surface because one page states it. Rules live here, once; a
//! surface only translates words.
//!
//! *Knows:* ports and what is asked of them. *Does not know:* who asks, or how it is printed.

mod agents;
pub mod audit;
pub mod deployments;
pub mod health;
pub mod host;
pub mod installation;
pub mod instances;
pub mod keys;
pub mod models;
pub mod placement;
pub mod platform;
pub mod revision;
pub mod secrets;
pub mod settings;
pub mod table;
