//! The published pages: one folder each, one file per service, one function per method.
//!
//! A newcomer's usual mistake is to decide something here. A surface translates a message into the domain's words, asks
//! the domain, and translates the answer; what is true for one page and not for another is in how it is said.
//!
//! *Knows:* generated messages, the domain. *Does not know:* protocols, other surfaces, ports.

pub mod coordinator;
mod excerpts;
pub mod grpc;
mod objects;
pub mod podium;
