//! Instances and what belongs to them, as messages.

use http::Uri;
use portico_domain::instances::{self, FileEntry, Role, Shown, Usage};
use portico_wire::podium::v1::{File, Instance, LogEntry, Message, ResourceUsage};

use super::super::timestamp;
use portico_phrases::objects;

pub(super) fn instance(shown: Shown, chronicle_base: Option<&str>) -> Instance {
    let instance = shown.instance;
    Instance {
        instance_id: instance.id.clone(),
        agent_id: instance.id,
        deployment_id: instance.deployment_id,
        agent_type: instance.agent_type,
        version: instance.version,
        status: instance.status,
        config: Some(objects::carried(&instance.config)),
        chronicle_ws_endpoint: chronicle(chronicle_base, instance.chronicle.as_deref()),
        resource_usage: shown.usage.map(usage),
        coordinator_id: instance.coordinator_id,
        tenant_id: instance.tenant_id,
        created_at: Some(timestamp(instance.created_at)),
        updated_at: Some(timestamp(instance.updated_at)),
        last_activity_at: shown.last_activity_at.map(timestamp),
        stale: shown.stale,
    }
}

/// Where clients reach the Chronicle that a host told of: below the public base, which takes the place of the host's own
/// scheme, name and port. Those are internal, so without a base nothing is shown.
pub(super) fn chronicle(base: Option<&str>, told: Option<&str>) -> Option<String> {
    let told: Uri = told?.parse().ok()?;
    let path = told.path_and_query().map_or("", |path| path.as_str());
    Some(format!("{}{path}", base?.trim_end_matches('/')))
}

fn usage(usage: Usage) -> ResourceUsage {
    ResourceUsage {
        cpu_percent: usage.cpu_percent,
        memory_bytes: whole(usage.memory_bytes),
        uptime_seconds: whole(usage.uptime.as_secs()),
    }
}

pub(super) fn log_entry(entry: instances::LogEntry) -> LogEntry {
    LogEntry {
        sequence: whole(entry.sequence),
        timestamp: Some(timestamp(entry.at)),
        level: entry.level.as_str().to_owned(),
        message: entry.message,
        source: entry.source.as_str().to_owned(),
    }
}

pub(super) fn message(message: instances::Message) -> Message {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    Message {
        message_id: message.id,
        role: role.to_owned(),
        text: message.text,
        created_at: Some(timestamp(message.created_at)),
    }
}

pub(super) fn file(entry: FileEntry) -> File {
    File {
        path: entry.path,
        kind: entry.kind.as_str().to_owned(),
        size_bytes: whole(entry.size_bytes),
        modified_at: entry.modified_at.map(timestamp),
    }
}

/// Messages carry signed numbers; nothing here is near their end.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
