//! REST routes of methods.

use std::{collections::HashMap, sync::Arc};

use portico_json::FieldPath;

use super::{Defect, Method, Template};

/// One REST route of a method.
pub struct Binding {
    /// The HTTP method, for example `POST`.
    pub verb: http::Method,
    /// The path.
    pub template: Template,
    /// The field of each variable of the template, in the same order.
    pub captures: Vec<FieldPath>,
    /// Where the body goes.
    pub body: Body,
    /// The field of the response that is the answer; the whole message when unset.
    pub response: Option<FieldPath>,
}

/// Where the HTTP body goes.
pub enum Body {
    /// There is none; what the path does not capture comes from the query.
    None,
    /// Into the request message as a whole.
    Whole,
    /// Into this field; what is left comes from the query.
    Field(FieldPath),
}

/// Refuses two methods that answer to one verb and path.
pub(super) fn refuse_clashes(methods: &[Arc<Method>]) -> Result<(), Defect> {
    let mut claimed: HashMap<(String, String), &'static str> = HashMap::new();
    for method in methods {
        let sockets = method.socket.iter().map(|socket| ("WebSocket".to_owned(), socket.template.shape()));
        let routes = method.bindings.iter().map(|binding| (binding.verb.to_string(), binding.template.shape()));
        for route in routes.chain(sockets) {
            let text = format!("{} {}", route.0, route.1);
            if let Some(other) = claimed.insert(route, method.path) {
                return Err(Defect::new(format!("{} and {other} both claim {text}", method.path)));
            }
        }
    }
    Ok(())
}
