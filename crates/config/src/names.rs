//! Variables of other programs that say what a setting of ours says: those of the Podium gateway, of AWS, of
//! OpenTelemetry.
//!
//! A newcomer's usual mistake is to read one where its value is needed. They are read here, with less weight than our own
//! names, and then are settings like any other.
//!
//! *Knows:* names and how a value is said in our words. *Does not know:* what a setting means.

/// A name of another program.
pub(super) struct Name {
    /// The variable.
    pub(super) variable: &'static str,
    /// The setting that it is about.
    pub(super) key: &'static str,
    /// Its value in our words.
    value: fn(&str) -> String,
}

/// Every such name. A variable may be about several settings.
#[rustfmt::skip]
pub(super) static NAMES: &[Name] = &[
    name("GATEWAY_PORT", "listen", |port| format!("0.0.0.0:{port}")),
    name("GATEWAY_HOST", "listen", |host| format!("{host}:8090")),
    name("ENVIRONMENT", "environment", same),
    name("ADMIN_API_KEY", "admin_key", same),
    name("SECRETS_KEY", "secrets_key", same),
    name("SECRETS_KEY_PREVIOUS", "secrets_key_previous", same),
    name("S3_BUCKET", "blobs", |bucket| format!("s3://{bucket}")),
    name("AWS_REGION", "s3.region", same),
    name("AWS_ENDPOINT_URL", "s3.endpoint", same),
    name("VALKEY_URL", "registry", valkey),
    name("VALKEY_URL", "bus", valkey),
    // Without one, that gateway stands alone.
    name("VALKEY_URL", "fleet.url", |_| "coordinator:".to_owned()),
    name("REQUIRE_VALKEY", "require_valkey", switch),
    name("COORDINATOR_URLS", "fleet.url", |urls| format!("coordinator:{urls}")),
    name("COORDINATOR_TOKEN", "fleet.token", same),
    name("COORDINATOR_ID", "fleet.id", same),
    name("CHRONICLE_PUBLIC_BASE", "chronicle_public_base", same),
    name("ENSEMBLE_URL", "ensemble_url", same),
    name("ENSEMBLE_API_KEY", "ensemble_key", same),
    name("MAX_BUNDLE_BYTES", "uploads.bundle_bytes_max", same),
    name("DRAIN_TIMEOUT_MS", "drain.seconds", seconds),
    name("LOG_LEVEL", "log.level", str::to_lowercase),
    name("LOG_FORMAT", "log.format", str::to_lowercase),
    name("OTEL_EXPORTER_OTLP_ENDPOINT", "otlp.endpoint", same),
    name("OTEL_SERVICE_NAME", "otlp.service", same),
];

/// Whether a variable is one of these.
pub(super) fn is_known(variable: &str) -> bool {
    NAMES.iter().any(|name| name.variable == variable)
}

/// What these variables say: variable, key and value.
pub(super) fn read(variables: &[(String, String)]) -> Vec<(&'static str, &'static str, String)> {
    let of = |variable: &str| variables.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str());
    let said = |name: &Name| Some((name.variable, name.key, (name.value)(of(name.variable)?)));
    let mut said: Vec<_> = NAMES.iter().filter_map(said).collect();
    // The two halves of one address.
    if let (Some(host), Some(port)) = (of("GATEWAY_HOST"), of("GATEWAY_PORT")) {
        said.retain(|(_, key, _)| *key != "listen");
        said.push(("GATEWAY_PORT", "listen", format!("{host}:{port}")));
    }
    said
}

const fn name(variable: &'static str, key: &'static str, value: fn(&str) -> String) -> Name {
    Name { variable, key, value }
}

fn same(value: &str) -> String {
    value.to_owned()
}

/// The URL as redis programs have it.
fn valkey(url: &str) -> String {
    match url.split_once("://") {
        Some(("redis", rest)) => format!("valkey://{rest}"),
        Some(("rediss", rest)) => format!("valkeys://{rest}"),
        _ => url.to_owned(),
    }
}

/// A truth, as programs in containers are told one.
fn switch(value: &str) -> String {
    match value {
        "true" | "1" => "on".to_owned(),
        "false" | "0" => "off".to_owned(),
        _ => value.to_owned(),
    }
}

/// Whole seconds out of milliseconds, rounded up.
fn seconds(milliseconds: &str) -> String {
    milliseconds.parse::<u64>().map_or_else(|_| milliseconds.to_owned(), |ms| ms.div_ceil(1_000).to_string())
}
