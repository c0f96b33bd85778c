//! The agents of a host, as gateways see them.
//!
//! A newcomer's usual mistake is to redact here. What comes from a gateway is handed to the agent as it is, and nothing of
//! an agent's configuration goes back.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use portico_base::{Code, Context, Error, Incoming, Outgoing, Result, Secret, TenantId, error::Detail, reason};
use portico_domain::host::{
    self, FileEntry, Frame, LogQuery, NewMessage, Role, Start, Stop, Usage, Utf8, WAIT_MAX, Window, WorkspacePath,
};
use portico_wire::coordinator::v1::{
    AgentsService, AttachRequest, AttachResponse, CreateInstanceRequest, CreateInstanceResponse, DeleteInstanceRequest,
    DeleteInstanceResponse, File, FollowLogsRequest, FollowLogsResponse, GetInfoRequest, GetInfoResponse,
    ListFilesRequest, ListFilesResponse, ListLogsRequest, ListLogsResponse, ListMessagesRequest, ListMessagesResponse,
    LogEntry, Message, ReadFileRequest, ReadFileResponse, ResourceUsage, SendMessageRequest, SendMessageResponse,
    UpdateConfigRequest, UpdateConfigResponse, WriteFileRequest, WriteFileResponse, attach_request, attach_response,
};

use super::{Coordinator, bundle};
use portico_phrases::{
    excerpts::{level, window},
    objects,
};

/// How long an agent may take to end by itself when the gateway does not say.
const GRACE: Duration = Duration::from_secs(10);
/// Longest grace that a gateway may give.
const GRACE_MAX: Duration = Duration::from_secs(60);
/// How deep a workspace may be listed.
const DEPTH_MAX: u32 = 16;

impl AgentsService for Coordinator {
    async fn create_instance(&self, cx: Context, request: CreateInstanceRequest) -> Result<CreateInstanceResponse> {
        let bundle = bundle(&self.host, &request.source, &request.checksum, &request.deployment_id)?;
        let tenant = Some(request.tenant_id).filter(|tenant| !tenant.is_empty());
        let start = Start {
            instance: request.agent_id.clone(),
            bundle,
            config: objects::object(request.config),
            secrets: request.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            environment: request.environment,
            tenant: tenant.map_or_else(|| cx.caller.tenant.clone(), TenantId::new),
            installation: request.installation_id,
            incarnation: request.incarnation.into(),
            asked: Default::default(),
        };
        let info = self.host.create(&cx, start).await?;
        Ok(CreateInstanceResponse {
            instance_id: request.agent_id.clone(),
            agent_id: request.agent_id,
            status: info.state.to_string(),
            chronicle_ws_endpoint: info.chronicle,
        })
    }

    async fn delete_instance(&self, cx: Context, request: DeleteInstanceRequest) -> Result<DeleteInstanceResponse> {
        let grace = request.grace_ms.map_or(GRACE, |millis| Duration::from_millis(millis.into())).min(GRACE_MAX);
        let stop = if request.force { Stop::Now } else { Stop::Within(grace) };
        let at = self.host.at(&cx, &request.agent_id).await?.of(request.incarnation.into());
        self.host.stop(&at, stop).await?;
        Ok(DeleteInstanceResponse {})
    }

    async fn get_info(&self, cx: Context, request: GetInfoRequest) -> Result<GetInfoResponse> {
        let at = self.host.at(&cx, &request.agent_id).await?;
        if request.wait_ms > 0 {
            let patience = Duration::from_millis(request.wait_ms.into()).min(WAIT_MAX);
            self.host.fleet().settled(&at, patience).await?;
        }
        let info = self.host.fleet().info(&at).await?;
        Ok(GetInfoResponse {
            agent_id: request.agent_id,
            status: info.state.to_string(),
            note: info.note,
            resource_usage: info.usage.map(usage),
            chronicle_ws_endpoint: info.chronicle,
            last_activity_ms: info.last_activity_at.map(|at| at.0),
            incarnation: info.incarnation.into(),
        })
    }

    async fn send_message(&self, cx: Context, request: SendMessageRequest) -> Result<SendMessageResponse> {
        let messages = request.messages.into_iter().map(objects::value_of).collect();
        let message = NewMessage { text: request.text, messages };
        let message_id = self.host.fleet().send(&self.host.at(&cx, &request.agent_id).await?, message).await?;
        Ok(SendMessageResponse { message_id })
    }

    async fn list_messages(&self, cx: Context, request: ListMessagesRequest) -> Result<ListMessagesResponse> {
        let at = self.host.at(&cx, &request.agent_id).await?;
        let messages = self.host.fleet().messages(&at, window(request.limit, request.offset)).await?;
        Ok(ListMessagesResponse { messages: messages.into_iter().map(message).collect() })
    }

    async fn list_logs(&self, cx: Context, request: ListLogsRequest) -> Result<ListLogsResponse> {
        let Window { offset, limit } = window(request.limit, request.offset);
        let query = LogQuery { level: level(&request.level)?, offset, limit };
        let entries = self.host.fleet().logs(&self.host.at(&cx, &request.agent_id).await?, query).await?;
        Ok(ListLogsResponse { logs: entries.into_iter().map(log_entry).collect() })
    }

    async fn follow_logs(&self, cx: Context, request: FollowLogsRequest) -> Result<Outgoing<FollowLogsResponse>> {
        let after = u64::try_from(request.after).map_err(|_| Error::invalid("after", "must not be negative"))?;
        let at = self.host.at(&cx, &request.agent_id).await?;
        let entries = self.host.fleet().follow_logs(&at, level(&request.level)?, after).await?;
        Ok(Box::pin(entries.map(|entry| {
            entry.map(|entry| {
                let entry = log_entry(entry);
                FollowLogsResponse { sequence: entry.sequence, entry: Some(entry) }
            })
        })))
    }

    async fn update_config(&self, cx: Context, request: UpdateConfigRequest) -> Result<UpdateConfigResponse> {
        let at = self.host.at(&cx, &request.agent_id).await?;
        self.host.fleet().configure(&at, objects::object(request.changes)).await?;
        Ok(UpdateConfigResponse {})
    }

    async fn list_files(&self, cx: Context, request: ListFilesRequest) -> Result<ListFilesResponse> {
        let depth = if request.depth == 0 { 1 } else { request.depth.min(DEPTH_MAX) };
        let folder = WorkspacePath::folder(&request.path)?;
        let list = self.host.fleet().files(&self.host.at(&cx, &request.agent_id).await?, &folder, depth).await?;
        Ok(ListFilesResponse { files: list.entries.into_iter().map(file).collect(), truncated: list.truncated })
    }

    async fn read_file(&self, cx: Context, request: ReadFileRequest) -> Result<Outgoing<ReadFileResponse>> {
        let path = WorkspacePath::parse(&request.path)?;
        let file = self.host.fleet().read_file(&self.host.at(&cx, &request.agent_id).await?, &path).await?;
        // The first message begins the answer, also of an empty file.
        let head = stream::once(std::future::ready(Ok(ReadFileResponse::default())));
        Ok(Box::pin(head.chain(file.bytes.map(|chunk| chunk.map(|content| ReadFileResponse { content })))))
    }

    async fn write_file(&self, cx: Context, mut request: Incoming<WriteFileRequest>) -> Result<WriteFileResponse> {
        let first = request.next().await.transpose()?.unwrap_or_default();
        let WriteFileRequest { agent_id, path, content } = first;
        let place = WorkspacePath::parse(&path)?;
        let rest = request.map(|message| message.map(|message| message.content));
        let content = Box::pin(stream::once(std::future::ready(Ok(content))).chain(rest));
        let size = self.host.fleet().write_file(&self.host.at(&cx, &agent_id).await?, &place, content).await?;
        Ok(WriteFileResponse { path, size_bytes: whole(size) })
    }

    async fn attach(&self, cx: Context, mut request: Incoming<AttachRequest>) -> Result<Outgoing<AttachResponse>> {
        let first = request.next().await.transpose()?.unwrap_or_default();
        if first.agent_id.is_empty() {
            let absent = Detail::Field { path: "agent_id".to_owned(), reason: "is missing".to_owned() };
            let message = "the first message must name the agent";
            return Err(Error::new(Code::InvalidArgument, reason::MISSING_FIELD, message).with(absent));
        }
        let at = self.host.at(&cx, &first.agent_id).await?;
        let since = first.since_seq;
        let frames = stream::once(std::future::ready(Ok(first))).chain(request);
        // A message without a frame, as the first one may be, says nothing to the agent.
        let frames = frames
            .filter_map(|message| std::future::ready(message.map(|message| message.frame.map(heard)).transpose()));
        let answered = self.host.fleet().attach(&at, since, Box::pin(frames)).await?;
        Ok(Box::pin(answered.map(|frame| frame.map(|frame| AttachResponse { frame: said(frame) }))))
    }
}

fn heard(frame: attach_request::Frame) -> Frame {
    match frame {
        attach_request::Frame::Text(text) => Frame::Text(Utf8::from(text)),
        attach_request::Frame::Binary(bytes) => Frame::Binary(bytes),
    }
}

/// A host ends a stream by ending it.
fn said(frame: Frame) -> Option<attach_response::Frame> {
    match frame {
        Frame::Text(text) => Some(attach_response::Frame::Text(text.into())),
        Frame::Binary(bytes) => Some(attach_response::Frame::Binary(bytes)),
        Frame::Close(_) => None,
    }
}

fn usage(usage: Usage) -> ResourceUsage {
    ResourceUsage {
        cpu_percent: usage.cpu_percent,
        memory_bytes: whole(usage.memory_bytes),
        uptime_seconds: usage.uptime.as_secs_f64(),
    }
}

fn message(message: host::Message) -> Message {
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    Message { message_id: message.id, role: role.to_owned(), text: message.text, timestamp: message.created_at.0 }
}

fn log_entry(entry: host::LogEntry) -> LogEntry {
    LogEntry {
        sequence: whole(entry.sequence),
        timestamp: entry.at.0,
        level: entry.level.as_str().to_owned(),
        message: entry.message,
        source: entry.source.as_str().to_owned(),
    }
}

fn file(entry: FileEntry) -> File {
    File {
        path: entry.path,
        kind: entry.kind.as_str().to_owned(),
        size_bytes: whole(entry.size_bytes),
        modified_ms: entry.modified_at.map(|at| at.0),
    }
}

/// Messages carry signed numbers; nothing here is near their end.
fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
