//! The flags that say where configuration comes from.

use std::path::PathBuf;

use portico::config::{Loaded, Sources};

use super::{Failure, Variables};

/// Where configuration comes from. Each overrides what stands before it: file, environment, flags.
#[derive(clap::Args)]
#[group(skip)]
pub(crate) struct Flags {
    /// The TOML file [default: PORTICO_CONFIG, else none].
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The directory to keep everything embedded in.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<String>,
    /// Any setting, for example `--set rate.burst=200`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Flags {
    /// Loads the configuration.
    pub(crate) fn load(&self, variables: Variables) -> Result<Loaded, Failure> {
        let mut sources = Sources::new().environment(variables);
        if let Some(path) = &self.config {
            sources = sources.file(path);
        }
        for setting in &self.settings {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(Failure::usage(format!("--set {setting}: write a key, =, and a value")));
            };
            sources = sources.set("--set", key, value);
        }
        // Flags of their own come last: who types one means it.
        for (flag, key, value) in [("--listen", "listen", &self.listen), ("--data", "data", &self.data)] {
            if let Some(value) = value {
                sources = sources.set(flag, key, value);
            }
        }
        sources.load().map_err(Failure::Configuration)
    }
}
