//! `portico keys`.

use portico::{
    base::clock::{Clock, SystemClock},
    wire::{
        podium::v1::{
            CreateKeyRequest, Key, ListKeysRequest, ListKeysResponse, ListPeppersRequest, RevokeKeyRequest,
            RotatePepperRequest,
        },
        well_known::Timestamp,
    },
};

use super::{
    Client, Failure, Screen, Target, Variables,
    screen::{or_dash, time},
    span,
};

/// Most keys that one listing collects; a platform with more filters by tenant.
const KEYS_MAX: usize = 10_000;

/// What to do with keys.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Create a key. It is shown this once.
    Create {
        /// The tenant that the key acts for.
        #[arg(long)]
        tenant: String,
        /// A label.
        #[arg(long, default_value = "")]
        name: String,
        /// What the key may do, for example `instances:write`. May be repeated; the default set when absent.
        #[arg(long = "permission", value_name = "NOUN:VERB")]
        permissions: Vec<String>,
        /// `tenant` or `admin`.
        #[arg(long, default_value = "tenant", value_parser = ["tenant", "admin"])]
        role: String,
        /// When the key ends by itself, for example `30d`.
        #[arg(long, value_name = "SPAN", value_parser = span::parse)]
        expires_in: Option<std::time::Duration>,
        /// Requests per minute; the platform's default when absent.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        rate_limit: u32,
        #[command(flatten)]
        target: Target,
    },
    /// List keys without their secrets.
    List {
        /// Keys of this tenant alone.
        #[arg(long, default_value = "")]
        tenant: String,
        /// Revoked keys too.
        #[arg(long)]
        revoked: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke a key, by its id or its prefix.
    Revoke {
        /// The id or the prefix of the key.
        key: String,
        #[command(flatten)]
        target: Target,
    },
    /// List the peppers that keys are digested under, and how many keys still stand on each.
    Peppers {
        #[command(flatten)]
        target: Target,
    },
    /// Make a new pepper. Keys stay as they are and move to it as they are used.
    RotatePepper {
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command, variables: &Variables, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Command::Create { tenant, name, permissions, role, expires_in, rate_limit, target } => {
            let ends = expires_in.map(|span| SystemClock.now().plus(span).0.div_euclid(1_000));
            let request = CreateKeyRequest {
                tenant_id: tenant,
                name,
                permissions,
                expires_at: ends.map(|seconds| Timestamp { seconds, nanos: 0 }),
                role,
                rate_limit_rpm: rate_limit,
            };
            create(&target.client(variables)?, request, target.json, screen).await
        }
        Command::List { tenant, revoked, target } => {
            list(&target.client(variables)?, tenant, revoked, target.json, screen).await
        }
        Command::Revoke { key, target } => {
            let answer = target.client(variables)?.call(RevokeKeyRequest { key_id: key.clone() }).await?;
            if target.json { screen.json(&answer) } else { screen.line(format_args!("revoked {key}")) }
        }
        Command::Peppers { target } => {
            let answer = target.client(variables)?.call(ListPeppersRequest {}).await?;
            if target.json {
                return screen.json(&answer);
            }
            let rows = answer.peppers.iter().map(|pepper| {
                let current = if pepper.current { "yes" } else { "no" };
                vec![
                    pepper.pepper_id.clone(),
                    time(pepper.created_at.as_ref()),
                    current.into(),
                    pepper.keys.to_string(),
                ]
            });
            screen.table(&["PEPPER", "CREATED", "CURRENT", "KEYS"], &rows.collect::<Vec<_>>())
        }
        Command::RotatePepper { target } => {
            let answer = target.client(variables)?.call(RotatePepperRequest {}).await?;
            if target.json {
                return screen.json(&answer);
            }
            let made = answer.pepper.unwrap_or_default().pepper_id;
            screen.line(format_args!("new keys are digested under {made}; others move to it as they are used"))
        }
    }
}

async fn create(client: &Client, request: CreateKeyRequest, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    let made = client.call(request).await?;
    if json {
        return screen.json(&made);
    }
    let rows = [
        ("key", made.key),
        ("id", made.key_id),
        ("tenant", made.tenant_id),
        ("role", made.role),
        ("permissions", or_dash(&made.permissions.join(" "))),
        ("expires", time(made.expires_at.as_ref())),
    ];
    for (name, value) in rows {
        screen.line(format_args!("{name:<13}{value}"))?;
    }
    screen.line("\nThe key is shown this once. Keep it where secrets are kept.")
}

async fn list(client: &Client, tenant: String, revoked: bool, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    let mut request =
        ListKeysRequest { tenant_id: tenant, include_revoked: revoked, limit: 500, cursor: String::new() };
    let mut keys: Vec<Key> = Vec::new();
    loop {
        let page = client.call(request.clone()).await?;
        keys.extend(page.keys);
        if page.next_cursor.is_empty() || keys.len() >= KEYS_MAX {
            request.cursor = page.next_cursor;
            break;
        }
        request.cursor = page.next_cursor;
    }
    if json {
        return screen.json(&ListKeysResponse { keys, next_cursor: request.cursor });
    }
    let row = |key: &Key| {
        vec![
            key.key_id.clone(),
            key.prefix.clone(),
            or_dash(&key.tenant_id),
            key.role.clone(),
            or_dash(&key.name),
            time(key.created_at.as_ref()),
            time(key.last_used_at.as_ref()),
            time(key.expires_at.as_ref()),
            time(key.revoked_at.as_ref()),
        ]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    screen.table(&["ID", "PREFIX", "TENANT", "ROLE", "NAME", "CREATED", "LAST USED", "EXPIRES", "REVOKED"], &rows)?;
    if request.cursor.is_empty() {
        Ok(())
    } else {
        screen.line(format_args!("… more than {KEYS_MAX}: name a tenant"))
    }
}
