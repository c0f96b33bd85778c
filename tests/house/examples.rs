//! Every method has an example, and it is one: request and answer are messages of the method.

use std::collections::BTreeSet;

use portico::schema::Method;
use portico_json::{MessageType, Parse, Unknown};
use serde_json::Value;

use crate::support::{example, source};

#[test]
fn every_method_has_an_example_that_fits() {
    for method in example::podium().chain(example::coordinator()) {
        let example = example::of(method);
        fits(method, &method.input, &example.request);
        fits(method, &method.output, &example.response);
    }
}

#[test]
fn every_example_is_of_a_method() {
    let methods: BTreeSet<String> = example::podium().chain(example::coordinator()).map(example::path).collect();
    let files: BTreeSet<String> = source::files("docs/examples").into_iter().collect();
    assert_eq!(files, methods);
}

fn fits(method: &Method, message: &MessageType, json: &Value) {
    let parse = Parse { unknown_fields: Unknown::Refuse };
    let read = message.decode(json.to_string().as_bytes(), parse);
    assert!(read.is_ok(), "{}: {}", example::path(method), read.unwrap_err());
}
