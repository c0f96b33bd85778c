//! The ports, implemented: one folder or file each.
//!
//! A newcomer's usual mistake is to let a backend decide. It answers what its port asks, in its port's words; meaning,
//! rights and retries are the domain's.
//!
//! *Knows:* one vendor per module. *Does not know:* the domain.

pub mod local_fleet;
