//! `agent.json`: how a bundle says what to run.
//!
//! A newcomer's usual mistake is to treat a bad manifest as a fault of the host. It is the bundle's, and whoever
//! deployed it is told what to change.
//!
//! *Knows:* the manifest's fields and rules. *Does not know:* where the bundle lies.

use std::path::Path;

use portico_base::Result;
use portico_port::fleet::failure;
use serde::Deserialize;

/// The manifest's name, at the bundle's root.
pub(super) const FILE: &str = "agent.json";
/// Largest manifest.
const BYTES_MAX: u64 = 64 << 10;
/// Most words of a command.
const WORDS_MAX: usize = 256;

/// What to run.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// For people.
    #[serde(default)]
    pub(super) name: String,
    /// For people; the deployment's version counts.
    #[serde(default)]
    pub(super) version: String,
    /// The program and its arguments, run at the bundle's root.
    pub(super) command: Vec<String>,
    /// Whether to start it again after it broke.
    #[serde(default)]
    pub(super) restart: Restart,
    /// For people.
    #[serde(default)]
    pub(super) description: String,
}

/// Whether an agent that broke is started again.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Restart {
    /// Yes, a bounded number of times.
    #[default]
    OnFailure,
    /// No.
    Never,
}

impl Manifest {
    /// Reads the manifest of the bundle that lies at `root`.
    pub(super) fn read(root: &Path) -> Result<Manifest> {
        let path = root.join(FILE);
        let missing = |error| failure::unrunnable("the bundle has no agent.json at its root").caused_by(error);
        if std::fs::metadata(&path).map_err(missing)?.len() > BYTES_MAX {
            return Err(failure::unrunnable("agent.json is larger than 64 KiB"));
        }
        Manifest::parse(&std::fs::read_to_string(&path).map_err(missing)?)
    }

    fn parse(text: &str) -> Result<Manifest> {
        let manifest: Manifest =
            serde_json::from_str(text).map_err(|error| failure::unrunnable(format!("agent.json: {error}")))?;
        if manifest.command.first().is_none_or(String::is_empty) {
            return Err(failure::unrunnable("agent.json: command must name a program"));
        }
        if manifest.command.len() > WORDS_MAX {
            return Err(failure::unrunnable("agent.json: command has more than 256 words"));
        }
        if manifest.command.iter().any(|word| word.contains('\0')) {
            return Err(failure::unrunnable("agent.json: command contains a zero character"));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_a_command() {
        let manifest = Manifest::parse(r#"{"name": "echo", "version": "1.0.0", "command": ["python3", "main.py"]}"#);
        assert_eq!(manifest.unwrap().restart, Restart::OnFailure);
    }

    #[test]
    fn a_bad_manifest_says_what_to_change() {
        for (text, says) in [
            ("{", "agent.json: EOF"),
            ("{}", "missing field `command`"),
            (r#"{"command": []}"#, "must name a program"),
            (r#"{"command": ["a"], "restart": "always"}"#, "unknown variant `always`"),
            (r#"{"command": ["a"], "comand": 1}"#, "unknown field `comand`"),
        ] {
            let error = Manifest::parse(text).unwrap_err();
            assert!(error.message().contains(says), "{error:?}");
        }
    }
}
