//! The log of this process, on standard error.
//!
//! *Knows:* level and form of lines. *Does not know:* what is logged.

mod lines;
mod text;

use std::io::IsTerminal;

use portico::config::{Log, LogFormat, LogLevel};
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
};

use self::lines::Written;
use super::Failure;

/// Begins to log, until what it answers is dropped. Libraries are heard at `warn` only: their `info` is about their insides.
pub(crate) fn begin(log: Log) -> Result<Written, Failure> {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let targets = Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("portico", level);
    let unable = |error: &dyn std::fmt::Display| Failure::other(format!("the log cannot begin: {error}"));
    let (writer, written) = lines::begin(std::io::stderr()).map_err(|error| unable(&error))?;
    let lines = fmt::layer::<Registry>().with_writer(writer);
    let layer = match log.format {
        LogFormat::Text if std::io::stderr().is_terminal() => lines.with_ansi(true).boxed(),
        LogFormat::Text => lines.event_format(text::Text).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let subscriber = Registry::default().with(layer.with_filter(targets));
    tracing::subscriber::set_global_default(subscriber).map_err(|error| unable(&error))?;
    Ok(written)
}
