//! What a failure of S3 means to a caller.
//!
//! A newcomer's usual mistake is to match on types of exceptions. Makers differ in them; the HTTP status and the code in the
//! answer are what they agree on.
//!
//! *Knows:* statuses and codes. *Does not know:* what was asked.

use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use portico_base::{Code, Error, Retry, error::BoxError, reason};

/// When to come back.
const COME_BACK: Duration = Duration::from_secs(1);

/// What makers say when nothing more fits, with statuses of all kinds.
const FULL: [&str; 3] = ["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"];
/// What they say when they are asked too often.
const THROTTLED: [&str; 8] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];

type Failed<E> = SdkError<E, aws_sdk_s3::config::http::HttpResponse>;

/// What the failure means. `doing` follows "could not".
pub(super) fn of<E>(doing: &'static str, error: Failed<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let failed = match (&error, code(&error), status(&error)) {
        (SdkError::TimeoutError(_), ..) => late(),
        (SdkError::DispatchFailure(failure), ..) if failure.is_timeout() => late(),
        (_, Some("RequestTimeout"), _) => late(),
        (_, Some("NoSuchBucket"), _) => refused("the bucket of the blob store does not exist"),
        (_, Some(code), _) if FULL.contains(&code) => full(),
        (.., Some(507)) => full(),
        (_, Some(code), _) if THROTTLED.contains(&code) => throttled(),
        (.., Some(429)) => throttled(),
        (.., Some(401 | 403)) => refused("the blob store does not accept the gateway's credentials"),
        (.., Some(400..=499 | 501)) => refused(&format!("the blob store refused to {doing}")),
        _ => Error::new(Code::Unavailable, reason::STORAGE_UNAVAILABLE, "the blob store does not answer")
            .retry(Retry::After(COME_BACK)),
    };
    failed.caused_by(aws_sdk_s3::error::DisplayErrorContext(error).to_string())
}

/// The store broke off in the middle of an object.
pub(super) fn broken_off(error: impl Into<BoxError>) -> Error {
    let message = "the blob store broke off in the middle of an object";
    Error::new(Code::Unavailable, reason::STORAGE_UNAVAILABLE, message).retry(Retry::Safe).caused_by(error)
}

/// The code in the answer.
pub(super) fn code<E: ProvideErrorMetadata>(error: &Failed<E>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// The status of the answer, if there was one.
pub(super) fn status<E>(error: &Failed<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// There is nothing under this key. A missing bucket is not that.
pub(super) fn is_absent<E: ProvideErrorMetadata>(error: &Failed<E>) -> bool {
    status(error) == Some(404) && code(error) != Some("NoSuchBucket")
}

/// Too many uploads at the same time.
pub(super) fn busy(come_back: Duration) -> Error {
    Error::new(Code::Unavailable, reason::STORAGE_UNAVAILABLE, "too many uploads at the same time")
        .retry(Retry::After(come_back))
}

fn late() -> Error {
    Error::new(Code::Unavailable, reason::STORAGE_TIMEOUT, "the blob store does not answer in time")
        .retry(Retry::After(COME_BACK))
}

fn full() -> Error {
    Error::new(Code::ResourceExhausted, reason::STORAGE_FULL, "the blob store is full").retry(Retry::Safe)
}

fn throttled() -> Error {
    let message = "the blob store asks for fewer requests";
    Error::new(Code::Unavailable, reason::STORAGE_UNAVAILABLE, message).retry(Retry::After(COME_BACK))
}

fn refused(message: &str) -> Error {
    Error::new(Code::Unavailable, reason::STORAGE_ERROR, message.to_owned()).retry(Retry::After(COME_BACK))
}
