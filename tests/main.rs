//! Behaviour of the house, as a specification. One binary, so that it links once; the tree says where things are.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod doors;
