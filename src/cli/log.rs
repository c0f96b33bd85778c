//! The log of this process, on standard error.
//!
//! *Knows:* level and form of lines. *Does not know:* what is logged.

mod lines;
mod text;

use std::io::IsTerminal;

use portico::{
    base,
    config::{self, LogFormat, LogLevel},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    reload,
};

use self::lines::Written;
use super::Failure;

/// The log, while it is written.
pub(crate) struct Log {
    _written: Written,
    level: reload::Handle<Targets, Registry>,
}

/// Begins to log, until what it answers is dropped.
pub(crate) fn begin(log: config::Log) -> Result<Log, Failure> {
    let unable = |error: &dyn std::fmt::Display| Failure::other(format!("the log cannot begin: {error}"));
    let told = |lost| tracing::warn!(log.lines_lost = lost, "lines were not logged, because nobody read the log");
    let (writer, written) = lines::begin(std::io::stderr(), told).map_err(|error| unable(&error))?;
    let lines = fmt::layer::<Registry>().with_writer(writer);
    let layer = match log.format {
        LogFormat::Text if std::io::stderr().is_terminal() => lines.with_ansi(true).boxed(),
        LogFormat::Text => lines.event_format(text::Text).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (targets, level) = reload::Layer::new(targets(log.level));
    let subscriber = Registry::default().with(layer.with_filter(targets));
    tracing::subscriber::set_global_default(subscriber).map_err(|error| unable(&error))?;
    Ok(Log { _written: written, level })
}

impl Log {
    /// Logs from this level on.
    pub(crate) fn set_level(&self, level: LogLevel) -> base::Result<()> {
        self.level.reload(targets(level)).map_err(base::Error::internal)
    }
}

/// Libraries are heard at `warn` only: their `info` is about their insides.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("portico", level)
}
