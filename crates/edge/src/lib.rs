//! The doors: bytes come in, a method is called, bytes go out.
//!
//! A newcomer's usual mistake is to write a handler here. Each protocol is a translation of the same call; what a call
//! means is behind the doors, and who may make it is settled by the gate before a body is read.
//!
//! *Knows:* HTTP, protocols, the order of the rooms. *Does not know:* surfaces, the domain.

mod accept;
pub mod body;
pub mod classify;
pub mod cors;
mod details;
pub mod dialect;
mod ends;
pub mod engine;
mod field;
mod flow;
mod known;
pub mod listen;
mod ndjson;
pub mod openapi;
mod outline;
pub mod rest;
pub mod route;
mod shield;
pub mod site;
mod socket;
mod sse;
mod stack;
mod taking;
mod tunnel;
mod unread;
mod web;

pub use body::Body;
pub use classify::{Kind, Protocol};
pub use cors::Cors;
pub use outline::Outline;
pub use rest::Rest;
pub use site::Site;
pub use web::Pages;

use std::sync::Arc;

use http::{Response, request::Parts};
use portico_base::{Current, RequestId, tasks::Tasks};
use portico_gate::{Admit, Peer};
use portico_schema::{Dialect, Schema};
use portico_wire::{BoxFuture, Handlers};

/// How the doors are set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Largest message in bytes, decompressed.
    pub message_bytes_max: usize,
    /// Which pages of other origins may read the answers.
    pub cors: Cors,
}

/// What every gRPC implementation starts with, so that no client is surprised.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

impl Default for Config {
    fn default() -> Config {
        Config { message_bytes_max: MESSAGE_BYTES_MAX, cors: Cors::default() }
    }
}

/// What answers requests that are not calls: REST, events, sockets, the site.
pub trait Web: Send + Sync + 'static {
    /// Answers one request. Upgrades are in the extensions of its head, which is boxed because it is large and handed on.
    fn call(&self, head: Box<Parts>, body: Body, peer: Peer, id: RequestId) -> BoxFuture<Response<Body>>;

    /// How errors are printed that belong to no method.
    fn dialect(&self) -> Dialect;
}

/// All doors as one HTTP service.
pub struct Edge {
    engine: engine::Engine,
    admit: Arc<dyn Admit>,
    web: Option<Arc<dyn Web>>,
    cors: Current<Cors>,
    tasks: Tasks,
}

impl Edge {
    /// The doors of these methods.
    pub fn new(schema: &Schema, handlers: &Handlers, admit: Arc<dyn Admit>, tasks: Tasks, config: Config) -> Edge {
        Edge {
            engine: engine::Engine::new(schema, handlers, tasks.clone(), config.message_bytes_max),
            admit,
            web: None,
            cors: Current::new(config.cors),
            tasks,
        }
    }

    /// Which pages may read the answers, to be replaced while the doors are open.
    pub fn cors(&self) -> Current<Cors> {
        self.cors.clone()
    }

    /// The same doors, with this to answer what is not a call. Without it that is not found.
    #[must_use]
    pub fn with_web(mut self, web: Arc<dyn Web>) -> Edge {
        self.web = Some(web);
        self
    }
}
