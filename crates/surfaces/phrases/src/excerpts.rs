//! Which part of a log or of a conversation is asked for, on every page the same way.
//!
//! *Knows:* defaults and bounds. *Does not know:* whose log it is.

use portico_base::{Error, Result};
use portico_domain::instances::{LogLevel, Window};

/// Log entries or messages when nobody says how many.
const DEFAULT: usize = 100;
/// Most log entries or messages at once.
const MOST: usize = 1_000;

/// So many behind so many others.
pub fn window(limit: u32, offset: u32) -> Window {
    let limit = match usize::try_from(limit).unwrap_or(MOST) {
        0 => DEFAULT,
        limit => limit.min(MOST),
    };
    Window { offset: usize::try_from(offset).unwrap_or(usize::MAX), limit }
}

/// Everything, unless a level is named.
pub fn level(name: &str) -> Result<LogLevel> {
    if name.is_empty() {
        return Ok(LogLevel::Debug);
    }
    LogLevel::parse(name).ok_or_else(|| Error::invalid("level", "must be debug, info, warn or error"))
}
