//! What callers see, door by door. Handlers are made by hand, so that each test says what it is about.

mod rest;
mod sockets;
mod streams;
mod support;
mod uploads;
