//! What programs read of an error: google.rpc types that every client library knows.
//!
//! A newcomer's usual mistake is to put the reason into the message. The message is for people; programs find the reason
//! in the details, and they are the same through every door.
//!
//! *Knows:* our errors, google.rpc. *Does not know:* how a door prints details.

use std::time::Duration;

use portico_base::{Error, Reason, Retry, error::Detail, reason};
use portico_wire::{
    google::rpc::{BadRequest, ErrorInfo, RetryInfo, bad_request::FieldViolation},
    well_known,
};
use prost::{Message, Name};

/// Who says these reasons, in ErrorInfo.
const DOMAIN: &str = "portico";
/// Failures of the exchange itself, which the protocol crate finds as well as we: their code says all, and the official
/// conformance suite takes no detail with them. What is relayed has its own details.
const WITHOUT_INFO: [Reason; 6] = [
    reason::BODY_TOO_LARGE,
    reason::DEADLINE_EXCEEDED,
    reason::INVALID_MESSAGE,
    reason::NO_SUCH_ROUTE,
    reason::RELAYED,
    reason::UNSUPPORTED_MEDIA_TYPE,
];

/// The details of an error: the full name of each type, and its message as protobuf.
pub(super) fn of(error: &Error) -> Vec<(String, Vec<u8>)> {
    let mut info = ErrorInfo { reason: error.reason().as_str().into(), domain: DOMAIN.into(), ..Default::default() };
    let mut bad = BadRequest::default();
    let mut details = Vec::with_capacity(1);
    for detail in error.details() {
        match detail {
            Detail::Fact { name, value } => {
                info.metadata.insert((*name).to_owned(), value.clone());
            }
            Detail::Field { path, reason } => {
                bad.field_violations.push(FieldViolation { field: path.clone(), description: reason.clone() });
            }
            Detail::Packed { type_name, value } => details.push((type_name.to_string(), value.to_vec())),
        }
    }
    if !WITHOUT_INFO.contains(&error.reason()) {
        details.push(packed(&info));
    }
    if !bad.field_violations.is_empty() {
        details.push(packed(&bad));
    }
    // Its presence says that nothing was done; what may have been done says nothing of when to repeat it.
    let wait = match error.retry_hint() {
        Retry::After(wait) => Some(wait),
        Retry::Safe => Some(Duration::ZERO),
        Retry::Never | Retry::MayRepeat => None,
    };
    if let Some(wait) = wait {
        details.push(packed(&RetryInfo { retry_delay: well_known::Duration::try_from(wait).ok() }));
    }
    details
}

fn packed<M: Message + Name>(message: &M) -> (String, Vec<u8>) {
    (M::full_name(), message.encode_to_vec())
}
