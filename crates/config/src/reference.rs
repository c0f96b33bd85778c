//! The reference document, from the table.

use std::fmt::Write;

use super::{Change, SETTINGS, Setting, names::NAMES};

const OPENING: &str = "\
# Configuration

What the operator decides before start. Nothing is required: without any of it, the gateway runs on `127.0.0.1:8080`
and keeps everything in `.portico`.

Values come from one TOML file (`--config PATH` or `PORTICO_CONFIG`), then from environment variables, then from flags
(`--set key=value`); what comes later wins. An empty variable counts as not set. Lists are TOML arrays in the file and
comma-separated elsewhere; sizes are written `64KiB`, `256MiB`, `2GiB` or as a number of bytes. An unknown key and an
unknown `PORTICO_*` variable are errors. `portico check` shows every problem at once with its line, cause and fix, or
every value with where it came from; with `--connect` it asks PostgreSQL, S3 and Valkey how they are, too. Secrets are
never printed.

A running gateway or host reads all of it again on SIGHUP (`kill -HUP`, `systemctl reload`), and its certificate files
whenever they change. What is marked *on reload* then takes effect, and no connection is dropped; what else has changed
is named in the log and takes effect at the next start. Where something is wrong, everything stays as it was, and the log
lists all problems. The environment and the flags of a process do not change while it runs, so only the file does.

```toml
listen = \"0.0.0.0:8080\"
data = \"/var/lib/portico\"
environment = \"production\"

[rate]
requests_per_minute = 1200

[cors]
origins = [\"https://app.example.com\"]
```

`PORTICO_URL` and `PORTICO_KEY` belong to the client commands: the address of a running gateway and the key to call it
with.
";

const OTHER_NAMES: &str = "
## Names of other programs

These variables are read too, with less weight than the `PORTICO_*` ones. `GATEWAY_PORT` alone listens on all addresses, `GATEWAY_HOST` alone on
port 8090; `VALKEY_URL` may be a `redis:` URL; `DRAIN_TIMEOUT_MS` is in milliseconds.

| Variable | Setting |
|---|---|
";

/// The text of `docs/reference/config.md`. That file is `portico check --reference`, word for word.
pub fn reference() -> String {
    let mut document = OPENING.to_owned();
    let mut section = None;
    for setting in SETTINGS {
        let here = setting.key.split_once('.').map_or("", |(section, _)| section);
        if section != Some(here) {
            section = Some(here);
            let title = if here.is_empty() { "The gateway".to_owned() } else { format!("`[{here}]`") };
            append(&mut document, format_args!("\n## {title}\n"));
        }
        entry(&mut document, setting);
    }
    document.push_str(OTHER_NAMES);
    for name in NAMES {
        append(&mut document, format_args!("| `{}` | `{}` |\n", name.variable, name.key));
    }
    document
}

fn entry(document: &mut String, setting: &Setting) {
    let Setting { key, variable, takes, about, .. } = setting;
    append(document, format_args!("\n### `{key}`\n\n{about}\n\n- Variable: `{variable}`\n- Takes: {takes}\n"));
    match setting.default {
        "" => append(document, format_args!("- Default: not set\n")),
        default => append(document, format_args!("- Default: `{default}`\n")),
    }
    if setting.change == Change::OnReload {
        document.push_str("- Change: on reload\n");
    }
    if setting.secret {
        document.push_str("- Secret: never printed\n");
    }
}

/// Writing to a text cannot fail.
fn append(document: &mut String, text: std::fmt::Arguments<'_>) {
    let _written = document.write_fmt(text).is_ok();
}
