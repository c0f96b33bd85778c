//! The configuration, read again while a process runs.
//!
//! A newcomer's usual mistake is to keep quiet about what was not taken over. Whoever changed a setting learns from the log
//! whether it is in force.
//!
//! *Knows:* where the configuration comes from, what has changed in it. *Does not know:* who uses it.

use portico::{
    base::Result,
    config::{Change, Config, Loaded},
};

use super::{Failure, Variables, configuration, log};

/// Where the configuration of a running process comes from.
pub(crate) struct Source {
    pub(crate) flags: configuration::Flags,
    pub(crate) variables: Variables,
    /// With what could be taken over since.
    pub(crate) started: Loaded,
}

impl Source {
    /// Reads everything again. What can be taken over is; what is wrong leaves everything as it is.
    pub(crate) fn reload(&mut self, log: &log::Log, apply: impl FnOnce(&Config) -> Result<()>) {
        let newer = match self.flags.load(self.variables.clone()) {
            Ok(newer) => newer,
            Err(Failure::Configuration(problems)) => {
                for problem in problems.0 {
                    tracing::error!(
                        place = %problem.place, setting = problem.key, cause = problem.cause, fix = problem.fix,
                        "the configuration has a problem; the old one stays in force"
                    );
                }
                return;
            }
            Err(failure) => {
                return tracing::error!(?failure, "the configuration cannot be read; the old one stays in force");
            }
        };
        if let Err(error) = apply(&newer.config).and_then(|()| log.set_level(newer.config.log.level)) {
            return tracing::error!(error = error.report(), "the old configuration stays in force");
        }
        let switched = self.started.config.tls.is_some() != newer.config.tls.is_some();
        for setting in self.started.changes(&newer) {
            match setting.change {
                Change::OnReload if !(switched && setting.key.starts_with("tls.")) => {
                    tracing::info!(setting = setting.key, "a changed setting is in force");
                }
                _ => tracing::warn!(setting = setting.key, "a changed setting needs a restart"),
            }
        }
        tracing::info!("the configuration was read again");
        self.started = newer;
    }
}
