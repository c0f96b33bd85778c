//! The published Podium page as a specification, one room per resource: what callers see over REST.

mod authentication;
mod certificates;
mod configuration;
pub(crate) mod deployments;
mod health;
mod hosts;
mod instances;
mod keys;
mod placement;
mod secrets;
mod silence;
mod storage;
mod tunnel;
mod uploads;
mod websocket;
