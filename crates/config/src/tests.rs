//! What the configuration promises to an operator.

use std::{fs, num::NonZeroU32, time::Duration};

use tempfile::NamedTempFile;

use super::*;

const ADMIN_KEY: &str = "pod_admin_0123456789abcdefghijklmnopqrstuvwxyz";
const NOTHING: [(&str, &str); 0] = [];

/// A file that goes away with the test.
fn holding(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    file
}

fn problems(sources: Sources) -> Vec<Problem> {
    sources.load().expect_err("the configuration was taken").0
}

#[test]
fn everything_has_a_default() {
    let config = Sources::new().load().unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert!(config.data.is_absolute() && config.data.ends_with(".portico"));
    assert_eq!(config.environment, Environment::Dev);
    assert_eq!(config.records, Records::Sqlite(config.data.join("records.sqlite")));
    assert_eq!(config.blobs, Blobs::File(config.data.join("blobs")));
    assert_eq!(config.limits, Limits::On);
    assert_eq!(config.rate.requests_per_minute, NonZeroU32::new(600));
    assert_eq!(config.rate.sockets_per_key, NonZeroU32::new(1000));
    assert_eq!(config.rate.anonymous_streams, NonZeroU32::new(64));
    assert_eq!(config.uploads.bundle_bytes_max, ByteSize(256 << 20));
    assert_eq!(config.uploads.total_max, Duration::from_secs(600));
    assert_eq!(config.drain, Duration::from_secs(25));
    assert_eq!(config.fleet.memory_bytes_max, ByteSize(2 << 30));
    assert_eq!(config.fleet.cpu_max, None);
    assert_eq!((config.tls, config.cors), (None, Origins::None));
}

#[test]
fn what_comes_later_wins() {
    let file = holding("listen = '127.0.0.1:1'\n[rate]\nburst = 1\ninstances_per_minute = 1\n");
    let sources = || Sources::new().file(file.path());
    let variables = [("PORTICO_RATE_BURST", "2"), ("PORTICO_LISTEN", "127.0.0.1:2"), ("PORTICO_DATA", "")];
    let loaded = sources().environment(variables).set("--listen", "listen", "127.0.0.1:3").load().unwrap();
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.rate.burst, NonZeroU32::new(2));
    assert_eq!(loaded.config.rate.instances_per_minute, NonZeroU32::new(1));
    assert_eq!(loaded.config.rate.uploads_per_minute, NonZeroU32::new(10));

    let origin = |key: &str| {
        let found = loaded.origins.iter().find(|(setting, _, _)| setting.key == key).unwrap();
        found.2.to_string()
    };
    assert_eq!(origin("listen"), "flag --listen");
    assert_eq!(origin("rate.burst"), "environment variable PORTICO_RATE_BURST");
    assert_eq!(origin("rate.instances_per_minute"), format!("{}:4", file.path().display()));
    assert_eq!(origin("data"), "default");
}

#[test]
fn names_of_other_programs_weigh_less_than_ours() {
    let config =
        |variables: &[(&str, &str)]| Sources::new().environment(variables.iter().copied()).load().unwrap().config;
    let original = [
        ("GATEWAY_PORT", "8090"),
        ("ENVIRONMENT", "staging"),
        ("ADMIN_API_KEY", ADMIN_KEY),
        ("SECRETS_KEY", &"0b".repeat(32)),
        ("S3_BUCKET", "bundles"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", "http://minio:9000/"),
        ("ENSEMBLE_URL", "http://ensemble:8080/"),
        ("DRAIN_TIMEOUT_MS", "25500"),
        ("LOG_LEVEL", "DEBUG"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://standard:4318/"),
        ("OTEL_SERVICE_NAME", "podium-gateway"),
    ];
    let read = config(&original);
    assert_eq!(read.listen.to_string(), "0.0.0.0:8090");
    assert_eq!(read.environment, Environment::Staging);
    assert_eq!(read.admin_key.unwrap().reveal(), ADMIN_KEY);
    assert_eq!(read.secrets_key.unwrap().reveal(), &[0x0b; 32]);
    assert!(matches!(read.blobs, Blobs::S3(bucket) if bucket.name == "bundles"));
    assert_eq!(
        (read.s3.region.as_str(), read.s3.endpoint.unwrap().to_string().as_str()),
        ("eu-west-1", "http://minio:9000/")
    );
    assert_eq!(read.drain, Duration::from_secs(26));
    assert_eq!(read.log.level, LogLevel::Debug);
    assert_eq!(read.otlp.endpoint.unwrap().to_string(), "http://standard:4318/");
    assert_eq!(read.otlp.service, "podium-gateway");

    let valkey = config(&[("VALKEY_URL", "rediss://host"), ("REQUIRE_VALKEY", "true")]);
    assert_eq!(valkey.bus, Bus::Valkey(portico_base::Secret::new("valkeys://host")));
    assert_eq!(valkey.valkey_at_start, AtStart::Required);
    assert_eq!(valkey.fleet.host, Host::Coordinators(Vec::new()));
    let listed = config(&[("VALKEY_URL", "redis://host"), ("COORDINATOR_URLS", "http://a:9090")]);
    assert!(matches!(listed.fleet.host, Host::Coordinators(hosts) if hosts.len() == 1));
    let embedded = config(&[("VALKEY_URL", "redis://host"), ("PORTICO_FLEET", "local:")]);
    assert_eq!(embedded.fleet.host, Host::Local);
    let loaded = Sources::new()
        .set("--set", "bus", "valkey+sentinel://:hunter2@a/main?sentinel_password=hunter2")
        .load()
        .unwrap();
    assert!(loaded.origins.iter().all(|(_, shown, _)| !shown.contains("hunter2")));
    let alone = problems(Sources::new().environment([("REQUIRE_VALKEY", "1")]));
    assert_eq!(alone.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["require_valkey"]);

    let ours =
        [("PORTICO_LISTEN", "127.0.0.1:1"), ("PORTICO_BLOBS", "file:"), ("PORTICO_OTLP_ENDPOINT", "http://ours:4318/")];
    let read = config(&[&original[..], &ours[..]].concat());
    assert_eq!(read.listen.port(), 1);
    assert!(matches!(read.blobs, Blobs::File(_)));
    assert_eq!(read.otlp.endpoint.unwrap().to_string(), "http://ours:4318/");
    assert_eq!(config(&[("GATEWAY_HOST", "127.0.0.2"), ("GATEWAY_PORT", "1")]).listen.to_string(), "127.0.0.2:1");
}

#[test]
fn all_problems_are_reported_at_once_with_line_cause_and_fix() {
    let file = holding(
        "listen = 'nowhere'\nlisten_adress = 'x'\n\n[rate]\nburst = -1\n\n[uploads]\nbundle_bytes_max = '1MB'\n\
         [nothing]\nhere = 1979-05-27\n",
    );
    let variables = [
        ("PORTICO_RECORDS", "oracle:"),
        ("PORTICO_LIMIT", "off"),
        ("PORTICO_ADMIN_KEY", "hunter2"),
        ("PORTICO_TLS_CLIENT_CA", "/nowhere/ca.pem"),
        ("PORTICO_FLEET_CERTIFICATE", "Cargo.toml"),
        ("PORTICO_URL", "not ours"),
        ("PORTICO_CONFORMANCE_RUNNER", "not ours"),
    ];
    let found = problems(Sources::new().file(file.path()).environment(variables).set("--set", "drain.seconds", "1h"));
    let shown: Vec<String> = found
        .iter()
        .map(|Problem { place, key, cause, .. }| {
            format!("{} {key} {cause}", place.to_string().replace(&file.path().display().to_string(), "file"))
        })
        .collect();
    let expected = [
        "file:1 listen \"nowhere\" is not a host and a port",
        "file:2 listen_adress there is no such setting",
        "file:5 rate.burst \"-1\" is not a whole number from 0 to 4294967295",
        "file:8 uploads.bundle_bytes_max \"1MB\" has an unknown unit",
        "file:10 nothing.here there is no such setting",
        "environment variable PORTICO_ADMIN_KEY admin_key the value does not begin with pod_admin_",
        "environment variable PORTICO_LIMIT  no setting has this variable",
        "environment variable PORTICO_RECORDS records \"oracle:\" has the unknown scheme \"oracle\"; known: sqlite:, postgres:",
        "environment variable PORTICO_TLS_CLIENT_CA tls.client_ca \"/nowhere/ca.pem\" cannot be read: No such file or \
         directory (os error 2)",
        "flag --set drain.seconds \"1h\" is not a whole number of seconds",
        "configuration tls.certificate TLS is configured by half: this is not set",
        "configuration tls.key TLS is configured by half: this is not set",
        "configuration fleet.key what hosts are shown is configured by half: this is not set",
    ];
    assert_eq!(shown, expected);
    assert_eq!(found[6].fix, "remove it, or write PORTICO_LIMITS if that is what you mean");
    assert_eq!(found[2].fix, "write a whole number from 0 to 4294967295; 0 is no limit; the default is 100");
}

#[test]
fn a_file_that_is_no_toml_is_reported_with_its_line_and_a_missing_one_by_name() {
    let file = holding("data = '/srv'\nlisten = = 3\n");
    let found = problems(Sources::new().environment([(FILE_VARIABLE, file.path())]).set("--data", "data", ""));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].place, Place::File(file.path().to_owned(), 2));
    assert_eq!(found[1].cause, "\"\" is empty");
    let missing = problems(Sources::new().file("/nowhere/portico.toml"));
    assert_eq!(missing[0].place.to_string(), "/nowhere/portico.toml");
}

#[test]
fn secrets_are_shown_nowhere() {
    let key = "A".repeat(43) + "=";
    let records = [("PORTICO_RECORDS", "postgres://ann:hunter2@db/portico")];
    let shown = format!("{:?}", Sources::new().environment(records).load().unwrap());
    assert!(shown.contains("ann:***@db") && !shown.contains("hunter2"), "{shown}");
    let variables = [
        ("PORTICO_ADMIN_KEY", ADMIN_KEY),
        ("PORTICO_SECRETS_KEY", key.as_str()),
        ("PORTICO_SECRETS_KEY_PREVIOUS", &"0b".repeat(32)),
        ("PORTICO_ENSEMBLE_KEY", "ens_12345678"),
    ];
    let loaded = Sources::new().environment(variables).load().unwrap();
    assert_eq!(loaded.config.admin_key.as_ref().unwrap().reveal(), ADMIN_KEY);
    assert_eq!(loaded.config.secrets_key.as_ref().unwrap().reveal(), &[0; 32]);
    assert_eq!(loaded.config.secrets_key_previous[0].reveal(), &[0x0b; 32]);
    let shown = format!("{loaded:?}");
    for (_, value) in variables {
        assert!(!shown.contains(value), "a secret is shown");
    }

    let wrong = ["pod_admin_short_hunter2", "hunter2"];
    let variables = SETTINGS.iter().filter(|setting| setting.secret).map(|setting| setting.variable);
    for value in wrong {
        let sources = Sources::new().environment(variables.clone().map(|name| (name, format!("{value}\n"))));
        let shown = Problems(problems(sources)).to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn values_mean_what_they_say() {
    let config = |key: &str, value: &str| Sources::new().set("--set", key, value).load().map(|loaded| loaded.config);
    assert_eq!(config("limits", "off").unwrap().limits, Limits::Off);
    assert_eq!(config("rate.burst", "0").unwrap().rate.burst, None);
    assert_eq!(config("records", "sqlite:/srv/p.db").unwrap().records, Records::Sqlite("/srv/p.db".into()));
    assert_eq!(config("blobs", "file:///srv/blobs").unwrap().blobs, Blobs::File("/srv/blobs".into()));
    assert_eq!(config("fleet", "local:").unwrap().fleet.host, Host::Local);
    assert_eq!(config("cors.origins", "*").unwrap().cors, Origins::Any);
    let listed = Origins::Listed(vec!["https://a.example".parse().unwrap(), "http://localhost:5173".parse().unwrap()]);
    assert_eq!(config("cors.origins", "https://a.example, http://localhost:5173").unwrap().cors, listed);
    for (key, value) in [
        ("cors.origins", "https://a.example/"),
        ("cors.origins", "a.example"),
        ("cors.origins", "https://*.a.example"),
        ("admin_key", "pod_admin_short"),
        ("secrets_key", "c2hvcnQ="),
        ("ensemble_url", "ensemble:8080/x"),
        ("ensemble_url", "http://user:password@ensemble"),
        ("listen", "127.0.0.1"),
        ("registry", "local:somewhere"),
        ("fleet.instances_max", "0"),
        ("uploads.bundle_bytes_max", "1B"),
        ("uploads.total_seconds_max", "601"),
        ("uploads.total_seconds_max", "0"),
        ("log.level", "loud"),
    ] {
        assert!(config(key, value).is_err(), "{key} = {value} was taken");
    }
}

#[test]
fn lists_and_flags_may_be_toml_values() {
    let file = holding(
        "fleet.url = 'local:'\nlimits = false\nrate = { burst = 1_000 }\n[cors]\norigins = ['https://a.example', 'https://b.example']\n",
    );
    let config = Sources::new().file(file.path()).environment(NOTHING).load().unwrap().config;
    assert_eq!(config.limits, Limits::Off);
    assert_eq!(config.rate.burst, NonZeroU32::new(1000));
    assert!(matches!(config.cors, Origins::Listed(origins) if origins.len() == 2));
}

#[test]
fn names_follow_one_rule_and_defaults_parse() {
    for setting in SETTINGS {
        let name = format!("PORTICO_{}", setting.key.replace('.', "_").to_uppercase());
        let rule = name.strip_suffix("_URL").filter(|_| setting.key == "fleet.url").unwrap_or(&name);
        assert_eq!(setting.variable, rule);
        assert!(setting.about.ends_with('.') && !setting.takes.ends_with('.'), "{}", setting.key);
        if !setting.default.is_empty() {
            let sources = Sources::new().set("--set", setting.key, setting.default);
            assert!(sources.load().is_ok(), "the default of {} does not parse", setting.key);
        }
    }
}

#[test]
fn the_reference_document_is_current() {
    let written = include_str!("../../../docs/reference/config.md");
    assert!(written == reference(), "docs/reference/config.md is stale: run `portico check --reference` into it");
}
