//! `portico deploy`: a folder or a tar.gz becomes a deployment.
//!
//! *Knows:* what to upload and how to show that it goes on. *Does not know:* what the gateway checks.

mod bundle;
mod manifest;
mod progress;

use std::{
    io::ErrorKind,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use portico::wire::podium::v1::{UploadDeploymentRequest, UploadDeploymentResponse};
use tokio::sync::mpsc;

use self::{bundle::Source, progress::Progress};
use super::{Client, Failure, Screen, Target, Variables, client::ChunkError, screen::time};

/// Chunks that wait for the network. More would only fill memory.
const CHUNKS_WAITING_MAX: usize = 4;

/// What to upload.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// A folder, or a `.tar.gz` file.
    #[arg(value_name = "FOLDER|FILE.tar.gz")]
    path: PathBuf,
    /// The agent type [default: `name` in agent.json].
    #[arg(long, value_name = "TYPE")]
    agent_type: Option<String>,
    /// The semantic version [default: `version` in agent.json].
    // Not the flag that prints the command's own version, which stands before the command.
    #[arg(long)]
    version: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Uploads and prints what was stored.
pub(crate) async fn run(flags: Flags, variables: &Variables, screen: &mut Screen) -> Result<(), Failure> {
    let client = flags.target.client(variables)?;
    let source = Source::at(&flags.path)?;
    let (agent_type, version) = match (flags.agent_type, flags.version) {
        (Some(agent_type), Some(version)) => (agent_type, version),
        (agent_type, version) => {
            let manifest = manifest::of(&source)?;
            (agent_type.unwrap_or(manifest.name), version.unwrap_or(manifest.version))
        }
    };
    for (name, value) in [("agent type", &agent_type), ("version", &version)] {
        if value.is_empty() {
            return Err(Failure::usage(format!("no {name}: agent.json has none, so say it with a flag")));
        }
    }
    let answer = upload(&client, source, agent_type, version).await?;
    if flags.target.json { screen.json(&answer) } else { show(&answer, screen) }
}

async fn upload(
    client: &Client,
    source: Source,
    agent_type: String,
    version: String,
) -> Result<UploadDeploymentResponse, Failure> {
    let read = Arc::new(AtomicU64::new(0));
    let progress = Progress::begin(&source, Arc::clone(&read));
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    // Compressing and reading files block; the runtime has other things to do.
    let packing = tokio::task::spawn_blocking(move || source.write(&sender, &read));
    let head = UploadDeploymentRequest { agent_type, version, file: Bytes::new() };
    let messages = stream::iter([Ok(head)]).chain(chunks(receiver));
    let answer = progress.while_running(client.upload(messages)).await;
    let packed = packing.await.map_err(|error| Failure::other(format!("packing broke off: {error}")))?;
    match (answer, packed) {
        // When the gateway answers early, packing finds nobody to pack for; the answer says why.
        (Err(Failure::Other(..)), Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::system("the bundle cannot be read", &error))
        }
        (answer, _) => answer,
    }
}

fn chunks(
    mut receiver: mpsc::Receiver<Result<Bytes, ChunkError>>,
) -> impl Stream<Item = Result<UploadDeploymentRequest, ChunkError>> {
    let chunks = stream::poll_fn(move |cx| receiver.poll_recv(cx));
    chunks.map(|chunk| Ok(UploadDeploymentRequest { file: chunk?, ..Default::default() }))
}

fn show(answer: &UploadDeploymentResponse, screen: &mut Screen) -> Result<(), Failure> {
    let rows = [
        ("deployment", answer.deployment_id.clone()),
        ("checksum", answer.checksum.clone()),
        ("size", progress::bytes(u64::try_from(answer.size_bytes).unwrap_or_default())),
        ("stored", time(answer.created_at.as_ref())),
        ("status", answer.status.clone()),
    ];
    for (name, value) in rows {
        screen.line(format_args!("{name:<12}{value}"))?;
    }
    for warning in &answer.warnings {
        screen.line(format_args!("warning     {warning}"))?;
    }
    screen.line(format_args!("\nStart it: portico instance create {}", answer.agent_type))
}
