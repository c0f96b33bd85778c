//! ProtoJSON for Portico: JSON text to protobuf wire bytes and back, for any message of a descriptor pool.
//!
//! The codec is data and one interpreter. At start-up [`Types::new`] compiles a pool into flat tables; a request runs
//! over them. Handlers with Rust types decode the bytes with prost; services without Rust types are served all the same.
//! Nothing is generated per message, so compile time does not grow with the schema.
//!
//! ```text
//!   JSON ──decode──► wire bytes ──prost──► Rust message      types.rs  what callers hold
//!   JSON ◄──encode── wire bytes ◄──prost── Rust message      path.rs   one field, for google.api.http
//!                                                            table.rs  the schema, compiled
//!                                                            read.rs   JSON to wire    write.rs  wire to JSON
//! ```
//!
//! A newcomer would get three things wrong. Both spellings of a field name are always read; [`Style`] decides only what is
//! written. Wire bytes need not be canonical: fields out of order, split lists and messages in parts come out right. And
//! a field without presence is written on the wire even when JSON gave its default value, so that what is appended later
//! holds, whatever it says.
//!
//! *Knows:* descriptors, JSON, wire bytes. *Does not know:* HTTP, services, Rust message types.

mod calendar;
mod error;
mod mask;
mod number;
mod path;
mod read;
mod style;
mod table;
mod types;
mod wire;
mod write;

pub use error::{JsonError, Position};
pub use path::FieldPath;
pub use style::{Absent, Defaults, Int64, Names, Parse, Style, Unknown};
pub use types::{MessageType, Types};
