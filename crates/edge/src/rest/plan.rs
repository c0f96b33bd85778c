//! How one REST route is served: all that can be known before a request comes.
//!
//! A newcomer's usual mistake is to look fields up by name in a request. Names are resolved here, once, and what does not
//! fit keeps the gateway from starting.
//!
//! *Knows:* one method and one of its bindings. *Does not know:* other routes.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header, request::Parts};
use portico_base::{Code, Context, Error, Outgoing, RequestId, Result, reason, reply::Reply, tasks::Tasks};
use portico_gate::{Door, Entry};
use portico_json::FieldPath;
use portico_schema::{Binding, Body as BodyRule, Defect, Method, Schema, Shape};
use portico_wire::Handler;
use prost_reflect::MessageDescriptor;

use super::{
    bind::Message,
    call::run,
    inlet::{Inlet, JSON_BYTES_MAX},
    multipart,
    raw::{self, Download},
    render::{self, Asked},
};
use crate::{
    Body, accept,
    field::Field,
    flow::{Flow, begun},
    ndjson,
    route::Segments,
    sse,
};

/// How one route is served.
pub(super) struct Plan {
    pub(super) method: Arc<Method>,
    at: usize,
    handler: Option<Handler>,
    intake: Intake,
    download: Option<Download>,
    input: MessageDescriptor,
    event_id: Option<Field>,
    /// The field that takes the id of the last event seen.
    resumed: Option<FieldPath>,
    /// The field that takes the query as it came.
    queried: Option<FieldPath>,
}

/// What the body is.
#[derive(Clone, Copy)]
enum Intake {
    Json,
    Form,
    Octets(Field),
}

/// What the head of a request says, beyond path and verb.
pub(super) struct Asking {
    query: Option<String>,
    content_type: Option<String>,
    last_event_id: Option<String>,
    form: Form,
    is_encoded: bool,
    id: RequestId,
}

/// How an answer of many messages looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The bytes of one field, one after the other.
    Bytes,
    Events,
    Lines,
}

/// What a handler gave.
enum Given {
    One(Bytes),
    Many(Outgoing<Bytes>),
}

impl Plan {
    pub(super) fn new(
        schema: &Schema,
        method: &Arc<Method>,
        at: usize,
        handler: Option<&Handler>,
    ) -> Result<Plan, Defect> {
        let descriptor = |name: &str| {
            let found = schema.pool().get_message_by_name(name);
            found.ok_or_else(|| Defect::new(format!("{}: unknown message {name}", method.path)))
        };
        let (input, output) = (descriptor(method.input.name())?, descriptor(method.output.name())?);
        let (mut intake, mut download) = (Intake::Json, None);
        if method.rest.multipart {
            intake = Intake::Form;
        }
        if let Some(name) = method.rest.raw {
            match (Field::bytes(&input, name), Download::of(&output, name)) {
                (Some(field), _) => intake = Intake::Octets(field),
                (None, Some(found)) => download = Some(found),
                (None, None) => {
                    return Err(Defect::new(format!("{}: raw names no bytes field {name}", method.path)));
                }
            }
        }
        // The schema lets a client stream have a body of some kind; this door knows two.
        if matches!(intake, Intake::Json) == method.shape.streams_in() && !matches!(intake, Intake::Octets(_)) {
            return Err(Defect::new(format!("{}: a client stream, and only that, takes a form or bytes", method.path)));
        }
        let queried = match method.rest.query.map(|name| (name, method.input.path(name))) {
            None => None,
            Some((_, Some(field))) => Some(field),
            Some((name, None)) => return Err(Defect::new(format!("{}: query names no field {name}", method.path))),
        };
        let event_id = ["sequence", "event_id"].into_iter().find_map(|name| Field::event_id(&output, name));
        Ok(Plan {
            method: Arc::clone(method),
            at,
            handler: handler.cloned(),
            intake,
            download,
            input,
            event_id,
            resumed: method.input.path("after"),
            queried,
        })
    }

    /// Reads what matters besides the path.
    pub(super) fn read_head(&self, head: &Parts, headers: &HeaderMap, id: &RequestId) -> Asking {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).map(str::to_owned);
        Asking {
            query: head.uri.query().map(str::to_owned),
            content_type: text(header::CONTENT_TYPE),
            // An empty one is that of a reader who has seen no event yet.
            last_event_id: self.resumed.as_ref().and_then(|_| text(LAST_EVENT_ID)).filter(|id| !id.is_empty()),
            form: self.form(headers),
            is_encoded: text(header::CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")),
            id: id.clone(),
        }
    }

    /// How the answer looks if it is many messages. A download is one unless messages are asked for by name.
    fn form(&self, headers: &HeaderMap) -> Form {
        let rather = |one, other| self.method.shape.streams_out() && accept::prefers(headers, one, other);
        if self.download.is_some() {
            let named = |one| self.method.shape.streams_out() && accept::names(headers, one, OCTETS);
            return match (named(sse::MEDIA_TYPE), named(ndjson::MEDIA_TYPE)) {
                (true, true) if rather(sse::MEDIA_TYPE, ndjson::MEDIA_TYPE) => Form::Events,
                (true, false) => Form::Events,
                (_, true) => Form::Lines,
                (false, false) => Form::Bytes,
            };
        }
        if rather(sse::MEDIA_TYPE, ndjson::MEDIA_TYPE) { Form::Events } else { Form::Lines }
    }

    /// The door that the record names.
    pub(super) fn door(&self, asking: &Asking) -> Door {
        match asking.form {
            Form::Events => Door::Sse,
            Form::Lines if self.method.shape.streams_out() => Door::Ndjson,
            Form::Lines | Form::Bytes => Door::Rest,
        }
    }

    /// Binds, calls, renders.
    ///
    /// # Errors
    /// Whatever any of these found.
    #[expect(clippy::too_many_arguments, reason = "these are the parts of one exchange, and only used here")]
    pub(super) async fn exchange(
        &self,
        segments: &Segments<'_>,
        asking: &Asking,
        asked: &Asked,
        inlet: &mut Inlet,
        context: Context,
        reply: &Reply,
        entry: &Entry,
        tasks: &Tasks,
    ) -> Result<Response<Body>> {
        let Some(handler) = &self.handler else {
            return Err(Error::new(Code::Unimplemented, reason::NOT_OFFERED, "this installation does not offer it"));
        };
        if asking.is_encoded && !inlet.is_empty() {
            return Err(unsupported("the body must not be compressed"));
        }
        let (deadline, repeating) = (context.deadline, self.method.idempotency);
        let given = match handler {
            Handler::Unary(call) => {
                let work = call(context, self.message(segments, asking, inlet).await?);
                Given::One(run(work, repeating, deadline, entry, tasks).await?)
            }
            Handler::ServerStream(call) => {
                let work = call(context, self.message(segments, asking, inlet).await?);
                Given::Many(begun(run(work, repeating, deadline, entry, tasks), entry).await?)
            }
            Handler::ClientStream(call) => {
                let work = call(context, self.messages(segments, asking, inlet)?);
                Given::One(run(work, repeating, deadline, entry, tasks).await?)
            }
            Handler::Bidi(call) => {
                let work = call(context, self.messages(segments, asking, inlet)?);
                Given::Many(begun(run(work, repeating, deadline, entry, tasks), entry).await?)
            }
        };
        match given {
            Given::One(message) => {
                let response = self.binding().response.as_ref();
                render::unary(&self.method, response, self.download.as_ref(), &message, reply.take(), asked)
            }
            Given::Many(messages) => {
                let mut flow = Flow::begin(messages, entry, tasks, deadline).await?;
                if let (Some(download), Form::Bytes) = (self.download, asking.form) {
                    let first = flow.first().await?;
                    let mut parts = reply.take();
                    download.describe(&first.clone().unwrap_or_default(), &mut parts.headers);
                    let body = download.body(first, flow);
                    return Ok(render::stream(&self.method, parts, HeaderValue::from_static(OCTETS), body));
                }
                Ok(self.streamed(flow, reply.take(), asking))
            }
        }
    }

    fn binding(&self) -> &Binding {
        &self.method.bindings[self.at]
    }

    fn streamed(&self, flow: Flow, mut parts: portico_base::reply::Parts, asking: &Asking) -> Response<Body> {
        let (output, surface, request_id) = (self.method.output.clone(), self.method.surface, asking.id.clone());
        if asking.form == Form::Events {
            sse::describe(&mut parts.headers);
            let body = sse::Events { flow, output, surface, event_id: self.event_id, request_id }.body();
            return render::stream(&self.method, parts, HeaderValue::from_static(sse::MEDIA_TYPE), body);
        }
        let body = ndjson::Lines { flow, output, surface, request_id }.body();
        render::stream(&self.method, parts, HeaderValue::from_static(ndjson::MEDIA_TYPE), body)
    }

    /// The one request message.
    async fn message(&self, segments: &Segments<'_>, asking: &Asking, inlet: &mut Inlet) -> Result<Bytes> {
        let binding = self.binding();
        let mut message = Message::new(&self.method.input);
        match (&binding.body, self.intake) {
            (_, Intake::Octets(field)) => {
                field.append(&inlet.collect(JSON_BYTES_MAX).await?, message.bytes_mut());
            }
            (BodyRule::None, _) => inlet.ended().await?,
            (BodyRule::Whole, _) => message.whole(&json(asking, inlet).await?, self.method.rest.flat)?,
            (BodyRule::Field(field), _) => message.field(field, &json(asking, inlet).await?)?,
        }
        inlet.close();
        self.address(&mut message, segments, asking)?;
        Ok(message.into_bytes())
    }

    /// The request messages of a stream.
    fn messages(
        &self,
        segments: &Segments<'_>,
        asking: &Asking,
        inlet: &mut Inlet,
    ) -> Result<portico_base::Incoming<Bytes>> {
        let inlet = std::mem::take(inlet);
        let mut first = Message::new(&self.method.input);
        self.address(&mut first, segments, asking)?;
        match self.intake {
            Intake::Octets(field) => Ok(raw::upload(first.into_bytes(), field, inlet)),
            Intake::Form | Intake::Json => {
                let first = (!first.is_empty()).then(|| first.into_bytes());
                multipart::messages(first, asking.content_type.as_deref(), &self.method.input, &self.input, inlet)
            }
        }
    }

    /// Adds what query and path say.
    fn address(&self, message: &mut Message<'_>, segments: &Segments<'_>, asking: &Asking) -> Result<()> {
        let binding = self.binding();
        let query = asking.query.as_deref();
        match (&binding.body, self.method.rest.flat) {
            _ if self.queried.is_some() => {
                if let (Some(field), Some(query)) = (&self.queried, query) {
                    message.text(field, query)?;
                }
            }
            (BodyRule::None, _) => message.query(query, None)?,
            (BodyRule::Field(field), _) => message.query(query, Some(&field.proto_path()))?,
            // A flat body has no room for other fields.
            (BodyRule::Whole, Some(flat)) => message.query(query, Some(flat))?,
            (BodyRule::Whole, None) => message.refuse_query(query)?,
        }
        if let (Some(field), Some(id)) = (&self.resumed, &asking.last_event_id)
            && self.method.shape == Shape::ServerStream
            && !message.has_queried(&field.proto_path())
        {
            message.text(field, id)?;
        }
        message.captures(&binding.template, &binding.captures, segments)
    }
}

const LAST_EVENT_ID: http::HeaderName = http::HeaderName::from_static("last-event-id");
const OCTETS: &str = "application/octet-stream";

/// The JSON body. No body needs no media type.
async fn json(asking: &Asking, inlet: &mut Inlet) -> Result<Bytes> {
    if inlet.is_empty() {
        return Ok(Bytes::new());
    }
    match asking.content_type.as_deref().map(media_type) {
        Some(media_type) if is_json(media_type) => inlet.collect(JSON_BYTES_MAX).await,
        other => {
            // A chunked body may turn out to be empty only when it is read.
            if other.is_none() && inlet.chunk().await?.is_none() {
                return Ok(Bytes::new());
            }
            Err(unsupported("the body must be application/json"))
        }
    }
}

/// Whether a media type is that of JSON, or of something written in it. Case means nothing in it (RFC 9110, section 8.3.1).
fn is_json(media_type: &str) -> bool {
    const SUFFIX: &[u8] = b"+json";
    media_type.eq_ignore_ascii_case("application/json")
        || media_type.as_bytes().last_chunk::<{ SUFFIX.len() }>().is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX))
}

fn unsupported(message: &'static str) -> Error {
    Error::new(Code::InvalidArgument, reason::UNSUPPORTED_MEDIA_TYPE, message)
}

/// A media type without its parameters.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}
