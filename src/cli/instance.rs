//! `portico instance`.

mod create;

use portico::wire::podium::v1::{
    DeleteInstanceRequest, FollowLogsRequest, GetInstanceRequest, Instance, ListInstancesRequest,
    ListInstancesResponse, ListLogsRequest, ListMessagesRequest, LogEntry, SendMessageRequest,
};

use super::{
    Client, Failure, Screen, Target, Variables,
    screen::{or_dash, time},
};

/// Most instances that one listing collects; a platform with more filters by status.
const INSTANCES_MAX: usize = 10_000;

/// What to do with instances.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Start an instance of a deployment.
    Create(create::Flags),
    /// List instances, newest first.
    List {
        /// In this state alone, for example `ready`.
        #[arg(long, default_value = "")]
        status: String,
        #[command(flatten)]
        target: Target,
    },
    /// Show one instance.
    Get {
        /// The instance's id.
        instance: String,
        #[command(flatten)]
        target: Target,
    },
    /// Print what an instance logged.
    Logs {
        /// The instance's id.
        instance: String,
        /// Go on until the instance ends or Ctrl-C is pressed.
        #[arg(long, short)]
        follow: bool,
        /// This level and everything above it.
        #[arg(long, default_value = "", value_parser = ["", "debug", "info", "warn", "error"], hide_possible_values = true)]
        level: String,
        /// At most this many entries; without --follow.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        #[command(flatten)]
        target: Target,
    },
    /// Send a message to an instance without waiting for its answer.
    Send {
        /// The instance's id.
        instance: String,
        /// The text.
        text: String,
        #[command(flatten)]
        target: Target,
    },
    /// Print the messages that went to and came from an instance.
    Messages {
        /// The instance's id.
        instance: String,
        #[command(flatten)]
        target: Target,
    },
    /// Stop an instance and remove it.
    Stop {
        /// The instance's id.
        instance: String,
        /// How many milliseconds it may take to end by itself.
        #[arg(long, value_parser = clap::value_parser!(u32).range(..=60_000))]
        grace_ms: Option<u32>,
        /// Kill it at once.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        target: Target,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command, variables: &Variables, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Command::Create(flags) => create::run(flags, variables, screen).await,
        Command::List { status, target } => list(&target.client(variables)?, status, target.json, screen).await,
        Command::Get { instance, target } => {
            let answer = target.client(variables)?.call(GetInstanceRequest { instance_id: instance }).await?;
            let found = answer.instance.ok_or_else(|| Failure::other("the gateway answered without an instance"))?;
            if target.json { screen.json(&found) } else { show(&found, screen) }
        }
        Command::Logs { instance, follow: true, level, target, .. } => {
            let request = FollowLogsRequest { instance_id: instance, level, after: 0 };
            follow(&target.client(variables)?, request, target.json, screen).await
        }
        Command::Logs { instance, level, limit, target, .. } => {
            let request = ListLogsRequest { instance_id: instance, limit, offset: 0, level };
            let answer = target.client(variables)?.call(request).await?;
            if target.json {
                return screen.json(&answer);
            }
            answer.logs.iter().try_for_each(|entry| screen.line(log_line(entry)))
        }
        Command::Send { instance, text, target } => {
            let request = SendMessageRequest { instance_id: instance, text, messages: Vec::new() };
            let answer = target.client(variables)?.call(request).await?;
            if target.json { screen.json(&answer) } else { screen.line(format_args!("sent {}", answer.message_id)) }
        }
        Command::Messages { instance, target } => {
            let request = ListMessagesRequest { instance_id: instance, limit: 1_000, offset: 0 };
            let answer = target.client(variables)?.call(request).await?;
            if target.json {
                return screen.json(&answer);
            }
            answer.messages.iter().try_for_each(|message| {
                let when = time(message.created_at.as_ref());
                screen.line(format_args!("{when}  {:<9}  {}", message.role, message.text))
            })
        }
        Command::Stop { instance, grace_ms, force, target } => {
            let request = DeleteInstanceRequest { instance_id: instance.clone(), grace_ms, force };
            let answer = target.client(variables)?.call(request).await?;
            if target.json { screen.json(&answer) } else { screen.line(format_args!("stopped {instance}")) }
        }
    }
}

async fn list(client: &Client, status: String, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    let mut request = ListInstancesRequest { status, limit: 200, cursor: String::new() };
    let mut instances: Vec<Instance> = Vec::new();
    loop {
        let page = client.call(request.clone()).await?;
        instances.extend(page.instances);
        request.cursor = page.next_cursor;
        if request.cursor.is_empty() || instances.len() >= INSTANCES_MAX {
            break;
        }
    }
    if json {
        return screen.json(&ListInstancesResponse { instances, next_cursor: request.cursor });
    }
    let row = |instance: &Instance| {
        vec![
            instance.instance_id.clone(),
            instance.deployment_id.clone(),
            instance.status.clone(),
            or_dash(&instance.tenant_id),
            time(instance.created_at.as_ref()),
        ]
    };
    let rows: Vec<Vec<String>> = instances.iter().map(row).collect();
    screen.table(&["ID", "DEPLOYMENT", "STATUS", "TENANT", "CREATED"], &rows)?;
    match request.cursor.is_empty() {
        true => Ok(()),
        false => screen.line(format_args!("… more than {INSTANCES_MAX}: name a status")),
    }
}

fn show(instance: &Instance, screen: &mut Screen) -> Result<(), Failure> {
    let stale = if instance.stale { " (its host does not answer)" } else { "" };
    let rows = [
        ("instance", instance.instance_id.clone()),
        ("deployment", instance.deployment_id.clone()),
        ("status", format!("{}{stale}", instance.status)),
        ("host", or_dash(instance.coordinator_id())),
        ("tenant", or_dash(&instance.tenant_id)),
        ("created", time(instance.created_at.as_ref())),
        ("last activity", time(instance.last_activity_at.as_ref())),
    ];
    for (name, value) in rows {
        screen.line(format_args!("{name:<15}{value}"))?;
    }
    match &instance.resource_usage {
        Some(usage) => screen.line(format_args!(
            "{:<15}{:.1} % of a core, {} bytes of memory, up for {} s",
            "uses", usage.cpu_percent, usage.memory_bytes, usage.uptime_seconds
        )),
        None => Ok(()),
    }
}

async fn follow(client: &Client, request: FollowLogsRequest, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    let mut answers = client.follow(request).await?;
    while let Some(answer) = answers.next().await? {
        match answer.entry {
            _ if json => screen.json(&answer)?,
            Some(entry) => screen.line(log_line(&entry))?,
            None => {}
        }
        // Whoever follows wants to see each line now.
        screen.flush()?;
    }
    Ok(())
}

fn log_line(entry: &LogEntry) -> String {
    let LogEntry { level, source, message, .. } = entry;
    format!("{}  {level:<5}  {source:<6}  {message}", time(entry.timestamp.as_ref()))
}
