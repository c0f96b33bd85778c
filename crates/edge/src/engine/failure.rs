//! Errors between the house and the engine.
//!
//! A newcomer's usual mistake is to compare messages. The engine finds failures too, and words them its own way: codes are
//! what both sides share.
//!
//! *Knows:* both error types. *Does not know:* who raised them.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use connectrpc::{ConnectError, ConnectRpcBody, ErrorCode, ErrorDetail};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full};
use portico_base::{Code, Error, Reason, Retry, reason, reply};
use serde_json::Value;

use super::{GRPC_STATUS, plain::ENVELOPE_BYTES};
use crate::{Protocol, details, dialect::whole_seconds};

/// Our error for the engine, with what the handler had said beside its answer.
pub(super) fn to_connect(error: &Error, said: Option<reply::Parts>) -> ConnectError {
    let mut raised = raised(error);
    if let Some(said) = said {
        raised.set_response_headers(said.headers);
        raised.set_trailers(said.trailers);
    }
    if let Some(metadata) = error.metadata() {
        append(raised.response_headers_mut(), metadata);
    }
    if error.code() == Code::Unauthenticated {
        raised.response_headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Retry::After(wait) = error.retry_hint() {
        raised.response_headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    raised
}

/// The same in the middle of a stream, where headers have left: everything goes into the trailers.
pub(super) fn to_connect_late(error: &Error, trailers: &HeaderMap) -> ConnectError {
    let mut raised = raised(error);
    if let Some(metadata) = error.metadata() {
        // Trailers of the error replace those of the stream, so they have to hold both.
        let mut both = trailers.clone();
        append(&mut both, metadata);
        raised.set_trailers(both);
    }
    raised
}

fn raised(error: &Error) -> ConnectError {
    let code = ErrorCode::from_grpc_code(error.code() as u32).unwrap_or(ErrorCode::Unknown);
    let mut raised = ConnectError::new(code, error.message());
    raised.details = details(error);
    if error.reason() == reason::NO_SUCH_ROUTE {
        raised = raised.with_http_status(StatusCode::NOT_FOUND);
    }
    raised
}

/// What the engine found wrong while it read the request, as our error.
pub(super) fn from_connect(found: &ConnectError) -> Error {
    let code = i32::try_from(found.code.grpc_code()).ok().and_then(Code::from_number).unwrap_or(Code::Unknown);
    Error::new(code, reason_of(code), found.message.clone().unwrap_or_default())
}

/// The failure that the engine answered with by itself, for the record: all of the answer is there.
pub(super) fn told(answer: &mut Response<ConnectRpcBody>, protocol: Protocol) -> Error {
    let body = answer.body_mut().collect().now_or_never();
    let bytes = body.and_then(std::result::Result::ok).map(Collected::to_bytes).unwrap_or_default();
    *answer.body_mut() = ConnectRpcBody::Full(Full::new(bytes.clone()));
    let code = match protocol {
        Protocol::Connect => named(&bytes),
        Protocol::ConnectStream => named(bytes.get(ENVELOPE_BYTES..).unwrap_or_default()),
        Protocol::Grpc | Protocol::GrpcWeb | Protocol::GrpcWebText => numbered(answer.headers(), &bytes),
    };
    let code = code.unwrap_or(Code::Internal);
    Error::new(code, reason_of(code), "refused by the protocol engine")
}

/// The code of Connect's error object, which is the answer or stands in the last message.
fn named(json: &[u8]) -> Option<Code> {
    let json: Value = serde_json::from_slice(json).ok()?;
    let name = json.get("error").unwrap_or(&json).get("code")?.as_str()?;
    Code::ALL.into_iter().find(|code| code.as_str() == name)
}

/// The status of gRPC, which is a header, or with gRPC-Web a line of the last message.
fn numbered(headers: &HeaderMap, body: &[u8]) -> Option<Code> {
    let status = headers.get(GRPC_STATUS).and_then(|status| status.to_str().ok());
    let trailers = body.get(ENVELOPE_BYTES..).and_then(|trailers| std::str::from_utf8(trailers).ok());
    let line = || trailers?.lines().find_map(|line| line.strip_prefix("grpc-status:"));
    status.or_else(line)?.trim().parse().ok().and_then(Code::from_number)
}

fn reason_of(code: Code) -> Reason {
    match code {
        Code::Canceled => reason::CANCELED,
        Code::DeadlineExceeded => reason::DEADLINE_EXCEEDED,
        Code::ResourceExhausted => reason::BODY_TOO_LARGE,
        Code::InvalidArgument | Code::Unimplemented => reason::INVALID_MESSAGE,
        _ => reason::INTERNAL,
    }
}

fn details(error: &Error) -> Vec<ErrorDetail> {
    let detail = |(type_url, value)| ErrorDetail {
        type_url,
        value: Some(STANDARD_NO_PAD.encode::<Vec<u8>>(value)),
        debug: None,
    };
    details::of(error).into_iter().map(detail).collect()
}

fn append(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.append(name, value.clone());
    }
}
