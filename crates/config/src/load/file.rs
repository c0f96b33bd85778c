//! The file: TOML, with the line of every value.

use std::{fs::File, io::Read, path::Path};

use toml_edit::{Document, Item, Table, TableLike, Value};

use super::{Draft, FILE_BYTES_MAX, Place, Problem};

impl Draft {
    /// Reads the file and tries every value in it.
    pub(super) fn file(&mut self, path: &Path) {
        let text = match read(path) {
            Ok(text) => text,
            Err(cause) => {
                return self.file_problem(
                    Place::WholeFile(path.to_owned()),
                    cause,
                    "name a readable TOML file with --config or PORTICO_CONFIG, or name none",
                );
            }
        };
        match Document::parse(text.as_str()) {
            Ok(document) => self.table(&Written { path, text: &text }, "", document.as_table()),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let cause = format!("it is not TOML: {}", error.message().replace('\n', "; "));
                self.file_problem(
                    Written { path, text: &text }.at(at),
                    cause,
                    "write TOML 1.0, one `key = value` a line",
                );
            }
        }
    }

    fn table(&mut self, written: &Written<'_>, prefix: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let key = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") };
            let at =
                table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span()).map_or(0, |span| span.start);
            match item {
                Item::Table(inner) => self.table(written, &key, inner as &Table),
                Item::Value(Value::InlineTable(inner)) => self.table(written, &key, inner),
                item => match text_of(item, written.text) {
                    Some(text) => self.value(written.at(at), &key, &text),
                    None => self.problems.push(Problem {
                        place: written.at(at),
                        key,
                        cause: "no setting holds such a value".to_owned(),
                        fix: "write a text, a number, or a list of texts".to_owned(),
                    }),
                },
            }
        }
    }

    fn file_problem(&mut self, place: Place, cause: String, fix: &str) {
        self.problems.push(Problem { place, key: String::new(), cause, fix: fix.to_owned() });
    }
}

/// The file as it was written.
struct Written<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Written<'_> {
    /// The place of this byte.
    fn at(&self, byte: usize) -> Place {
        let before = self.text.as_bytes().iter().take(byte);
        Place::File(self.path.to_owned(), 1 + before.filter(|byte| **byte == b'\n').count())
    }
}

fn read(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| format!("it cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err("it is larger than 1 MiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// The text of a value, as the environment would have it.
fn text_of(item: &Item, source: &str) -> Option<String> {
    match item {
        Item::Value(Value::String(text)) => Some(text.value().clone()),
        Item::Value(Value::Integer(number)) => Some(number.value().to_string()),
        Item::Value(Value::Boolean(truth)) => Some(if *truth.value() { "on" } else { "off" }.to_owned()),
        Item::Value(Value::Array(items)) => {
            let texts: Option<Vec<&str>> =
                items.iter().map(|item| item.as_str().filter(|text| !text.contains(','))).collect();
            texts.map(|texts| texts.join(","))
        }
        Item::Value(value) => value.span().and_then(|span| source.get(span)).map(str::to_owned),
        _ => None,
    }
}
