//! What is wrong with a configuration: where, what, why, and what to do.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with a configuration, at once.
#[derive(Debug)]
pub struct Problems(pub Vec<Problem>);

/// One thing that is wrong. Never holds the value of a secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The key it is about; empty when it is about the source as a whole.
    pub key: String,
    /// What is wrong, as a sentence.
    pub cause: String,
    /// What to do, as a sentence.
    pub fix: String,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file, on this line (from 1).
    File(PathBuf, usize),
    /// In the file as a whole.
    WholeFile(PathBuf),
    /// In this environment variable.
    Variable(String),
    /// In this command-line flag.
    Flag(String),
    /// Between values that are right by themselves.
    Together,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path, line) => write!(f, "{}:{line}", path.display()),
            Place::WholeFile(path) => write!(f, "{}", path.display()),
            Place::Variable(name) => write!(f, "environment variable {name}"),
            Place::Flag(flag) => write!(f, "flag {flag}"),
            Place::Together => f.write_str("configuration"),
        }
    }
}

/// Three lines: place and key, cause, fix.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.key.is_empty() { "" } else { ": " };
        writeln!(f, "{}{colon}{}", self.place, self.key)?;
        writeln!(f, "  cause: {}", self.cause)?;
        write!(f, "  fix:   {}", self.fix)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} problem{}", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n\n{problem}"))
    }
}

impl std::error::Error for Problems {}
