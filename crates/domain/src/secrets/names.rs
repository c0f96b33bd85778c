//! What may be stored as secrets: names, sizes, numbers.
//!
//! A newcomer's usual mistake is to check what was sent. What counts is what would be stored, which under a merge is more.
//!
//! *Knows:* the bounds. *Does not know:* where secrets go.

use portico_base::{Error, Result};

use super::Values;

/// Secrets of one agent type.
const NAMES_MAX: usize = 64;
/// Longest name.
const NAME_CHARACTERS_MAX: usize = 128;
/// Largest value.
const VALUE_BYTES_MAX: usize = 32 << 10;
/// Names and values of one agent type together.
const TOTAL_BYTES_MAX: usize = 256 << 10;

/// Whether these may be stored.
pub(super) fn check(values: &Values) -> Result<()> {
    if values.len() > NAMES_MAX {
        return Err(Error::invalid("secrets", format!("must be at most {NAMES_MAX}")));
    }
    let mut total = 0;
    for (name, value) in values {
        if !is_name(name) {
            let problem = format!(
                "must begin with a letter or `_`, go on with letters, digits, `_`, `.` or `-`, and have at most {NAME_CHARACTERS_MAX} characters"
            );
            return Err(Error::invalid("secrets", format!("a name {problem}")));
        }
        if value.reveal().len() > VALUE_BYTES_MAX {
            return Err(Error::invalid(format!("secrets.{name}"), format!("must be at most {VALUE_BYTES_MAX} bytes")));
        }
        total += name.len() + value.reveal().len();
    }
    if total > TOTAL_BYTES_MAX {
        return Err(Error::invalid("secrets", format!("must be at most {TOTAL_BYTES_MAX} bytes together")));
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_CHARACTERS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}
