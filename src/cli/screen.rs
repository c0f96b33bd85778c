//! Standard output: lines, aligned tables, JSON.
//!
//! A newcomer's usual mistake is `println!`, which panics when the reader of a pipe has gone.
//!
//! *Knows:* how output looks. *Does not know:* what is shown.

use std::{
    fmt,
    io::{ErrorKind, StdoutLock, Write},
};

use portico::{
    base::Timestamp,
    schema::Schema,
    wire::{SCHEMA, well_known},
};
use portico_json::{Absent, Defaults, Int64, Names, Style};
use prost::Name;

use super::Failure;

/// How messages look to programs: as the REST routes print them.
const STYLE: Style =
    Style { names: Names::Proto, int64: Int64::Number, defaults: Defaults::Emit, absent: Absent::Null };

/// Standard output.
pub(crate) struct Screen {
    out: StdoutLock<'static>,
    schema: Option<Schema>,
}

impl Screen {
    /// Standard output of this process.
    pub(crate) fn standard() -> Screen {
        Screen { out: std::io::stdout().lock(), schema: None }
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{line}").map_err(|error| unwritable(&error))
    }

    /// Prints text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.out.write_all(text.as_bytes()).map_err(|error| unwritable(&error))
    }

    /// Prints rows under headings, each column as wide as its widest cell.
    pub(crate) fn table(&mut self, headings: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        self.text(&table(headings, rows))
    }

    /// Prints a message as JSON on one line.
    pub(crate) fn json<M: Name>(&mut self, message: &M) -> Result<(), Failure> {
        let schema = match &self.schema {
            Some(schema) => schema,
            None => self.schema.insert(schema()?),
        };
        let broken = |problem: &dyn fmt::Display| Failure::other(format!("{} has no JSON: {problem}", M::full_name()));
        let kind = schema.types().message(&M::full_name()).ok_or_else(|| broken(&"it is not in the schema"))?;
        let mut json = Vec::new();
        kind.encode(&message.encode_to_vec(), STYLE, &mut json).map_err(|error| broken(&error))?;
        json.push(b'\n');
        self.out.write_all(&json).map_err(|error| unwritable(&error))
    }

    /// Hands everything printed so far to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| unwritable(&error))
    }
}

/// The schema that this binary was built with.
pub(crate) fn schema() -> Result<Schema, Failure> {
    Schema::read(SCHEMA).map_err(|defect| Failure::other(format!("the built-in schema cannot be read: {defect}")))
}

/// A time as people and programs read it; a dash when there is none.
pub(crate) fn time(time: Option<&well_known::Timestamp>) -> String {
    match time {
        Some(time) => Timestamp(time.seconds.saturating_mul(1_000) + i64::from(time.nanos) / 1_000_000).to_string(),
        None => "-".to_owned(),
    }
}

/// A text; a dash when it is empty.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let lines = || std::iter::once(&headings).chain(rows);
    let width = |column: usize| {
        lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn unwritable(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::NobodyListens,
        _ => Failure::system("standard output", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long".to_owned()], vec!["größer".to_owned(), "-".to_owned()]];
        assert_eq!(table(&["ID", "B"], &rows), "ID      B\na       long\ngrößer  -\n");
    }

    #[test]
    fn times_are_rfc_3339() {
        let moment = well_known::Timestamp { seconds: 951_782_400, nanos: 5_000_000 };
        assert_eq!(time(Some(&moment)), "2000-02-29T00:00:00.005Z");
        assert_eq!(time(None), "-");
    }
}
