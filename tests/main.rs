//! All tests that go through a door or hold the house together, in one binary, so that it links once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod backends;
mod domain;
mod doors;
mod fuzz;
mod house;
mod migration;
mod podium;
mod process;
mod support;
mod web;
