//! The answer of a call becomes an HTTP response.
//!
//! A newcomer's usual mistake is to choose the status by the verb. A handler says what happened, the proto file says which
//! status that is.
//!
//! *Knows:* outcomes, statuses, JSON by the codec, entity tags. *Does not know:* errors (the dialect prints them).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header, request::Parts};
use http_body_util::{BodyExt, Full};
use portico_base::{
    Error, Result,
    reply::{self, Outcome},
};
use portico_json::{FieldPath, JsonError};
use portico_schema as schema;

use super::raw::Download;
use crate::{Body, known};

/// What of the request decides how the answer looks.
pub(super) struct Asked {
    /// The entity tags that the caller has, where that matters.
    pub(super) has: Option<HeaderValue>,
    /// Whether trailers arrive.
    pub(super) takes_trailers: bool,
}

impl Asked {
    pub(super) fn of(head: &Parts, headers: &HeaderMap) -> Asked {
        let reads = head.method == Method::GET || head.method == Method::HEAD;
        Asked {
            has: headers.get(header::IF_NONE_MATCH).filter(|_| reads).cloned(),
            takes_trailers: head.version == Version::HTTP_2,
        }
    }
}

/// The response to a call that answered with one message.
///
/// # Errors
/// When the message cannot be printed, which is a fault of ours.
pub(super) fn unary(
    method: &schema::Method,
    response: Option<&FieldPath>,
    download: Option<&Download>,
    message: &Bytes,
    parts: reply::Parts,
    asked: &Asked,
) -> Result<Response<Body>> {
    let status = status(&method.rest, parts.outcome);
    let mut headers = parts.headers;
    let (status, content) = if status == StatusCode::NO_CONTENT {
        (status, Bytes::new())
    } else if status == StatusCode::OK && !parts.tag_is_partial && is_known(&headers, asked) {
        (StatusCode::NOT_MODIFIED, Bytes::new())
    } else if let Some(download) = download {
        download.describe(message, &mut headers);
        (status, download.content(message))
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (status, json(method, response, message).map_err(Error::internal)?)
    };
    let is_empty = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let trailers = if is_empty { HeaderMap::new() } else { parts.trailers };
    let body = if trailers.is_empty() {
        Body::from(content)
    } else if asked.takes_trailers {
        Body::boxed(Full::new(content).map_err(|never| match never {}).with_trailers(async { Some(Ok(trailers)) }))
    } else {
        // Nothing has been sent yet, so what was meant to come last may as well come first.
        headers.extend(trailers);
        Body::from(content)
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// The response to a call that answers with a stream.
pub(super) fn stream(
    method: &schema::Method,
    parts: reply::Parts,
    content_type: HeaderValue,
    body: Body,
) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status(&method.rest, parts.outcome);
    *answer.headers_mut() = parts.headers;
    answer.headers_mut().entry(header::CONTENT_TYPE).or_insert(content_type);
    answer
}

/// Adds to a refusal what the handler had said beside its answer. Of what both say, the refusal is right.
pub(crate) fn beside(refusal: &mut Response<Body>, parts: reply::Parts) {
    let headers = refusal.headers_mut();
    // As with any answer that has not begun, what was meant to come last may as well come first.
    for said in [parts.headers, parts.trailers] {
        let more: HeaderMap = said.iter().filter(|(name, _)| !headers.contains_key(*name)).map(owned).collect();
        headers.extend(more);
    }
}

fn owned((name, value): (&HeaderName, &HeaderValue)) -> (HeaderName, HeaderValue) {
    (name.clone(), value.clone())
}

fn status(rest: &schema::Rest, outcome: Outcome) -> StatusCode {
    let status = match outcome {
        Outcome::Done => rest.success,
        Outcome::Existing => rest.existing,
        Outcome::OutOfService => rest.out_of_service,
    };
    // The schema was read with these numbers; one that is no status is answered as a plain success.
    StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
}

fn json(method: &schema::Method, response: Option<&FieldPath>, message: &Bytes) -> Result<Bytes, JsonError> {
    let mut out = Vec::with_capacity(message.len() * 2 + JSON_ROOM);
    let style = method.style();
    match response {
        Some(field) => field.encode(message, style, &mut out)?,
        None => method.output.encode(message, style, &mut out)?,
    }
    Ok(out.into())
}

/// Room for names and defaults, so that a small answer is written without growing.
const JSON_ROOM: usize = 256;

/// Whether the caller has this very answer: any of its tags equals ours, weakly compared.
fn is_known(headers: &HeaderMap, asked: &Asked) -> bool {
    let (ours, theirs) = (headers.get(header::ETAG), asked.has.as_ref());
    ours.zip(theirs).is_some_and(|(ours, theirs)| known::means(theirs, ours))
}
