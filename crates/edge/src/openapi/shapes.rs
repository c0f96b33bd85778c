//! JSON schemas of messages, in the style of the page that prints them.

use std::collections::BTreeMap;

use portico_json::{Absent, Defaults, Int64, Names, Style};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{
    comments::Comments,
    rules::{self, Rule},
};

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// In a path, a query or a form, where all is text and nothing is null.
    Asked,
    /// In the JSON of a request, where null means unset, as nothing does.
    Given,
    /// In an answer.
    Told,
}

/// The schemas that were asked for so far, by component name.
pub(super) struct Shapes<'a> {
    comments: &'a Comments,
    components: BTreeMap<String, Value>,
}

impl<'a> Shapes<'a> {
    pub(super) fn new(comments: &'a Comments) -> Self {
        Shapes { comments, components: BTreeMap::new() }
    }

    pub(super) fn into_components(self) -> BTreeMap<String, Value> {
        self.components
    }

    /// A reference to the schema of a message, made when it is first asked for.
    pub(super) fn reference(&mut self, message: &MessageDescriptor, style: Style, side: Side) -> Value {
        if let Some(shape) = well_known(message.full_name(), style) {
            return shape;
        }
        let name = component_name(message, style, side);
        if !self.components.contains_key(&name) {
            // Entered before it is made, so that messages may contain themselves.
            self.components.insert(name.clone(), Value::Null);
            let shape = self.object(message, style, side, |_| true);
            self.components.insert(name.clone(), shape);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// The schema of a message with some of its fields, inline.
    pub(super) fn object(
        &mut self,
        message: &MessageDescriptor,
        style: Style,
        side: Side,
        wanted: impl Fn(&FieldDescriptor) -> bool,
    ) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for field in message.fields().filter(wanted) {
            let name = if style.names == Names::Proto { field.name() } else { field.json_name() };
            properties.insert(name.to_owned(), self.field(&field, style, side));
            if Rule::of(&field).required || (side == Side::Told && is_always_told(&field, style)) {
                required.push(name.to_owned());
            }
        }
        let mut shape = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            shape["required"] = required.into();
        }
        if side != Side::Told
            && let Some(members) = shape.as_object_mut()
        {
            members.extend(rules::together(message));
        }
        let description = self.comments.of(&message.parent_file(), message.path());
        if !description.is_empty() {
            shape["description"] = description.into();
        }
        shape
    }

    /// The schema of a field, with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor, style: Style, side: Side) -> Value {
        let said = Rule::of(field);
        let is_read_only = said.is_read_only;
        let rule = if side == Side::Told { Rule::default() } else { said };
        let mut shape = if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field(),
                _ => field.clone(),
            };
            let value = self.value(&value.kind(), style, side, &rule);
            json!({"type": "object", "additionalProperties": if rule.null_removes { nullable(value) } else { value }})
        } else if field.cardinality() == Cardinality::Repeated {
            json!({"type": "array", "items": self.value(&field.kind(), style, side, &rule)})
        } else {
            self.value(&field.kind(), style, side, &rule)
        };
        rule.fill(&mut shape);
        let may_be_null = match side {
            Side::Asked => false,
            Side::Given => !rule.required,
            Side::Told => {
                let is_single = field.cardinality() != Cardinality::Repeated && field.supports_presence();
                is_single && style.defaults == Defaults::Emit && style.absent == Absent::Null
            }
        };
        let mut shape = if may_be_null { nullable(shape) } else { shape };
        if is_read_only {
            shape["readOnly"] = true.into();
        }
        described(shape, self.comments.of(&field.parent_message().parent_file(), field.path()))
    }

    /// One value of a field.
    fn value(&mut self, kind: &Kind, style: Style, side: Side, rule: &Rule) -> Value {
        let held = rule.holds.as_deref().zip(kind.as_message()).map(|(name, carrier)| (name, carrier.parent_pool()));
        let mut shape = match held {
            Some(("string", _)) => {
                let text = json!({"type": "string"});
                json!({"type": "object", "additionalProperties": if rule.null_removes { nullable(text) } else { text }})
            }
            Some((name, pool)) => match pool.get_message_by_name(name) {
                Some(message) => self.reference(&message, style, side),
                None => self.kind(kind, style, side),
            },
            None => self.kind(kind, style, side),
        };
        rule.narrow(&mut shape);
        shape
    }

    fn kind(&mut self, kind: &Kind, style: Style, side: Side) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => int32(),
            Kind::Uint32 | Kind::Fixed32 => uint32(),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => int64(style),
            Kind::Uint64 | Kind::Fixed64 => uint64(style),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Message(message) => self.reference(message, style, side),
            Kind::Enum(values) => {
                let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
                json!({"type": "string", "enum": names})
            }
        }
    }
}

/// Whether an answer has this field whatever it holds.
fn is_always_told(field: &FieldDescriptor, style: Style) -> bool {
    let is_one_of_several = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
    let takes_null = matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Value");
    let has_presence = field.cardinality() != Cardinality::Repeated && field.supports_presence();
    let is_shown = !has_presence || (style.absent == Absent::Null && !is_one_of_several && !takes_null);
    style.defaults == Defaults::Emit && is_shown
}

fn int32() -> Value {
    json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX})
}

fn uint32() -> Value {
    json!({"type": "integer", "format": "uint32", "minimum": 0, "maximum": u32::MAX})
}

fn int64(style: Style) -> Value {
    match style.int64 {
        Int64::Number => json!({"type": "integer", "format": "int64", "minimum": i64::MIN, "maximum": i64::MAX}),
        Int64::Text => json!({"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}),
    }
}

fn uint64(style: Style) -> Value {
    match style.int64 {
        Int64::Number => json!({"type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX}),
        Int64::Text => json!({"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}),
    }
}

/// The forms that ProtoJSON gives to well-known types.
fn well_known(name: &str, style: Style) -> Option<Value> {
    let shape = match name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        "FieldMask" | "StringValue" => json!({"type": "string"}),
        "Struct" => json!({"type": "object", "additionalProperties": true}),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array", "items": {}}),
        "Any" => json!({"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": true}),
        "Empty" => json!({"type": "object"}),
        "BytesValue" => json!({"type": "string", "contentEncoding": "base64"}),
        "BoolValue" => json!({"type": "boolean"}),
        "Int32Value" => int32(),
        "UInt32Value" => uint32(),
        "Int64Value" => int64(style),
        "UInt64Value" => uint64(style),
        "DoubleValue" | "FloatValue" => json!({"type": "number"}),
        _ => return None,
    };
    Some(shape)
}

/// One component per message, style and side; the answers of the pages carry the plain name where they have all members.
fn component_name(message: &MessageDescriptor, style: Style, side: Side) -> String {
    let style = match style {
        Style::CANONICAL => ".canonical",
        Style { defaults: Defaults::Omit, .. } => ".sparse",
        _ => "",
    };
    let side = if side == Side::Told { "" } else { ".given" };
    format!("{}{style}{side}", message.full_name())
}

fn nullable(mut shape: Value) -> Value {
    match shape.get("type").cloned() {
        Some(Value::String(kind)) => {
            shape["type"] = json!([kind, "null"]);
            if let Some(Value::Array(words)) = shape.get_mut("enum") {
                words.push(Value::Null);
            }
            shape
        }
        _ => json!({"anyOf": [shape, {"type": "null"}]}),
    }
}

fn described(mut shape: Value, comment: &str) -> Value {
    if !comment.is_empty()
        && let Some(members) = shape.as_object_mut()
    {
        members.insert("description".to_owned(), comment.into());
    }
    shape
}
