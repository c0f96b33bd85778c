//! JSON objects, as the page's messages carry them (`google.protobuf.Struct`) and as the domain knows them.
//!
//! A newcomer's usual mistake is to let every number become a fraction. A `Struct` has only doubles; what is whole comes
//! back as a whole number, so that `64000` does not turn into `64000.0`.
//!
//! *Knows:* both forms. *Does not know:* what an object means.

use portico_wire::well_known::{ListValue, Struct, Value as Wire, value::Kind};
use serde_json::{Map, Number, Value};

/// Whole numbers beyond this are not exact as doubles.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The object that a message carries; empty when unset.
pub fn object(carried: Option<Struct>) -> Map<String, Value> {
    let fields = carried.map(|carried| carried.fields).unwrap_or_default();
    fields.into_iter().map(|(name, value)| (name, value_of(value))).collect()
}

/// The object as a message carries it.
pub fn carried(object: &Map<String, Value>) -> Struct {
    Struct { fields: object.iter().map(|(name, value)| (name.clone(), wire(value))).collect() }
}

/// The value that a message carries.
pub fn value_of(value: Wire) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::NumberValue(number)) => number_of(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(value_of).collect()),
        Some(Kind::StructValue(inner)) => Value::Object(object(Some(inner))),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the guard holds it within what both types represent exactly")]
fn number_of(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Value::from(number as i64);
    }
    // JSON has neither infinities nor NaN.
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn wire(value: &Value) -> Wire {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(truth) => Kind::BoolValue(*truth),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(wire).collect() }),
        Value::Object(inner) => Kind::StructValue(carried(inner)),
    };
    Wire { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_survive_the_way_there_and_back() {
        let value = json!({"a": null, "b": true, "c": 64_000, "d": 0.7, "e": "text", "f": [1, {"g": -2}], "h": {}});
        let there = value.as_object().cloned().expect("is an object");
        assert_eq!(object(Some(carried(&there))), there);
    }
}
