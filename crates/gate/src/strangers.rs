//! How much those may ask for who prove nothing: by address, and each gateway for itself.
//!
//! A newcomer's usual mistake is to give what is asked in one message a rate. Nothing public of that kind is more than a look
//! at our health, which costs no more than a refusal; and whoever comes through a proxy has its address, by which the proxy
//! asks for our health too. Who could use that up would have us taken out of service.
//!
//! *Knows:* how many calls an address makes at the same time, how often it begins a stream. *Does not know:* keys.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use portico_base::{Code, Current, Error, Result, Retry, reason};
use portico_port::registry::{Rate, Take};
use portico_schema::Shape;
use tokio::time::Instant;

use super::{
    failures::network,
    limits::{Config, Permit, Running},
};

/// Calls of one message and one answer that an address makes at the same time. They are answered at once, so only bodies
/// that do not come make them many; a proxy is far below.
const CALLS_MAX: u32 = 1_024;
/// Most addresses remembered. Those that may do all they ever may need not be, so when it is full all of it is forgotten.
const ADDRESSES_MAX: usize = 16_384;

/// What addresses ask for without a key.
pub(super) struct Strangers {
    config: Current<Config>,
    running: Arc<Running>,
    /// When an address may again begin as many streams as it ever may.
    full_at: Mutex<HashMap<IpAddr, Instant>>,
}

impl Strangers {
    pub(super) fn new(config: Current<Config>) -> Strangers {
        Strangers { config, running: Arc::new(Running::of("address without a key")), full_at: Mutex::default() }
    }

    /// Lets an address make a call of this shape. Loopback addresses are never refused: behind a proxy on this machine every
    /// caller comes from one.
    ///
    /// # Errors
    /// `rate_limited` or `too_many_concurrent`, with the time to wait.
    pub(super) fn take(&self, shape: Shape, address: IpAddr) -> Result<Permit> {
        let config = self.config.get();
        let mut permit = Permit::none();
        let Some(network) = network(address).filter(|_| config.enabled) else { return Ok(permit) };
        let name = network.to_string();
        if shape == Shape::Unary {
            self.running.enter(&mut permit, "calls", &name, CALLS_MAX)?;
        } else {
            self.running.enter(&mut permit, "streams", &name, config.strangers_streams_max)?;
            self.begin(network, config.strangers)?;
        }
        Ok(permit)
    }

    fn begin(&self, network: IpAddr, rate: Rate) -> Result<()> {
        if rate.per_minute == 0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut addresses = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if addresses.len() >= ADDRESSES_MAX {
            make_room(&mut addresses, now);
        }
        let full_at = addresses.entry(network).or_insert(now);
        let (full_in, take) = rate.take(full_at.saturating_duration_since(now));
        *full_at = now + full_in;
        let Take::Later(wait) = take else { return Ok(()) };
        Err(Error::new(
            Code::ResourceExhausted,
            reason::RATE_LIMITED,
            "too many streams of this address without a key; come back later",
        )
        .retry(Retry::After(wait)))
    }
}

fn make_room(addresses: &mut HashMap<IpAddr, Instant>, now: Instant) {
    addresses.retain(|_, full_at| *full_at > now);
    if addresses.len() >= ADDRESSES_MAX {
        addresses.clear();
    }
}
