//! REST, event streams and sockets, as callers see them. Handlers are made by hand, so that each test says what it is about.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod rest;
mod sockets;
mod streams;
mod support;
mod uploads;
