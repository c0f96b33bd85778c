//! `portico openapi`.

use portico::edge::{openapi, site};

use super::{Failure, Screen, screen};

/// Prints the document that a running gateway serves at `/openapi.json`.
pub(crate) fn run(screen: &mut Screen) -> Result<(), Failure> {
    let examples = site::examples().map_err(|error| Failure::other(format!("docs/examples: {}", error.report())))?;
    let document = openapi::document(&screen::schema()?, &examples);
    screen.line(format_args!("{document:#}"))
}
