//! The examples of `docs/examples`, by method.

use std::sync::OnceLock;

use portico::{
    schema::{COORDINATOR, Method, Schema},
    wire::SCHEMA,
};
use serde_json::Value;

use super::{gateway::schema, source};

/// An example request and answer of a method.
pub(crate) struct Example {
    pub(crate) request: Value,
    pub(crate) response: Value,
}

/// The file that holds the example of a method.
pub(crate) fn path(method: &Method) -> String {
    format!("docs/examples/{}.{}.json", method.service, method.name)
}

/// The example of a method.
pub(crate) fn of(method: &Method) -> Example {
    let mut example: Value = serde_json::from_str(&source::read(&path(method))).unwrap();
    Example { request: example["request"].take(), response: example["response"].take() }
}

/// Every method of the page.
pub(crate) fn podium() -> impl Iterator<Item = &'static Method> {
    on(schema(), "podium")
}

/// Every method that hosts serve to gateways.
pub(crate) fn coordinator() -> impl Iterator<Item = &'static Method> {
    static SHARED: OnceLock<Schema> = OnceLock::new();
    on(SHARED.get_or_init(|| Schema::of(SCHEMA, COORDINATOR).unwrap()), "coordinator")
}

fn on(schema: &'static Schema, surface: &'static str) -> impl Iterator<Item = &'static Method> {
    schema.methods().iter().map(|method| &**method).filter(move |method| method.surface.name == surface)
}
