//! What the proto files say a request may hold: `(portico.v1.field)`, `(portico.v1.form)` and `(portico.v1.schema)`, as JSON
//! Schema.
//!
//! A newcomer's usual mistake is to add a rule here. What may be said of a field stands at the field.
//!
//! *Knows:* these options, JSON Schema. *Does not know:* any message, or who refuses what does not fit.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, Value as Said};
use serde_json::{Map, Value, json};

/// How many levels of forms within forms are written out.
const FORM_LEVELS_MAX: usize = 8;

/// What is said of a field.
#[derive(Default)]
pub(super) struct Rule {
    pub(super) required: bool,
    pub(super) names: Option<String>,
    pub(super) holds: Option<String>,
    pub(super) is_read_only: bool,
    pub(super) null_removes: bool,
    pattern: Option<String>,
    words: Vec<String>,
    minimum: Option<i64>,
    maximum: Option<i64>,
    min_length: u32,
    max_length: u32,
}

impl Rule {
    pub(super) fn of(field: &FieldDescriptor) -> Rule {
        let pool = field.parent_message().parent_pool();
        let Some(extension) = pool.get_extension_by_name("portico.v1.field") else { return Rule::default() };
        let options = field.options();
        if !options.has_extension(&extension) {
            return Rule::default();
        }
        let mut rule = options.get_extension(&extension).as_message().map(Rule::read).unwrap_or_default();
        for pattern in [&mut rule.pattern, &mut rule.names].into_iter().flatten() {
            written_out(pattern, field.parent_message());
        }
        rule
    }

    fn read(said: &DynamicMessage) -> Rule {
        let get = |name: &str| said.get_field_by_name(name).filter(|_| said.has_field_by_name(name));
        let text = |name: &str| get(name).and_then(|value| value.as_str().map(str::to_owned));
        let number = |name: &str| get(name).and_then(|value| value.as_i64());
        let words = get("words").and_then(|words| {
            Some(words.as_list()?.iter().filter_map(Said::as_str).map(str::to_owned).collect::<Vec<_>>())
        });
        let is = |name: &str| get(name).and_then(|value| value.as_bool()).unwrap_or_default();
        Rule {
            required: is("required"),
            is_read_only: is("read_only"),
            null_removes: is("null_removes"),
            names: text("names"),
            holds: text("holds"),
            pattern: text("pattern"),
            words: words.unwrap_or_default(),
            minimum: number("minimum"),
            maximum: number("maximum"),
            min_length: get("min_length").and_then(|value| value.as_u32()).unwrap_or_default(),
            max_length: get("max_length").and_then(|value| value.as_u32()).unwrap_or_default(),
        }
    }

    /// Narrows the schema of one value.
    pub(super) fn narrow(&self, shape: &mut Value) {
        if let Some(pattern) = &self.pattern {
            shape["pattern"] = pattern.as_str().into();
        }
        if !self.words.is_empty() {
            shape["enum"] = self.words.clone().into();
        }
        if let Some(minimum) = self.minimum {
            shape["minimum"] = minimum.into();
        }
        if let Some(maximum) = self.maximum {
            shape["maximum"] = maximum.into();
        }
        if self.min_length > 0 {
            shape["minLength"] = self.min_length.into();
        }
        if self.max_length > 0 {
            shape["maxLength"] = self.max_length.into();
        }
    }

    /// Narrows the schema of a field as a whole: what must be there must not be empty.
    pub(super) fn fill(&self, shape: &mut Value) {
        if let Some(names) = &self.names {
            shape["propertyNames"] = json!({"pattern": names});
        }
        if self.required && shape["type"] == "string" && self.pattern.is_none() && shape.get("format").is_none() {
            shape["minLength"] = 1.into();
        }
    }
}

/// Writes the forms that a pattern names out, which the files of its package share.
fn written_out(pattern: &mut String, message: &MessageDescriptor) {
    let forms = if pattern.contains('<') { forms(message) } else { Vec::new() };
    for _ in 0..FORM_LEVELS_MAX {
        for (name, form) in &forms {
            *pattern = pattern.replace(&format!("<{name}>"), form);
        }
    }
}

fn forms(message: &MessageDescriptor) -> Vec<(String, String)> {
    let pool = message.parent_pool();
    let Some(extension) = pool.get_extension_by_name("portico.v1.form") else { return Vec::new() };
    let package = pool.files().filter(|file| file.package_name() == message.package_name());
    let said = package.flat_map(|file| {
        let options = file.options();
        options.get_extension(&extension).as_list().map(<[Said]>::to_vec).unwrap_or_default()
    });
    said.filter_map(|form| {
        let text = |name: &str| form.as_message()?.get_field_by_name(name)?.as_str().map(str::to_owned);
        Some((text("name")?, text("pattern")?))
    })
    .collect()
}

/// What is said of the fields of a message together.
pub(super) fn together(message: &MessageDescriptor) -> Map<String, Value> {
    let said = message.parent_pool().get_extension_by_name("portico.v1.schema").and_then(|extension| {
        let options = message.options();
        let text = options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())?;
        serde_json::from_str(text.as_str()?).ok()
    });
    said.unwrap_or_default()
}
