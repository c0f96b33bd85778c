//! `{"code", "message", "details"}`, as the Connect protocol prints errors of unary calls.
//!
//! A newcomer's usual mistake is to drop what HTTP itself demands: a wrong verb is 405 in every dialect.
//!
//! *Knows:* the Connect specification's table of statuses. *Does not know:* Connect's framing.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::StatusCode;
use portico_wire::{
    google::rpc::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation},
    well_known,
};
use prost::{Message, Name};
use serde_json::{Value, json};

use crate::base::{Code, Error, Retry, error::Detail, reason as r};

/// The name space of reasons in `google.rpc.ErrorInfo`.
const DOMAIN: &str = "portico";

pub(super) fn status(error: &Error) -> StatusCode {
    match error.reason() {
        r::METHOD_NOT_ALLOWED => StatusCode::METHOD_NOT_ALLOWED,
        r::UPGRADE_REQUIRED => StatusCode::UPGRADE_REQUIRED,
        r::UNSUPPORTED_MEDIA_TYPE => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        r::BODY_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        // Every number in the table is a status; the fallback only satisfies the type.
        _ => StatusCode::from_u16(status_of(error.code())).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

pub(super) const fn status_of(code: Code) -> u16 {
    match code {
        Code::Canceled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unauthenticated => 401,
    }
}

pub(super) fn object(error: &Error) -> Value {
    json!({ "code": error.code().as_str(), "message": error.message(), "details": details(error) })
}

/// The same google.rpc types as in errors of Connect and gRPC calls.
fn details(error: &Error) -> Vec<Value> {
    let mut info = ErrorInfo { reason: error.reason().as_str().into(), domain: DOMAIN.into(), ..Default::default() };
    let mut fields = BadRequest::default();
    let mut details = Vec::new();
    for detail in error.details() {
        match detail {
            Detail::Fact { name, value } => {
                info.metadata.insert((*name).to_owned(), value.clone());
            }
            Detail::Field { path, reason } => {
                fields.field_violations.push(FieldViolation { field: path.clone(), description: reason.clone() });
            }
            Detail::Packed { type_name, value } => details.push(entry(type_name, value)),
        }
    }
    // What is relayed has its own details, to which nothing may be added.
    if error.reason() != r::RELAYED {
        details.push(entry(&ErrorInfo::full_name(), &info.encode_to_vec()));
    }
    if !fields.field_violations.is_empty() {
        details.push(entry(&BadRequest::full_name(), &fields.encode_to_vec()));
    }
    if let Retry::After(delay) = error.retry_hint() {
        let info = RetryInfo { retry_delay: well_known::Duration::try_from(delay).ok() };
        details.push(entry(&RetryInfo::full_name(), &info.encode_to_vec()));
    }
    details
}

fn entry(type_name: &str, value: &[u8]) -> Value {
    json!({ "type": type_name, "value": STANDARD_NO_PAD.encode(value) })
}
