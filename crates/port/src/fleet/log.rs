//! Log entries of an instance.
//!
//! A newcomer's usual mistake is to page by time. Entries have a sequence number, so that a follower can go on exactly
//! where it stopped.
//!
//! *Knows:* levels, sources, entries. *Does not know:* how many are kept, and where.

use portico_base::Timestamp;

/// Longest text of one entry; what is longer is cut.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

/// How grave an entry is, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }

    /// The level of this name, if it is one. `warning` counts as `warn`.
    pub fn parse(name: &str) -> Option<LogLevel> {
        match name.to_ascii_lowercase().as_str() {
            "debug" | "trace" => Some(LogLevel::Debug),
            "info" => Some(LogLevel::Info),
            "warn" | "warning" => Some(LogLevel::Warn),
            "error" | "fatal" | "critical" => Some(LogLevel::Error),
            _ => None,
        }
    }
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    /// The agent logged it.
    Agent,
    /// A line of its standard output.
    Stdout,
    /// A line of its standard error.
    Stderr,
    /// Its host.
    Host,
}

impl LogSource {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogSource::Agent => "agent",
            LogSource::Stdout => "stdout",
            LogSource::Stderr => "stderr",
            LogSource::Host => "host",
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Counts the entries of the instance from 1.
    pub sequence: u64,
    /// When it was written.
    pub at: Timestamp,
    /// How grave it is.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// Where it comes from.
    pub source: LogSource,
}

/// Which entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// This level and everything above it.
    pub level: LogLevel,
    /// How many to skip.
    pub offset: usize,
    /// How many at most.
    pub limit: usize,
}
