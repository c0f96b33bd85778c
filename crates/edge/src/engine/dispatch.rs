//! One method, as the engine calls it.
//!
//! A newcomer's usual mistake is to decode messages here. A handler takes and gives wire bytes; only JSON is turned into
//! them and back.
//!
//! *Knows:* the four shapes, JSON, which calls outlive their callers. *Does not know:* framing, compression.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use connectrpc::{
    CodecFormat, ConnectError, EncodedBody, EncodedStream, MethodKind, Payload, RequestContext, Response,
    dispatcher::{Dispatcher, MethodDescriptor, RequestStream, StreamingResult, UnaryResult},
};
use futures_util::{StreamExt, stream};
use portico_base::{Code, Context, Deadline, Error, Incoming, Outgoing, Result, reason, reply::Reply, tasks::Tasks};
use portico_gate::Entry;
use portico_json::{MessageType, Parse};
use portico_schema::{Idempotency, Method, Shape};
use portico_wire::{BoxFuture, Handler};
use tokio::time::timeout_at;

use super::{
    failure,
    inflow::Fault,
    outflow::{Outflow, Watch, encode},
    plain::Plain,
};
use crate::{
    ends::{in_time, revoked, too_late},
    shield,
};

/// What travels with a call through the engine.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) context: Context,
    pub(super) entry: Entry,
    pub(super) fault: Fault,
}

impl Call {
    fn taken(cx: &mut RequestContext) -> Option<Call> {
        let call = cx.extensions_mut().remove::<Call>();
        call.inspect(|call| call.fault.reached())
    }
}

pub(super) struct Dispatch {
    method: Arc<Method>,
    handler: Handler,
    tasks: Tasks,
}

impl Dispatch {
    pub(super) fn new(method: Arc<Method>, handler: Handler, tasks: Tasks) -> Dispatch {
        Dispatch { method, handler, tasks }
    }

    /// A call that may change something is not stopped half-way because its caller has gone. One whose answers stream
    /// lives for who reads them.
    fn outlives_its_caller(&self) -> bool {
        !self.method.shape.streams_out() && self.method.idempotency != Idempotency::NoSideEffects
    }

    /// Makes a plain call, from its message to that of the answer.
    ///
    /// # Errors
    /// What was wrong with the message, or what the handler says.
    pub(super) async fn plain(&self, plain: Plain, message: Bytes, context: Context, entry: Entry) -> Result<Bytes> {
        let Handler::Unary(handler) = &self.handler else { return Err(Error::internal("a call of another shape")) };
        let wire = decode(message, plain.json(&self.method.input))?;
        let tasks = self.outlives_its_caller().then_some(&self.tasks);
        let answer = unary(&**handler, tasks, context, wire, entry).await?;
        encode(answer, plain.json(&self.method.output))
    }

    fn input(&self, format: CodecFormat) -> Option<MessageType> {
        (format == CodecFormat::Json).then(|| self.method.input.clone())
    }

    fn output(&self, format: CodecFormat) -> Option<MessageType> {
        (format == CodecFormat::Json).then(|| self.method.output.clone())
    }
}

impl Dispatcher for Dispatch {
    fn lookup(&self, _path: &str) -> Option<MethodDescriptor> {
        let kind = match self.method.shape {
            Shape::Unary => MethodKind::Unary,
            Shape::ServerStream => MethodKind::ServerStreaming,
            Shape::ClientStream => MethodKind::ClientStreaming,
            Shape::Bidi => MethodKind::BidiStreaming,
        };
        let gettable = self.method.idempotency == Idempotency::NoSideEffects;
        Some(MethodDescriptor::from_kind(kind).with_idempotent(gettable && kind == MethodKind::Unary))
    }

    fn call_unary(&self, _path: &str, mut cx: RequestContext, request: Payload, format: CodecFormat) -> UnaryResult {
        let (Handler::Unary(handler), Some(call)) = (&self.handler, Call::taken(&mut cx)) else {
            return Box::pin(std::future::ready(Err(misdirected())));
        };
        let handler = Arc::clone(handler);
        let (input, output) = (self.input(format), self.output(format));
        let tasks = self.outlives_its_caller().then(|| self.tasks.clone());
        Box::pin(async move {
            let reply = call.context.reply.clone();
            let mut watch = Watch::new(call.entry.clone(), call.context.deadline);
            let outcome = match decode(request.bytes().clone(), input.as_ref()) {
                Ok(wire) => unary(&*handler, tasks.as_ref(), call.context, wire, call.entry).await,
                Err(error) => Err(noted(error, &call.entry)),
            };
            watch.succeed();
            answer(outcome.and_then(|wire| encode(wire, output.as_ref())), &reply)
        })
    }

    fn call_server_streaming(
        &self,
        _path: &str,
        mut cx: RequestContext,
        request: Bytes,
        format: CodecFormat,
    ) -> StreamingResult {
        let (Handler::ServerStream(handler), Some(call)) = (&self.handler, Call::taken(&mut cx)) else {
            return Box::pin(std::future::ready(Err(misdirected())));
        };
        let handler = Arc::clone(handler);
        let (input, output) = (self.input(format), self.output(format));
        let tasks = self.tasks.clone();
        Box::pin(async move {
            let reply = call.context.reply.clone();
            let mut watch = Watch::new(call.entry, call.context.deadline);
            let outcome = match decode(request, input.as_ref()) {
                Ok(wire) => begin(&mut watch, handler(call.context, wire)).await,
                Err(error) => Err(error),
            };
            flow(outcome, watch, output, &reply, tasks)
        })
    }

    fn call_client_streaming(
        &self,
        _path: &str,
        mut cx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> UnaryResult {
        let (Handler::ClientStream(handler), Some(call)) = (&self.handler, Call::taken(&mut cx)) else {
            return Box::pin(std::future::ready(Err(misdirected())));
        };
        let handler = Arc::clone(handler);
        let messages = incoming(requests, self.input(format), call.fault, call.context.deadline);
        let output = self.output(format);
        let tasks = self.outlives_its_caller().then(|| self.tasks.clone());
        Box::pin(async move {
            let reply = call.context.reply.clone();
            let mut watch = Watch::new(call.entry.clone(), call.context.deadline);
            let outcome = if let Some(tasks) = tasks {
                // Watched too, for when nobody waits any more: the work may go on, and ends in its own way.
                let outcome = lasting(&tasks, handler(call.context, messages), call.entry).await;
                watch.succeed();
                outcome
            } else {
                let outcome = begin(&mut watch, handler(call.context, messages)).await;
                end(&mut watch, &outcome);
                outcome
            };
            answer(outcome.and_then(|wire| encode(wire, output.as_ref())), &reply)
        })
    }

    fn call_bidi_streaming(
        &self,
        _path: &str,
        mut cx: RequestContext,
        requests: RequestStream,
        format: CodecFormat,
    ) -> StreamingResult {
        let (Handler::Bidi(handler), Some(call)) = (&self.handler, Call::taken(&mut cx)) else {
            return Box::pin(std::future::ready(Err(misdirected())));
        };
        let handler = Arc::clone(handler);
        let messages = incoming(requests, self.input(format), call.fault, call.context.deadline);
        let output = self.output(format);
        let tasks = self.tasks.clone();
        Box::pin(async move {
            let reply = call.context.reply.clone();
            let mut watch = Watch::new(call.entry, call.context.deadline);
            let outcome = begin(&mut watch, handler(call.context, messages)).await;
            flow(outcome, watch, output, &reply, tasks)
        })
    }
}

/// Calls a unary handler; on a task of its own when it must run to its end although its caller has gone.
async fn unary(
    handler: &(dyn Fn(Context, Bytes) -> BoxFuture<Result<Bytes>> + Send + Sync),
    tasks: Option<&Tasks>,
    context: Context,
    wire: Bytes,
    entry: Entry,
) -> Result<Bytes> {
    in_time(context.deadline).map_err(|error| noted(error, &entry))?;
    let Some(tasks) = tasks else {
        let mut watch = Watch::new(entry, context.deadline);
        let outcome = shield::call(async move { handler(context, wire).await }).await;
        end(&mut watch, &outcome);
        return outcome;
    };
    lasting(tasks, handler(context, wire), entry).await
}

/// Runs a handler to its end, whether or not anybody still waits for it.
async fn lasting(tasks: &Tasks, work: BoxFuture<Result<Bytes>>, entry: Entry) -> Result<Bytes> {
    let work = async move {
        let outcome = shield::call(work).await;
        entry.worked(&outcome);
        outcome.map_err(|error| noted(error, &entry))
    };
    tasks.serve(work).await.unwrap_or_else(|error| Err(Error::internal(error)))
}

/// The answer of one message, with what the handler said beside it.
fn answer(outcome: Result<Bytes>, reply: &Reply) -> std::result::Result<Response<EncodedBody>, ConnectError> {
    let said = reply.take();
    match outcome {
        Ok(bytes) => {
            let mut response = Response::new(EncodedBody::from(bytes));
            response.headers = said.headers;
            response.trailers = said.trailers;
            Ok(response)
        }
        Err(error) => Err(failure::to_connect(&error, Some(said))),
    }
}

/// The answer of many messages.
fn flow(
    outcome: Result<Outgoing<Bytes>>,
    mut watch: Watch,
    json: Option<MessageType>,
    reply: &Reply,
    tasks: Tasks,
) -> std::result::Result<Response<EncodedStream>, ConnectError> {
    let said = reply.take();
    match outcome {
        Ok(messages) => {
            let trailers = said.trailers.clone();
            let flow = Outflow { messages, json, trailers, watch, unchecked: 0, tasks, departure: None };
            let mut response = Response::new(Box::pin(flow) as EncodedStream);
            response.headers = said.headers;
            response.trailers = said.trailers;
            Ok(response)
        }
        Err(error) => {
            watch.fail(&error);
            Err(failure::to_connect(&error, Some(said)))
        }
    }
}

/// The messages of a request. At most one waits. None is waited for when the deadline has passed: work that outlives its
/// caller would wait for one who was told so and has gone.
fn incoming(requests: RequestStream, json: Option<MessageType>, fault: Fault, deadline: Deadline) -> Incoming<Bytes> {
    let messages = requests.map(move |message| match message {
        Ok(bytes) => decode(bytes, json.as_ref()),
        Err(found) => match fault.take().unwrap_or_else(|| failure::from_connect(&found)) {
            // Who was told that it is too late may hang up before the clock here has struck.
            error if error.code() == Code::Canceled && deadline.is_over() => Err(too_late()),
            error => Err(error),
        },
    });
    let Some(instant) = deadline.instant() else { return Box::pin(messages) };
    Box::pin(stream::unfold(Some(messages), move |messages| async move {
        let mut messages = messages?;
        match timeout_at(instant, messages.next()).await {
            Ok(message) => message.map(|message| (message, Some(messages))),
            Err(_) => Some((Err(too_late()), None)),
        }
    }))
}

/// A message in wire form.
fn decode(bytes: Bytes, json: Option<&MessageType>) -> Result<Bytes> {
    let Some(message) = json else { return Ok(bytes) };
    match message.decode(&bytes, Parse::default()) {
        Ok(wire) => Ok(wire.into()),
        Err(error) => Err(Error::new(Code::InvalidArgument, reason::INVALID_JSON, error.to_string())),
    }
}

/// Runs the handler of a stream until it answers or its credential is revoked.
async fn begin<T>(watch: &mut Watch, work: BoxFuture<Result<T>>) -> Result<T> {
    watch.in_time()?;
    let mut work = std::pin::pin!(shield::call(work));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Pending if watch.poll_revoked(cx) => Poll::Ready(Err(revoked())),
        polled => polled,
    })
    .await
}

fn end<T>(watch: &mut Watch, outcome: &Result<T>) {
    match outcome {
        Ok(_) => watch.succeed(),
        Err(error) => watch.fail(error),
    }
}

fn noted(error: Error, entry: &Entry) -> Error {
    entry.fail(&error);
    error
}

/// The engine was given a call that did not come through the gate, or one of another shape.
fn misdirected() -> ConnectError {
    ConnectError::internal("internal error")
}
