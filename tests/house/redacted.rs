//! Secrets in messages do not print, and what compares secrets takes the same time however much of them is right.

use std::collections::BTreeMap;

use portico::{
    schema::Schema,
    wire::{
        SCHEMA,
        podium::v1::{CreateInstanceRequest, CreateKeyResponse, GetSecretsResponse},
    },
};
use prost_reflect::Value;

use crate::support::source;

/// What a field is called when it holds a secret. `environment` does too: that is where programs expect theirs.
const TELLING: [&str; 9] =
    ["secret", "secrets", "key", "password", "token", "credential", "credentials", "api_key", "private_key"];
/// Fields that are called so, or hold secrets under another name, with the reason that names alone do not tell.
const HOLDING: [&str; 6] = [
    // Agents read their secrets from both.
    "coordinator.v1.CreateInstanceRequest.config",
    "coordinator.v1.CreateInstanceRequest.environment",
    "podium.v1.CreateInstanceRequest.config",
    "podium.v1.CreateInstanceRequest.environment",
    // Callers send whole keys where an id would do.
    "podium.v1.RevokeKeyRequest.key_id",
    "podium.v1.SetSecretsRequest.secrets",
];

#[test]
fn every_field_that_holds_a_secret_is_marked() {
    let schema = Schema::read(SCHEMA).unwrap();
    let vendored = |name: &str| name.starts_with("google.") || name.starts_with("grpc.");
    for message in schema.pool().all_messages().filter(|message| !vendored(message.full_name())) {
        for field in message.fields().filter(|_| !message.is_map_entry()) {
            let marked = field.options().get_field_by_name("debug_redact").is_some_and(|it| *it == Value::Bool(true));
            let holds = TELLING.contains(&field.name()) || HOLDING.contains(&field.full_name());
            assert!(marked || !holds, "{}: mark it with [debug_redact = true]", field.full_name());
        }
    }
}

#[test]
fn a_marked_field_prints_as_stars_and_the_others_as_they_are() {
    let shown = [
        format!("{:?}", CreateKeyResponse { key: "sesame".into(), name: "door".into(), ..Default::default() }),
        format!(
            "{:#?}",
            CreateInstanceRequest {
                secrets: BTreeMap::from([("TOKEN".to_owned(), "sesame".to_owned())]),
                agent_id: "door".into(),
                ..Default::default()
            }
        ),
        format!(
            "{:?}",
            Some(GetSecretsResponse {
                secrets: BTreeMap::from([("TOKEN".to_owned(), "sesame".to_owned())]),
                agent_type: "door".into(),
                ..Default::default()
            })
        ),
    ];
    for shown in shown {
        assert!(!shown.contains("sesame") && !shown.contains("TOKEN"), "{shown}");
        assert!(shown.contains("***") && shown.contains("door"), "{shown}");
    }
}

/// Where secrets that a stranger may send are compared, and what does it.
const COMPARED: [(&str, &str); 3] = [
    ("crates/domain/src/keys/digest.rs", "constant_time::verify_slices_are_equal(&self.0, &other.0)"),
    ("crates/gate/src/trusted.rs", "verify_slices_are_equal(given.as_ref(), known.as_ref())"),
    ("crates/base/src/secret.rs", "black_box(difference) == 0"),
];

#[test]
fn constant_time_compares_are_the_only_ones_of_secrets() {
    for (file, how) in COMPARED {
        assert!(source::read(file).contains(how), "{file} does not compare by {how}");
    }
    for file in source::all().iter().filter(|file| file.path.starts_with("src/") || file.path.starts_with("crates/")) {
        for line in file.code().lines().filter(|line| line.contains("reveal()")) {
            let compares = line.contains("==") || line.contains("!=");
            assert!(!compares, "{}: compare secrets themselves, not their text: {line}", file.path);
        }
    }
}
