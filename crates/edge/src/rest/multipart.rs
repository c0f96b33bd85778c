//! multipart/form-data becomes request messages, part by part.
//!
//! A newcomer's usual mistake is to wait for all parts. Each part is a message with the field of its name, sent on as it
//! arrives; a file is many messages. What is required, and in what order, is the domain's business.
//!
//! *Knows:* parts, their limits. *Does not know:* which fields a call needs.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};
use multer::{Constraints, Multipart};
use portico_base::{Code, Error, Incoming, Result, reason};
use portico_json::MessageType;
use prost_reflect::MessageDescriptor;

use super::{
    bind::{Message, unfit},
    inlet::{self, Inlet},
};
use crate::field::Field;

/// Longest part that is text. Names and versions are far shorter.
const TEXT_BYTES_MAX: usize = 1 << 10;

/// Most bytes in parts that mean nothing here, all together: as many as the largest file has by default. They are thrown
/// away as they come. Of a form that says its length, the method has refused what is too long before.
const UNKNOWN_BYTES_MAX: usize = 256 << 20;

/// Most parts in a body. Forms of published pages have three.
const PARTS_MAX: usize = 64;

/// Most bytes before a boundary is found or the head of a part is complete.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// The body of a call whose fields are parts.
pub(super) struct Parts {
    form: Multipart<'static>,
    part: Option<Part>,
    input: MessageType,
    descriptor: MessageDescriptor,
    seen: HashSet<String>,
    unknown_bytes: usize,
    parts: usize,
    unclaimed: Unclaimed,
}

/// Most bytes that the parser takes at once, and so about the largest piece of a file in one message.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// A file that is arriving.
struct Part {
    field: Field,
    chunks: multer::Field<'static>,
    is_new: bool,
}

/// The messages of a form. `first` carries what the path and the query said, if they said anything.
///
/// # Errors
/// `unsupported_media_type` when the body is of another kind, `not_multipart` when it names no boundary.
pub(super) fn messages(
    first: Option<Bytes>,
    content_type: Option<&str>,
    input: &MessageType,
    descriptor: &MessageDescriptor,
    body: Inlet,
) -> Result<Incoming<Bytes>> {
    let boundary = multer::parse_boundary(content_type.unwrap_or_default()).map_err(|error| match error {
        multer::Error::NoBoundary => malformed("it names no boundary"),
        _ if content_type.is_some_and(is_form) => malformed("its parameters are malformed"),
        _ => Error::new(Code::InvalidArgument, reason::UNSUPPORTED_MEDIA_TYPE, "the body must be multipart/form-data"),
    })?;
    let unclaimed = Unclaimed::default();
    let source =
        Source { inner: Box::pin(chunks(body)), rest: Bytes::new(), unclaimed: unclaimed.clone(), rested: false };
    let parts = Parts {
        form: Multipart::with_constraints(source, boundary, Constraints::new()),
        part: None,
        input: input.clone(),
        descriptor: descriptor.clone(),
        seen: HashSet::new(),
        unknown_bytes: 0,
        parts: 0,
        unclaimed,
    };
    let messages = stream::unfold(Some(parts), |parts| async move {
        let mut parts = parts?;
        match parts.next().await {
            Ok(Some(message)) => Some((Ok(message), Some(parts))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Box::pin(stream::iter(first.map(Ok)).chain(messages)))
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(part) = &mut self.part {
                match part.chunks.chunk().await.map_err(broken)? {
                    // A file without a byte is a message too: it was there.
                    Some(chunk) if !chunk.is_empty() || part.is_new => {
                        part.is_new = false;
                        self.unclaimed.settle();
                        return Ok(Some(part.field.message(&chunk)));
                    }
                    Some(_) => {}
                    None => self.part = None,
                }
                continue;
            }
            let Some(part) = self.form.next_field().await.map_err(broken)? else { return Ok(None) };
            self.unclaimed.settle();
            self.parts += 1;
            if self.parts > PARTS_MAX {
                let message = format!("the form has more than {PARTS_MAX} parts");
                return Err(Error::new(Code::ResourceExhausted, reason::BODY_TOO_LARGE, message));
            }
            if let Some(message) = self.open(part).await? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a part of text, or begins with a file.
    async fn open(&mut self, mut part: multer::Field<'static>) -> Result<Option<Bytes>> {
        let name = part.name().unwrap_or_default().to_owned();
        let Some(field) = self.input.path(&name).filter(|_| !name.contains('.')) else {
            return self.skip(part).await.map(|()| None);
        };
        let path = field.proto_path();
        if !field.is_repeated() && !self.seen.insert(path.clone()) {
            let error = Error::new(Code::InvalidArgument, reason::DUPLICATE_FIELD, format!("{path} appears twice"));
            return Err(error.with_fact("field", path));
        }
        if let Some(field) = Field::bytes(&self.descriptor, &path) {
            self.part = Some(Part { field, chunks: part, is_new: true });
            return Ok(None);
        }
        let mut value = Vec::new();
        while let Some(chunk) = part.chunk().await.map_err(broken)? {
            value.extend_from_slice(&chunk);
            self.unclaimed.settle();
            if value.len() > TEXT_BYTES_MAX {
                return Err(Error::invalid(path, format!("must be at most {TEXT_BYTES_MAX} bytes")));
            }
        }
        let mut message = Message::new(&self.input);
        if field.is_text() {
            let text = str::from_utf8(&value).map_err(|_| Error::invalid(path, "must be UTF-8"))?;
            message.text(&field, text)?;
        } else {
            let read = field.append_json(&value, portico_json::Parse::default(), message.bytes_mut());
            read.map_err(|error| unfit(&value, &error, &path))?;
        }
        Ok(Some(message.into_bytes()))
    }

    async fn skip(&mut self, mut part: multer::Field<'static>) -> Result<()> {
        while let Some(chunk) = part.chunk().await.map_err(broken)? {
            self.unclaimed.settle();
            self.unknown_bytes += chunk.len();
            if self.unknown_bytes > UNKNOWN_BYTES_MAX {
                return Err(inlet::too_large(UNKNOWN_BYTES_MAX));
            }
        }
        Ok(())
    }
}

/// Bytes that the parser has taken without making anything of them. It would look for the end of a part's head forever.
#[derive(Clone, Default)]
struct Unclaimed(Arc<AtomicUsize>);

impl Unclaimed {
    fn settle(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > HEAD_BYTES_MAX
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Hands out one chunk at a time. The parser takes whatever its source has before it looks at any of it; a source that
/// says "not yet" after each chunk keeps it from buffering a whole upload.
struct Source {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>,
    rest: Bytes,
    unclaimed: Unclaimed,
    rested: bool,
}

impl Stream for Source {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if !self.rested {
            self.rested = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.unclaimed.is_too_much() {
            return Poll::Ready(Some(Err(malformed("the head of a part is too long"))));
        }
        if self.rest.is_empty() {
            match ready!(self.inner.as_mut().poll_next(cx)) {
                Some(Ok(chunk)) => self.rest = chunk,
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(CHUNK_BYTES_MAX);
        let chunk = self.rest.split_to(length);
        self.rested = false;
        self.unclaimed.add(chunk.len());
        Poll::Ready(Some(Ok(chunk)))
    }
}

fn chunks(inlet: Inlet) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::unfold(Some(inlet), |inlet| async move {
        let mut inlet = inlet?;
        match inlet.chunk().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(inlet))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Our own errors come back out of the parser as they went in.
fn broken(error: multer::Error) -> Error {
    match error {
        multer::Error::StreamReadFailed(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(_) => malformed("it could not be read"),
        },
        // The parser's own words may be the caller's.
        _ => malformed("it breaks a rule of forms"),
    }
}

/// Whether a media type is that of forms, whatever its parameters say.
fn is_form(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("multipart/form-data"))
}

fn malformed(why: &'static str) -> Error {
    Error::new(Code::InvalidArgument, reason::NOT_MULTIPART, "the body is not well-formed multipart/form-data")
        .caused_by(why)
}
