//! JSON Merge Patch (RFC 7396).
//!
//! A newcomer's usual mistake is to merge arrays. They are replaced whole; only objects merge, and null takes away.
//!
//! *Knows:* JSON values. *Does not know:* settings.

use serde_json::{Map, Value};

/// Applies a patch: objects merge, null takes away, all else replaces.
pub fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, change) in patch {
        match change {
            Value::Null => {
                // Order is for readers: what stays keeps its place.
                target.shift_remove(name);
            }
            Value::Object(change) => {
                let member = target.entry(name.as_str()).or_insert_with(|| Value::Object(Map::new()));
                if !member.is_object() {
                    *member = Value::Object(Map::new());
                }
                if let Value::Object(member) = member {
                    merge(member, change);
                }
            }
            other => {
                target.insert(name.clone(), other.clone());
            }
        }
    }
}

/// The dotted paths, two levels deep, at which two objects differ.
pub(super) fn changed(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let none = Map::new();
    let mut paths = Vec::new();
    for (name, path) in names(before, after).map(|name| (name, name.to_owned())) {
        match (before.get(name), after.get(name)) {
            (before, after) if before == after => {}
            (Some(Value::Object(_)) | None, Some(Value::Object(_)) | None) => {
                let object = |side: &'_ Map<String, Value>| side.get(name).and_then(Value::as_object).cloned();
                let (before, after) = (object(before).unwrap_or(none.clone()), object(after).unwrap_or(none.clone()));
                let differ = names(&before, &after).filter(|name| before.get(*name) != after.get(*name));
                paths.extend(differ.map(|name| format!("{path}.{name}")));
            }
            _ => paths.push(path),
        }
    }
    paths
}

fn names<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let new = after.keys().filter(|name| !before.contains_key(*name));
    before.keys().chain(new).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn follows_the_examples_of_the_rfc() {
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = object(target);
            merge(&mut target, &object(patch));
            assert_eq!(Value::Object(target), merged);
        }
    }

    #[test]
    fn names_what_changed() {
        let before = object(json!({"defaults": {"model": "a", "temperature": 1}, "features": {"x": true}}));
        let after =
            object(json!({"defaults": {"model": "b", "temperature": 1}, "limits": {"idle_timeout_seconds": 5}}));
        assert_eq!(changed(&before, &after), ["defaults.model", "features.x", "limits.idle_timeout_seconds"]);
    }
}
