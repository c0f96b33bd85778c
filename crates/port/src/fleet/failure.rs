//! What goes wrong with hosts, in the words that the domain decides by.
//!
//! A newcomer's usual mistake is to pick a `Retry` per call site. Whether the work may have happened follows from what
//! went wrong, so it is said here, once per failure.
//!
//! *Knows:* failures of hosts. *Does not know:* which host, or what was asked.

use std::time::Duration;

use portico_base::{Code, Error, Retry, error::BoxError, reason};

/// How long to leave a host or a full fleet alone.
const PAUSE: Duration = Duration::from_secs(5);

/// The host lives and has no such instance.
pub fn lost(instance: &str) -> Error {
    Error::not_found(reason::INSTANCE_NOT_FOUND, "instance", instance)
}

/// The host has an instance of this id.
pub fn taken(instance: &str) -> Error {
    Error::new(
        Code::AlreadyExists,
        reason::INSTANCE_ID_CONFLICT,
        format!("the id {instance} is in use by another instance"),
    )
}

/// The host is out of reach; nothing was done.
pub fn unavailable(source: impl Into<BoxError>) -> Error {
    Error::unavailable(reason::COORDINATOR_UNAVAILABLE, "the host is out of reach", source).retry(Retry::After(PAUSE))
}

/// The host takes no more instances; nothing was done.
pub fn full() -> Error {
    Error::new(Code::Unavailable, reason::CAPACITY_EXHAUSTED, "every host is full").retry(Retry::After(PAUSE))
}

/// No host can take instances.
pub fn none_available() -> Error {
    Error::new(Code::Unavailable, reason::NO_COORDINATOR_AVAILABLE, "no host can take instances now")
        .retry(Retry::After(PAUSE))
}

/// The host failed; the work may have been done in part.
pub fn broken(source: impl Into<BoxError>) -> Error {
    Error::new(Code::Internal, reason::COORDINATOR_ERROR, "the host failed").retry(Retry::MayRepeat).caused_by(source)
}

/// The host did not answer in time; the work may have been done.
pub fn timeout() -> Error {
    Error::new(Code::DeadlineExceeded, reason::COORDINATOR_TIMEOUT, "the host did not answer in time")
        .retry(Retry::MayRepeat)
}

/// The host lives and cannot fetch the bundle now; nothing was done. A host that has it may do better.
pub fn unfetchable(source: impl Into<BoxError>) -> Error {
    Error::unavailable(reason::STORAGE_UNAVAILABLE, "the host cannot fetch the bundle now", source)
        .retry(Retry::After(PAUSE))
}

/// The host has no room on its disk; nothing was done. Another one may have some.
pub fn disk_full(source: impl Into<BoxError>) -> Error {
    Error::new(Code::ResourceExhausted, reason::STORAGE_FULL, "the host's disk is full")
        .retry(Retry::Safe)
        .caused_by(source)
}

/// The bundle says nothing that can be run, on whatever host.
pub fn unrunnable(why: impl Into<String>) -> Error {
    Error::new(Code::FailedPrecondition, reason::INVALID_BUNDLE, why.into())
}

/// The bundle cannot be fetched, verified or started; trying again changes nothing. `why` is shown to the caller.
pub fn undeployable(why: impl Into<String>) -> Error {
    Error::new(Code::FailedPrecondition, reason::DEPLOYMENT_FAILED, why.into())
}

/// The instance has ended.
pub fn terminated() -> Error {
    Error::new(Code::FailedPrecondition, reason::INSTANCE_TERMINATED, "the instance has ended")
}

/// The instance is not ready to talk yet.
pub fn not_ready() -> Error {
    Error::new(Code::FailedPrecondition, reason::INSTANCE_NOT_READY, "the instance is not ready yet")
        .retry(Retry::After(Duration::from_secs(1)))
}

/// The agent takes nothing now, and nothing was handed to it. It says nothing of its host.
pub fn busy() -> Error {
    Error::new(Code::ResourceExhausted, reason::INSTANCE_BUSY, "the agent does not read what it is sent")
        .retry(Retry::After(PAUSE))
}

/// The reader of a stream did not take its frames in time.
pub fn slow() -> Error {
    Error::new(Code::ResourceExhausted, reason::SLOW_CONSUMER, "frames were not taken in time; connect again")
        .retry(Retry::Safe)
}

/// The host closes; another one will answer.
pub fn draining() -> Error {
    Error::new(Code::Unavailable, reason::DRAINING, "the server is shutting down").retry(Retry::Safe)
}

/// The host broke a rule of the stream. What was said last may not have arrived.
pub fn peer(why: &'static str) -> Error {
    Error::new(Code::Internal, reason::PEER_ERROR, why).retry(Retry::MayRepeat)
}

/// The host broke off what it was carrying. What was said last may not have arrived.
pub fn gone(source: impl Into<BoxError>) -> Error {
    Error::new(Code::Unavailable, reason::COORDINATOR_LOST, "the host broke the connection; connect again")
        .retry(Retry::MayRepeat)
        .caused_by(source)
}
