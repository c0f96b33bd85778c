//! Name and version of a bundle, from its `agent.json`.

use std::io::Read;

use serde::Deserialize;

use super::{Failure, bundle::Source};

/// The manifest's name, at the bundle's root.
const FILE: &str = "agent.json";
/// Largest manifest.
const BYTES_MAX: u64 = 64 << 10;

/// What a deployment needs of the manifest.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The agent type.
    #[serde(default)]
    pub(super) name: String,
    /// The semantic version.
    #[serde(default)]
    pub(super) version: String,
}

/// The manifest of a folder or an archive.
pub(super) fn of(source: &Source) -> Result<Manifest, Failure> {
    let mut json = Vec::new();
    let found = source.read(FILE, |file| file.take(BYTES_MAX).read_to_end(&mut json).map(|_| ()));
    match found {
        Ok(true) => serde_json::from_slice(&json).map_err(|error| Failure::other(format!("{FILE}: {error}"))),
        Ok(false) => {
            Err(Failure::usage(format!("there is no {FILE} at the root: say --agent-type and --version, or add one")))
        }
        Err(error) => Err(Failure::system(&format!("{}: {FILE} cannot be read", source.path().display()), &error)),
    }
}
