//! Ports answered inside this process, for a gateway that is alone.
//!
//! A newcomer's usual mistake is to think of these as stand-ins for tests. They are what a single gateway runs on: bounded,
//! quick, and gone with the process, which loses nothing because whoever uses them keeps the facts in records.
//!
//! *Knows:* memory and tokio's clock. *Does not know:* other gateways.

pub mod bus;
pub mod registry;
