//! Errors between the house and the engine.
//!
//! A newcomer's usual mistake is to put the reason into the message. The message is for people; programs find the reason
//! in the details, as google.rpc types that every client library knows.
//!
//! *Knows:* both error types. *Does not know:* who raised them.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use connectrpc::{ConnectError, ErrorCode, ErrorDetail};
use http::{HeaderMap, HeaderName, Response, StatusCode};
use portico_wire::{
    google::rpc::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation},
    well_known,
};
use prost::Message;

use crate::base::{Code, Error, Reason, Retry, error::Detail, reason, reply};

/// Who says these reasons, in ErrorInfo.
const DOMAIN: &str = "portico";
/// Failures of the exchange itself. Their code says all, and they look the same whether we or the engine find them; what
/// is relayed has its own details.
const WITHOUT_INFO: [Reason; 8] = [
    reason::BODY_TOO_LARGE,
    reason::CANCELED,
    reason::DEADLINE_EXCEEDED,
    reason::INVALID_JSON,
    reason::INVALID_MESSAGE,
    reason::NO_SUCH_ROUTE,
    reason::RELAYED,
    reason::UNSUPPORTED_MEDIA_TYPE,
];
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Our error for the engine, with what the handler had said beside its answer.
pub(super) fn to_connect(error: &Error, said: Option<reply::Parts>) -> ConnectError {
    let code = ErrorCode::from_grpc_code(error.code() as u32).unwrap_or(ErrorCode::Unknown);
    let mut raised = ConnectError::new(code, error.message());
    raised.details = details(error);
    if error.reason() == reason::NO_SUCH_ROUTE {
        raised = raised.with_http_status(StatusCode::NOT_FOUND);
    }
    if let Some(said) = said {
        raised.set_response_headers(said.headers);
        raised.set_trailers(said.trailers);
    }
    if let Some(metadata) = error.metadata() {
        append(raised.response_headers_mut(), metadata);
    }
    raised
}

/// The same in the middle of a stream, where headers have left: everything goes into the trailers.
pub(super) fn to_connect_late(error: &Error, trailers: &HeaderMap) -> ConnectError {
    let mut raised = to_connect(error, None);
    if let Some(metadata) = error.metadata() {
        // Trailers of the error replace those of the stream, so they have to hold both.
        let mut both = trailers.clone();
        append(&mut both, metadata);
        raised.set_trailers(both);
    }
    raised
}

/// What the engine found wrong while it read the request, as our error.
pub(super) fn from_connect(found: &ConnectError) -> Error {
    let code = i32::try_from(found.code.grpc_code()).ok().and_then(Code::from_number).unwrap_or(Code::Unknown);
    Error::new(code, reason_of(code), found.message.clone().unwrap_or_default())
}

/// The failure that an answer's head tells of, for the record. Only counts when nobody noted a better one.
pub(super) fn seen<B>(answer: &Response<B>) -> Option<Error> {
    let code = match answer.headers().get(&GRPC_STATUS) {
        Some(status) => status.to_str().ok()?.parse().ok().and_then(Code::from_number)?,
        None => match answer.status().as_u16() {
            200..=299 => return None,
            400 | 413 => Code::InvalidArgument,
            429 => Code::ResourceExhausted,
            501 | 404 => Code::Unimplemented,
            504 => Code::DeadlineExceeded,
            _ => Code::Internal,
        },
    };
    Some(Error::new(code, reason_of(code), "refused by the protocol engine"))
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
    let mut details = Vec::with_capacity(1);
    let mut info =
        ErrorInfo { reason: error.reason().as_str().to_owned(), domain: DOMAIN.to_owned(), ..Default::default() };
    let mut bad = BadRequest::default();
    for detail in error.details() {
        match detail {
            Detail::Field { path, reason } => {
                bad.field_violations.push(FieldViolation { field: path.clone(), description: reason.clone() });
            }
            Detail::Fact { name, value } => {
                info.metadata.insert((*name).to_owned(), value.clone());
            }
            Detail::Packed { type_name, value } => details.push(packed(type_name, value)),
        }
    }
    if !WITHOUT_INFO.contains(&error.reason()) {
        details.push(packed("google.rpc.ErrorInfo", &info.encode_to_vec()));
    }
    if !bad.field_violations.is_empty() {
        details.push(packed("google.rpc.BadRequest", &bad.encode_to_vec()));
    }
    if let Retry::After(wait) = error.retry_hint() {
        let retry_delay = well_known::Duration::try_from(wait).ok();
        details.push(packed("google.rpc.RetryInfo", &RetryInfo { retry_delay }.encode_to_vec()));
    }
    details
}

fn packed(type_name: &str, value: &[u8]) -> ErrorDetail {
    ErrorDetail { type_url: type_name.to_owned(), value: Some(STANDARD_NO_PAD.encode(value)), debug: None }
}

fn append(headers: &mut HeaderMap, more: &HeaderMap) {
    for (name, value) in more {
        headers.append(name, value.clone());
    }
}
