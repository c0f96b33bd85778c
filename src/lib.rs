//! Portico: one front door for AI-agent platforms.
//!
//! The house has layers, and arrows between them point one way (`docs/architecture.md` holds the table that a test
//! enforces):
//!
//! - [`base`]: the words every layer shares; knows nothing of ours.
//! - [`wire`]: generated messages and service traits.
//! - [`schema`]: the method table, read from the proto files' descriptor at start-up.
//! - [`port`]: what the domain asks of the world, as narrow traits.
//! - [`domain`]: what the words mean; no HTTP, no protobuf, no vendor.
//! - [`backend`]: the ports, implemented.
//! - [`gate`]: who calls, may they, how much, how long; and the record of it.
//! - [`surface`]: the published pages, one function per method.
//! - [`edge`]: the doors.
//! - [`config`]: what the operator decides before start.
//! - [`gateway`]: the composition root, the only place that names concrete backends.

pub mod backend;
pub mod config;
pub mod domain;
pub mod edge;
pub mod gate;
pub mod gateway;
pub mod port;
pub mod schema;
pub mod surface;

pub use portico_base as base;
pub use portico_wire as wire;
