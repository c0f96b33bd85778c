//! The Podium page.
//!
//! A newcomer's usual mistake is to look for routes. They stand in `proto/podium/v1/`; here is one function for each method.

mod agent;
mod config;
mod deployments;
mod health;
mod instances;
mod keys;
mod secrets;

use http::{HeaderName, HeaderValue, header};
use portico_base::{Context, Error, Result, Timestamp};
use portico_domain::platform::Platform;
use portico_wire::{Handlers, podium::v1, well_known};

/// What answers with keys or secrets say to every cache on their way.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

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

    /// Mounts every service of the page.
    pub fn mount(self, handlers: &mut Handlers) {
        v1::mount_agent_service(self.clone(), handlers);
        v1::mount_config_service(self.clone(), handlers);
        v1::mount_deployments_service(self.clone(), handlers);
        v1::mount_health_service(self.clone(), handlers);
        v1::mount_instances_service(self.clone(), handlers);
        v1::mount_keys_service(self.clone(), handlers);
        v1::mount_secrets_service(self, handlers);
    }
}

/// A time as the page's messages carry it.
fn timestamp(time: Timestamp) -> well_known::Timestamp {
    well_known::Timestamp {
        seconds: time.0.div_euclid(1_000),
        nanos: i32::try_from(time.0.rem_euclid(1_000)).unwrap_or_default() * 1_000_000,
    }
}

/// The time that a message carries, to the millisecond. `field` names it in the refusal.
fn moment(field: &str, time: &well_known::Timestamp) -> Result<Timestamp> {
    let fits = (0..1_000_000_000).contains(&time.nanos);
    let millis =
        time.seconds.checked_mul(1_000).and_then(|millis| millis.checked_add(i64::from(time.nanos / 1_000_000)));
    millis.filter(|_| fits).map(Timestamp).ok_or_else(|| Error::invalid(field, "is not a time"))
}

/// Keeps the answer out of every cache.
fn not_stored(cx: &Context) {
    cx.reply.header(header::CACHE_CONTROL, NO_STORE);
}

/// Tells the version of what is answered, for `if-match`.
fn tagged(cx: &Context, version: u64) {
    say(cx, header::ETAG, &format!("\"{version}\""));
}

/// Says something in a header. Texts of ours are visible ASCII; one that is not goes unsaid.
fn say(cx: &Context, name: HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        cx.reply.header(name, value);
    }
}

/// A count as messages carry it. Four thousand million changes do not happen.
fn counted(version: u64) -> u32 {
    u32::try_from(version).unwrap_or(u32::MAX)
}
