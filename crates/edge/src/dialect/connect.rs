//! `{"code", "message", "details"}`, as the Connect protocol prints errors of unary calls.
//!
//! A newcomer's usual mistake is to drop what HTTP itself demands: a wrong verb is 405 in every dialect.
//!
//! *Knows:* the Connect specification's table of statuses. *Does not know:* Connect's framing.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::StatusCode;
use portico_base::{Code, Error, reason as r};
use serde_json::{Value, json};

use crate::details;

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

fn details(error: &Error) -> Vec<Value> {
    let entry =
        |(type_name, value): (String, Vec<u8>)| json!({ "type": type_name, "value": STANDARD_NO_PAD.encode(value) });
    details::of(error).into_iter().map(entry).collect()
}
