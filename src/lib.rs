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
//! - surfaces: the published pages, one crate each, one function per method ([`portico_podium`], [`portico_coordinator`], [`portico_grpc`]).
//! - [`edge`]: the doors.
//! - [`config`]: what the operator decides before start.
//! - [`gateway`]: the composition root, the only place that names concrete backends.
//! - `cli`, in the binary: commands for people.

pub mod gateway;

pub use portico_backend as backend;
pub use portico_base as base;
pub use portico_config as config;
pub use portico_domain as domain;
pub use portico_edge as edge;
pub use portico_gate as gate;
pub use portico_port as port;
pub use portico_schema as schema;
pub use portico_wire as wire;
