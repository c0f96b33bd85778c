//! The published pages that are honoured, as constants.

use portico_json::{Absent, Defaults, Int64, Names, Style};

/// A published page: how it prints errors and JSON on its REST routes.
#[derive(Debug)]
pub struct Surface {
    /// Its name in proto files.
    pub name: &'static str,
    /// How it prints errors.
    pub dialect: Dialect,
    /// How it prints messages.
    pub json: Style,
    /// The WebSocket subprotocol that it names, echoed to callers that offer it.
    pub subprotocol: Option<&'static str>,
}

/// How a page prints errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// As the Connect protocol does.
    Connect,
    /// `{"error": {"code", "message", "request_id", …}}`.
    Podium,
}

/// What a gateway serves: the published pages and what belongs to none.
pub const GATEWAY: &[&str] = &["", "podium"];
/// What a host serves to gateways.
pub const COORDINATOR: &[&str] = &["", "coordinator"];
/// Every surface, for documents. Two of them may claim one route, so nothing serves all.
pub const EVERY: &[&str] = &["", "podium", "coordinator"];

impl Surface {
    /// What belongs to no page, printed as the Connect protocol does.
    pub const NEUTRAL: &'static Surface =
        &Surface { name: "", dialect: Dialect::Connect, json: Style::CANONICAL, subprotocol: None };

    const ALL: &'static [&'static Surface] = &[
        Surface::NEUTRAL,
        &Surface {
            name: "podium",
            dialect: Dialect::Podium,
            json: Style { names: Names::Proto, int64: Int64::Number, defaults: Defaults::Emit, absent: Absent::Null },
            subprotocol: Some("podium.native.v1"),
        },
        // Spoken between gateways and hosts. It prints as the page whose facts it carries.
        &Surface {
            name: "coordinator",
            dialect: Dialect::Podium,
            json: Style { names: Names::Proto, int64: Int64::Number, defaults: Defaults::Emit, absent: Absent::Null },
            subprotocol: Some("podium.native.v1"),
        },
    ];

    /// The page of this name.
    pub fn named(name: &str) -> Option<&'static Surface> {
        Surface::ALL.iter().copied().find(|surface| surface.name == name)
    }
}
