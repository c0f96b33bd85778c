//! What is wrong with a document, and where.
//!
//! A newcomer would put the offending value into the message: values may be secrets or megabytes, so at most a short,
//! single-line excerpt of a *name* is ever shown.
//!
//! Knows: paths and excerpts. Does not know: HTTP statuses or error codes.

use std::borrow::Cow;
use std::fmt;

/// The longest piece of a caller's own text that an error repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 48;

/// A JSON document or a wire message that does not follow the schema. Safe to show to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    path: String,
    message: Cow<'static, str>,
    position: Option<Position>,
    is_malformed: bool,
}

/// A place in JSON text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in bytes.
    pub column: usize,
}

impl JsonError {
    pub(crate) fn new(refusal: Refusal, trail: &[Step], position: Option<Position>) -> JsonError {
        JsonError { path: path_of(trail), message: *refusal.0, position, is_malformed: false }
    }

    /// The same error, of text that is no JSON at all.
    pub(crate) fn of_malformed(self) -> JsonError {
        JsonError { is_malformed: true, ..self }
    }

    /// The same error, seen from further out.
    pub(crate) fn below(mut self, trail: &[Step]) -> JsonError {
        let outer = path_of(trail);
        if self.path.starts_with('[') || self.path.is_empty() {
            self.path.insert_str(0, &outer);
        } else {
            self.path = format!("{outer}.{}", self.path);
        }
        self
    }

    /// Where in the message the error is, by JSON names: `a.b[3].c`. Empty for the document itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, as half a sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the text is no JSON, rather than JSON that does not follow the schema. Where both are true, what comes first
    /// decides.
    pub fn is_malformed(&self) -> bool {
        self.is_malformed
    }

    /// Where in the text the error was noticed, which is at or shortly after its cause.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match self.position {
            Some(Position { line, column }) => write!(f, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for JsonError {}

/// What is wrong, before anybody knows where. Boxed, so that results stay small where nothing is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal(Box<Cow<'static, str>>);

impl Refusal {
    pub(crate) fn below(self, outer: &str) -> Refusal {
        format!("{outer}: {}", self.0).into()
    }
}

impl From<&'static str> for Refusal {
    fn from(message: &'static str) -> Refusal {
        Refusal(Box::new(Cow::Borrowed(message)))
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Refusal {
        Refusal(Box::new(Cow::Owned(message)))
    }
}

/// One step from a message to a value inside it.
#[derive(Debug)]
pub(crate) enum Step {
    Field(Box<str>),
    Index(usize),
    Key(String),
}

/// A caller's text, shortened and on one line, for use in a message.
pub(crate) fn excerpt(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        if shown.len() + c.len_utf8() > EXCERPT_BYTES_MAX {
            shown.push('…');
            break;
        }
        shown.push(if c.is_control() { '\u{fffd}' } else { c });
    }
    shown
}

/// Steps are noted on the way out, so the innermost comes first.
fn path_of(trail: &[Step]) -> String {
    let mut path = String::new();
    for step in trail.iter().rev() {
        match step {
            Step::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Step::Index(index) => {
                path.push('[');
                path.push_str(itoa::Buffer::new().format(*index));
                path.push(']');
            }
            Step::Key(key) => {
                path.push_str("[\"");
                path.push_str(&excerpt(key));
                path.push_str("\"]");
            }
        }
    }
    path
}
