//! What every backend of a port must do, asked of the port and never of the backend.

mod blobs;
mod bus;
mod fleet;
mod hosts;
mod otlp;
mod records;
mod registry;
mod simulation;
mod trust;
mod valkey;
