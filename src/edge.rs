//! The doors: bytes come in, a method is called, bytes go out.
//!
//! A newcomer's usual mistake is to write a handler here. Each protocol is a translation of the same call; what a call
//! means is behind the doors, and who may make it is settled by the gate before a body is read.
//!
//! *Knows:* HTTP, protocols, the order of the rooms. *Does not know:* surfaces, the domain.

pub mod body;
pub mod dialect;
mod field;
mod ndjson;
pub mod rest;
pub mod route;
mod socket;
mod sse;
mod tunnel;

pub use body::Body;
pub use rest::Rest;
