//! `portico instance create`.

use portico::wire::{podium::v1::CreateInstanceRequest, well_known::Struct};
use prost::Message;
use tokio::time::Instant;

use super::super::{Failure, Screen, Target, Variables, screen, variable, watched};

/// What to start.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// A deployment id (`echo:1.0.0@2b795103`), or an agent type for its newest version.
    #[arg(value_name = "DEPLOYMENT|TYPE")]
    what: String,
    /// The id to use; generated when absent.
    #[arg(long)]
    id: Option<String>,
    /// Configuration of the agent, as a JSON object.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// An environment variable of the agent. May be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// A secret of the agent. Without a value, it is taken from the environment variable of that name. May be repeated.
    #[arg(long = "secret", value_name = "NAME[=VALUE]")]
    secrets: Vec<String>,
    /// Makes repeating this command safe: the same key starts one instance.
    #[arg(long)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Starts it and prints where it is.
pub(crate) async fn run(flags: Flags, variables: &Variables, screen: &mut Screen) -> Result<(), Failure> {
    let client = flags.target.client(variables)?;
    let what = flags.what.clone();
    let (deployment_id, agent_type) = match flags.what.contains('@') {
        true => (flags.what, String::new()),
        false => (String::new(), flags.what),
    };
    let request = CreateInstanceRequest {
        deployment_id,
        agent_type,
        agent_id: flags.id.unwrap_or_default(),
        config: flags.config.as_deref().map(object).transpose()?,
        environment: flags.environment.iter().map(|pair| environment(pair)).collect::<Result<_, _>>()?,
        secrets: flags.secrets.iter().map(|pair| secret(pair, variables)).collect::<Result<_, _>>()?,
    };
    let headers: Vec<(&'static str, String)> =
        flags.idempotency_key.into_iter().map(|key| ("idempotency-key", key)).collect();
    let began = Instant::now();
    let line = || format!("starting {what}, {} s", began.elapsed().as_secs());
    let made = watched::work(watched::is(), line, client.call_with(request, &headers)).await?;
    if flags.target.json {
        return screen.json(&made);
    }
    let rows = [
        ("instance", made.instance_id.clone()),
        ("deployment", made.deployment_id),
        ("status", made.status),
        ("host", screen::or_dash(made.coordinator_id.as_deref().unwrap_or_default())),
        ("talk", made.ws_url),
    ];
    for (name, value) in rows {
        screen.line(format_args!("{name:<12}{value}"))?;
    }
    screen.line(format_args!("\nFollow it: portico instance logs --follow {}", made.instance_id))
}

/// A JSON object as the message that carries it.
fn object(json: &str) -> Result<Struct, Failure> {
    let refused = |problem: String| Failure::usage(format!("--config: {problem}"));
    let schema = screen::schema()?;
    let kind = schema
        .types()
        .message("google.protobuf.Struct")
        .ok_or_else(|| refused("objects are not in the schema".into()))?;
    let bytes =
        kind.decode(json.as_bytes(), portico_json::Parse::default()).map_err(|error| refused(format!("{error}")))?;
    Struct::decode(bytes.as_slice()).map_err(|error| refused(error.to_string()))
}

fn environment(pair: &str) -> Result<(String, String), Failure> {
    match pair.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::usage(format!("--env {pair}: write a name, =, and a value"))),
    }
}

fn secret(pair: &str, variables: &Variables) -> Result<(String, String), Failure> {
    if let Some((name, value)) = pair.split_once('=') {
        return Ok((name.to_owned(), value.to_owned()));
    }
    match variable(variables, pair)? {
        Some(value) => Ok((pair.to_owned(), value)),
        None => Err(Failure::usage(format!("--secret {pair}: there is no environment variable of this name"))),
    }
}
