//! The published Podium page as a specification, one room per resource: what callers see over REST.

mod authentication;
mod certificates;
mod configuration;
mod deployments;
mod health;
mod hosts;
mod instances;
mod keys;
mod secrets;
mod silence;
mod valkey;
mod websocket;
