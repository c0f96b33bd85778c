//! Running agents, as the Podium page prints them.
//!
//! A newcomer's usual mistake is to answer with what a caller sent. Secrets go in and never come out; configuration comes
//! out of the domain, redacted.

mod shown;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{HeaderName, header};
use portico_base::{
    Code, Context, Error, Incoming, Outgoing, Result, Secret, error::Detail, page::PageRequest, reason, reply::Outcome,
};
use portico_domain::instances::{GRACE, LogQuery, NewInstance, NewMessage, Removed, Stop, Window};
use portico_wire::podium::v1::{
    CreateInstanceRequest, CreateInstanceResponse, DeleteInstanceRequest, DeleteInstanceResponse, FollowLogsRequest,
    FollowLogsResponse, GetInstanceRequest, GetInstanceResponse, InstancesService, ListFilesRequest, ListFilesResponse,
    ListInstancesRequest, ListInstancesResponse, ListLogsRequest, ListLogsResponse, ListMessagesRequest,
    ListMessagesResponse, ReadFileRequest, ReadFileResponse, SendMessageRequest, SendMessageResponse, WriteFileRequest,
    WriteFileResponse,
};
use serde_json::Value;

use super::{Podium, say, timestamp};
use portico_phrases::{
    excerpts::{level, window},
    objects,
};

/// Instances of a page when the caller does not say.
const PAGE_INSTANCES: usize = 50;
/// Most instances of a page.
const PAGE_INSTANCES_MAX: usize = 200;
/// How deep a workspace may be listed.
const DEPTH_MAX: u32 = 16;
/// Says that a host that is away will be told later.
const DEFERRED: HeaderName = HeaderName::from_static("x-podium-deferred");
/// What a file is served as: the gateway does not know, and a browser must not guess.
const FILE_TYPE: &str = "application/octet-stream";

impl InstancesService for Podium {
    async fn create_instance(&self, cx: Context, request: CreateInstanceRequest) -> Result<CreateInstanceResponse> {
        let new = NewInstance {
            deployment_id: request.deployment_id,
            agent_type: request.agent_type,
            agent_id: request.agent_id,
            config: objects::object(request.config),
            secrets: request.secrets.into_iter().map(|(name, value)| (name, Secret::new(value))).collect(),
            environment: request.environment,
        };
        let created = self.platform.instances.create(&cx, new).await?;
        if created.existing {
            cx.reply.outcome(Outcome::Existing);
        }
        let instance = created.instance;
        let chronicle = shown::chronicle(self.chronicle_base(), instance.chronicle.as_deref());
        say(&cx, header::LOCATION, &format!("/api/v1/instances/{}", instance.id));
        Ok(CreateInstanceResponse {
            ws_url: format!("/agent/{}", instance.id),
            instance_id: instance.id.clone(),
            agent_id: instance.id,
            deployment_id: instance.deployment_id,
            status: instance.status,
            coordinator_id: instance.coordinator_id,
            chronicle_ws_endpoint: chronicle,
            created_at: Some(timestamp(instance.created_at)),
        })
    }

    async fn get_instance(&self, cx: Context, request: GetInstanceRequest) -> Result<GetInstanceResponse> {
        let instance = self.platform.instances.get(&cx, &request.instance_id).await?;
        Ok(GetInstanceResponse { instance: Some(shown::instance(instance, self.chronicle_base())) })
    }

    async fn list_instances(&self, cx: Context, request: ListInstancesRequest) -> Result<ListInstancesResponse> {
        let list = format!("instances {}", request.status);
        let page = PageRequest::parse(&list, request.limit, &request.cursor, PAGE_INSTANCES, PAGE_INSTANCES_MAX)?;
        let page = self.platform.instances.list(&cx, &request.status, &page).await?;
        let next_cursor = page.cursor(&list);
        let shown = |instance| shown::instance(instance, self.chronicle_base());
        Ok(ListInstancesResponse { instances: page.items.into_iter().map(shown).collect(), next_cursor })
    }

    async fn delete_instance(&self, cx: Context, request: DeleteInstanceRequest) -> Result<DeleteInstanceResponse> {
        let grace = request.grace_ms.map_or(GRACE, |millis| Duration::from_millis(millis.into()));
        let stop = if request.force { Stop::Now } else { Stop::Within(grace) };
        if self.platform.instances.remove(&cx, &request.instance_id, stop).await? == Removed::Deferred {
            say(&cx, DEFERRED, "true");
        }
        Ok(DeleteInstanceResponse {})
    }

    async fn list_logs(&self, cx: Context, request: ListLogsRequest) -> Result<ListLogsResponse> {
        let Window { offset, limit } = window(request.limit, request.offset);
        let query = LogQuery { level: level(&request.level)?, offset, limit };
        let entries = self.platform.instances.logs(&cx, &request.instance_id, query).await?;
        Ok(ListLogsResponse { logs: entries.into_iter().map(shown::log_entry).collect() })
    }

    async fn follow_logs(&self, cx: Context, request: FollowLogsRequest) -> Result<Outgoing<FollowLogsResponse>> {
        let after = u64::try_from(request.after).map_err(|_| Error::invalid("after", "must not be negative"))?;
        let level = level(&request.level)?;
        let entries = self.platform.instances.follow_logs(&cx, &request.instance_id, level, after).await?;
        Ok(Box::pin(entries.map(|entry| {
            entry.map(|entry| {
                let entry = shown::log_entry(entry);
                FollowLogsResponse { sequence: entry.sequence, entry: Some(entry) }
            })
        })))
    }

    async fn send_message(&self, cx: Context, request: SendMessageRequest) -> Result<SendMessageResponse> {
        let messages =
            request.messages.into_iter().map(|message| Value::Object(objects::object(Some(message)))).collect();
        let message = NewMessage { text: request.text, messages };
        let message_id = self.platform.instances.send(&cx, &request.instance_id, message).await?;
        Ok(SendMessageResponse { message_id })
    }

    async fn list_messages(&self, cx: Context, request: ListMessagesRequest) -> Result<ListMessagesResponse> {
        let window = window(request.limit, request.offset);
        let messages = self.platform.instances.messages(&cx, &request.instance_id, window).await?;
        Ok(ListMessagesResponse { messages: messages.into_iter().map(shown::message).collect() })
    }

    async fn list_files(&self, cx: Context, request: ListFilesRequest) -> Result<ListFilesResponse> {
        let depth = if request.depth == 0 { 1 } else { request.depth.min(DEPTH_MAX) };
        let list = self.platform.instances.files(&cx, &request.instance_id, &request.path, depth).await?;
        let files = list.entries.into_iter().map(shown::file).collect();
        Ok(ListFilesResponse { files, truncated: list.truncated })
    }

    async fn read_file(&self, cx: Context, request: ReadFileRequest) -> Result<Outgoing<ReadFileResponse>> {
        let file = self.platform.instances.read_file(&cx, &request.instance_id, &request.path).await?;
        // The first message says what it is, also of an empty file.
        let head = ReadFileResponse { content_type: FILE_TYPE.to_owned(), ..ReadFileResponse::default() };
        let chunks =
            file.bytes.map(|chunk| chunk.map(|content| ReadFileResponse { content, ..ReadFileResponse::default() }));
        Ok(Box::pin(stream::once(std::future::ready(Ok(head))).chain(chunks)))
    }

    async fn write_file(&self, cx: Context, mut request: Incoming<WriteFileRequest>) -> Result<WriteFileResponse> {
        let first = request.next().await.transpose()?.unwrap_or_default();
        for (name, value) in [("instance_id", &first.instance_id), ("path", &first.path)] {
            if value.is_empty() {
                let absent = Detail::Field { path: name.to_owned(), reason: "is missing".to_owned() };
                let message = format!("the first message must name the {name}");
                return Err(Error::new(Code::InvalidArgument, reason::MISSING_FIELD, message).with(absent));
            }
        }
        let WriteFileRequest { instance_id, path, content } = first;
        let rest = request.map(|message| message.map(|message| message.content));
        let content = Box::pin(stream::once(std::future::ready(Ok(content))).chain(rest));
        let size = self.platform.instances.write_file(&cx, &instance_id, &path, content).await?;
        Ok(WriteFileResponse { path, size_bytes: i64::try_from(size).unwrap_or(i64::MAX) })
    }
}

impl Podium {
    fn chronicle_base(&self) -> Option<&str> {
        self.platform.chronicle_base.as_deref()
    }
}
