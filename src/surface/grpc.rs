//! The services that gRPC tools expect of every server: health checking and reflection.
//!
//! A newcomer's usual mistake is to serve these beside the house. They are methods like any other: same engine, same
//! gate, same record; only their access rule says that anybody may call.
//!
//! *Knows:* the schema, the health board. *Does not know:* any other service.

mod health;
mod reflection;

pub use health::Health;
pub use reflection::Reflection;
