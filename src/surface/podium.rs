//! The Podium page.
//!
//! A newcomer's usual mistake is to look for routes. They stand in `proto/podium/v1/`; here is one function for each method.

mod health;

use portico_wire::well_known;

use crate::{base::Timestamp, domain::platform::Platform};

/// Serves every service of the page over one platform.
#[derive(Clone)]
pub struct Podium {
    platform: Platform,
}

impl Podium {
    /// The page over this platform.
    pub fn new(platform: Platform) -> Podium {
        Podium { platform }
    }
}

/// A time as the page's messages carry it.
fn timestamp(time: Timestamp) -> well_known::Timestamp {
    well_known::Timestamp {
        seconds: time.0.div_euclid(1_000),
        nanos: i32::try_from(time.0.rem_euclid(1_000)).unwrap_or_default() * 1_000_000,
    }
}
