//! `{"error": {"code", "message", "request_id", "details", "retryable"}}`.
//!
//! A newcomer's usual mistake is to print the gRPC code. Here `code` is the reason, which never changes meaning.
//!
//! *Knows:* the status of every reason. *Does not know:* who raised it.

use http::StatusCode;
use portico_base::{
    Code, Error, Reason, RequestId, Retry,
    error::Detail,
    reason::{self as r},
};
use serde_json::{Map, Value, json};

/// The status of every reason of ours.
pub(super) const STATUS: &[(Reason, u16)] = &[
    (r::INTERNAL, 500),
    (r::CANCELED, 499),
    (r::DEADLINE_EXCEEDED, 504),
    (r::NO_SUCH_ROUTE, 404),
    (r::METHOD_NOT_ALLOWED, 405),
    (r::UPGRADE_REQUIRED, 426),
    (r::UNSUPPORTED_MEDIA_TYPE, 415),
    (r::BODY_TOO_LARGE, 413),
    (r::INVALID_JSON, 400),
    (r::INVALID_MESSAGE, 400),
    (r::VALIDATION_FAILED, 422),
    (r::MISSING_FIELD, 422),
    (r::DUPLICATE_FIELD, 400),
    (r::INVALID_CURSOR, 400),
    (r::NOT_OFFERED, 501),
    (r::DRAINING, 503),
    (r::UNAUTHORIZED, 401),
    (r::CONFLICTING_CREDENTIALS, 400),
    (r::ADMIN_REQUIRED, 403),
    (r::PERMISSION_DENIED, 403),
    (r::AUTH_UNAVAILABLE, 503),
    (r::RATE_LIMITED, 429),
    (r::TOO_MANY_CONCURRENT, 429),
    (r::QUOTA_EXCEEDED, 429),
    (r::KEY_NOT_FOUND, 404),
    (r::CANNOT_REVOKE_BOOTSTRAP, 409),
    (r::TOO_MANY_PEPPERS, 409),
    (r::RECORDS_UNAVAILABLE, 503),
    (r::STORAGE_ERROR, 502),
    (r::STORAGE_UNAVAILABLE, 503),
    (r::STORAGE_TIMEOUT, 504),
    (r::STORAGE_FULL, 507),
    (r::REGISTRY_UNAVAILABLE, 503),
    (r::CONFLICT, 409),
    (r::NOT_MULTIPART, 400),
    (r::EMPTY_BUNDLE, 400),
    (r::NOT_GZIP, 400),
    (r::CORRUPT_GZIP, 400),
    (r::NOT_TAR, 400),
    (r::CORRUPT_TAR, 400),
    (r::UNSAFE_ARCHIVE_ENTRY, 400),
    (r::BUNDLE_TOO_LARGE, 413),
    (r::BUNDLE_EXPANDS_TOO_LARGE, 413),
    (r::INVALID_AGENT_TYPE, 422),
    (r::INVALID_VERSION, 422),
    (r::VERSION_CONFLICT, 409),
    (r::UPLOAD_IN_PROGRESS, 409),
    (r::UPLOAD_TIMEOUT, 408),
    (r::AGENT_TYPE_OWNED, 403),
    (r::DEPLOYMENT_NOT_FOUND, 404),
    (r::INVALID_DEPLOYMENT_ID, 422),
    (r::DEPLOYMENT_HASH_MISMATCH, 409),
    (r::INVALID_BUNDLE, 422),
    (r::DEPLOYMENT_FAILED, 502),
    (r::INSTANCE_NOT_FOUND, 404),
    (r::INSTANCE_ID_CONFLICT, 409),
    (r::IDEMPOTENCY_CONFLICT, 409),
    (r::INSTANCE_NOT_READY, 409),
    (r::INSTANCE_BUSY, 429),
    (r::INSTANCE_TERMINATED, 410),
    (r::SLOW_CONSUMER, 503),
    (r::PEER_ERROR, 502),
    (r::NO_COORDINATOR_AVAILABLE, 503),
    (r::CAPACITY_EXHAUSTED, 503),
    (r::COORDINATOR_UNAVAILABLE, 503),
    (r::COORDINATOR_ERROR, 502),
    (r::COORDINATOR_TIMEOUT, 504),
    (r::COORDINATOR_LOST, 502),
    (r::INVALID_PATH, 400),
    (r::FILE_NOT_FOUND, 404),
    (r::FILE_TOO_LARGE, 413),
    (r::SECRETS_NOT_FOUND, 404),
    (r::SECRETS_UNDECRYPTABLE, 500),
    (r::VERSION_MISMATCH, 412),
    (r::READ_ONLY_FIELD, 422),
    (r::ENSEMBLE_NOT_CONFIGURED, 503),
    (r::ENSEMBLE_AUTH_FAILED, 502),
    (r::ENSEMBLE_BAD_RESPONSE, 502),
    (r::ENSEMBLE_ERROR, 502),
    (r::ENSEMBLE_UNAVAILABLE, 503),
    (r::ENSEMBLE_TIMEOUT, 504),
];

/// Reasons that say nothing by themselves; the code decides.
#[cfg(test)]
pub(super) const BY_CODE: &[Reason] = &[r::RELAYED];

pub(super) fn status(error: &Error) -> StatusCode {
    let listed = STATUS.iter().find(|(reason, _)| *reason == error.reason()).map(|(_, status)| *status);
    // Every number in the tables is a status; the fallback only satisfies the type.
    StatusCode::from_u16(listed.unwrap_or(status_of(error.code()))).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

pub(super) fn status_of(code: Code) -> u16 {
    match code {
        Code::FailedPrecondition => 409,
        other => super::connect::status_of(other),
    }
}

/// The error without its envelope.
pub(super) fn object(error: &Error, id: &RequestId) -> Value {
    let mut object = Map::new();
    object.insert("code".to_owned(), error.reason().as_str().into());
    object.insert("message".to_owned(), error.message().into());
    object.insert("request_id".to_owned(), id.as_str().into());
    let details = details(error);
    if !details.is_empty() {
        object.insert("details".to_owned(), details.into());
    }
    object.insert("retryable".to_owned(), is_retryable(error.retry_hint()).into());
    object.into()
}

fn details(error: &Error) -> Map<String, Value> {
    let mut details = Map::new();
    let mut fields = Vec::new();
    for detail in error.details() {
        match detail {
            Detail::Field { path, reason } => fields.push(json!({ "path": path, "reason": reason })),
            Detail::Fact { name, value } => {
                details.insert((*name).to_owned(), value.as_str().into());
            }
            // A message for gRPC callers; this page has no place for it.
            Detail::Packed { .. } => {}
        }
    }
    if !fields.is_empty() {
        details.insert("fields".to_owned(), fields.into());
    }
    details
}

/// True only where repeating the call cannot do the work twice, since callers repeat what is retryable.
fn is_retryable(retry: Retry) -> bool {
    match retry {
        Retry::After(_) | Retry::Safe => true,
        Retry::Never | Retry::MayRepeat => false,
    }
}
