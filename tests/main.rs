//! All tests that go through a door or hold the house together, in one binary, so that it links once.

mod backends;
mod domain;
mod doors;
mod house;
mod support;
mod web;
