//! JSON schemas of messages, in the style of the page that prints them.

use std::collections::BTreeMap;

use portico_json::{Absent, Defaults, Int64, Names, Style};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::Comments;

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
    pub(super) fn reference(&mut self, message: &MessageDescriptor, style: Style) -> Value {
        if let Some(shape) = well_known(message.full_name(), style) {
            return shape;
        }
        let name = component_name(message, style);
        if !self.components.contains_key(&name) {
            // Entered before it is made, so that messages may contain themselves.
            self.components.insert(name.clone(), Value::Null);
            let shape = self.object(message, style, |_| true);
            self.components.insert(name.clone(), shape);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// The schema of a message with some of its fields, inline.
    pub(super) fn object(
        &mut self,
        message: &MessageDescriptor,
        style: Style,
        wanted: impl Fn(&FieldDescriptor) -> bool,
    ) -> Value {
        let mut properties = Map::new();
        for field in message.fields().filter(wanted) {
            let name = if style.names == Names::Proto { field.name() } else { field.json_name() };
            properties.insert(name.to_owned(), self.field(&field, style));
        }
        let mut shape = json!({"type": "object", "properties": properties});
        let description = self.comments.of(&message.parent_file(), message.path());
        if !description.is_empty() {
            shape["description"] = description.into();
        }
        shape
    }

    /// The schema of a field, with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor, style: Style) -> Value {
        let shape = if field.is_map() {
            let value = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field(),
                _ => field.clone(),
            };
            json!({"type": "object", "additionalProperties": self.kind(&value.kind(), style)})
        } else if field.cardinality() == Cardinality::Repeated {
            json!({"type": "array", "items": self.kind(&field.kind(), style)})
        } else {
            let shape = self.kind(&field.kind(), style);
            let may_be_null =
                style.defaults == Defaults::Emit && style.absent == Absent::Null && field.supports_presence();
            if may_be_null { nullable(shape) } else { shape }
        };
        described(shape, self.comments.of(&field.parent_message().parent_file(), field.path()))
    }

    fn kind(&mut self, kind: &Kind, style: Style) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "uint32", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => int64("int64", style),
            Kind::Uint64 | Kind::Fixed64 => int64("uint64", style),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Message(message) => self.reference(message, style),
            Kind::Enum(values) => {
                let names: Vec<String> = values.values().map(|value| value.name().to_owned()).collect();
                json!({"type": "string", "enum": names})
            }
        }
    }
}

fn int64(format: &str, style: Style) -> Value {
    match style.int64 {
        Int64::Number => json!({"type": "integer", "format": format}),
        Int64::Text => json!({"type": "string", "format": format}),
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
        "Int32Value" | "UInt32Value" => json!({"type": "integer"}),
        "Int64Value" => int64("int64", style),
        "UInt64Value" => int64("uint64", style),
        "DoubleValue" | "FloatValue" => json!({"type": "number"}),
        _ => return None,
    };
    Some(shape)
}

/// One component per message and style; the styles of the pages carry the plain name.
fn component_name(message: &MessageDescriptor, style: Style) -> String {
    if style == Style::CANONICAL {
        format!("{}.canonical", message.full_name())
    } else {
        message.full_name().to_owned()
    }
}

fn nullable(mut shape: Value) -> Value {
    match shape.get("type").cloned() {
        Some(Value::String(kind)) => {
            shape["type"] = json!([kind, "null"]);
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
