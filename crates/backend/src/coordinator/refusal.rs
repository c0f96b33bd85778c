//! What a host's refusal means, in the words that the domain decides by.
//!
//! A newcomer's usual mistake is to trust a status alone. A host of ours says its reason; of another maker only the status
//! is known, and what it means follows from what was asked. A page for people is no host's answer: whoever stands before it
//! may say 404 too, and nothing of the instance.
//!
//! *Knows:* statuses and reasons of hosts. *Does not know:* which host.

use http::StatusCode;
use portico_base::{Code, Error, Reason, error::BoxError, reason as r};
use portico_port::fleet::failure;

use super::{
    said::{Problem, Refusal},
    transport::{ANSWER_BYTES_MAX, LIST_BYTES_MAX},
};

/// What was asked, as far as it changes what a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The host itself.
    Host,
    /// A new instance: 404 is the deployment's.
    Create,
    /// An instance by a route that every host has.
    Instance,
    /// An instance by a route that is ours: a host of another maker may not have it.
    Extension,
    /// The end of an instance, by a route that every host has: who has no such route runs no such instance.
    End,
}

impl About {
    /// How long an answer may be.
    pub(super) fn answer_bytes_max(self) -> usize {
        match self {
            About::Host | About::Create | About::End => ANSWER_BYTES_MAX,
            About::Instance | About::Extension => LIST_BYTES_MAX,
        }
    }
}

/// Reasons that are told on as they are.
const TOLD_ON: &[(Reason, Code)] = &[
    (r::FILE_NOT_FOUND, Code::NotFound),
    (r::FILE_TOO_LARGE, Code::ResourceExhausted),
    (r::INVALID_PATH, Code::InvalidArgument),
    (r::VALIDATION_FAILED, Code::InvalidArgument),
    (r::MISSING_FIELD, Code::InvalidArgument),
    (r::TOO_MANY_CONCURRENT, Code::ResourceExhausted),
    (r::BODY_TOO_LARGE, Code::ResourceExhausted),
    (r::DEPLOYMENT_NOT_FOUND, Code::NotFound),
];

/// The error that an answer with this status and body means. `subject` is the instance, where there is one.
pub(super) fn of(status: StatusCode, body: &[u8], about: About, subject: &str) -> Error {
    let problem = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error).unwrap_or_default();
    if let Some(error) = told(&problem, subject) {
        return error;
    }
    let said = format!("status {}: {}", status.as_u16(), problem.code);
    match (status.as_u16(), about) {
        (404, About::Create) => Error::new(Code::NotFound, r::DEPLOYMENT_NOT_FOUND, "the host cannot find the bundle"),
        (404, About::Instance) if !is_page(body) => failure::lost(subject),
        (404, About::End) => failure::lost(subject),
        (404, About::Instance) | (404 | 405 | 501, About::Extension) => {
            Error::new(Code::Unimplemented, r::NOT_OFFERED, "the instance's host does not offer it").caused_by(said)
        }
        (409, About::Create) => failure::taken(subject),
        (409, _) => failure::not_ready(),
        (410, _) => failure::terminated(),
        (400 | 413 | 422, _) => {
            Error::new(Code::InvalidArgument, r::VALIDATION_FAILED, "the host refuses the request").caused_by(said)
        }
        (429, _) => failure::full(),
        (503, _) => failure::unavailable(said),
        (504, _) => failure::timeout(),
        _ => failure::broken(said),
    }
}

/// Whether this is HTML or XML.
fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// The error that a host's own reason means, if it is one of ours.
pub(super) fn told(problem: &Problem, subject: &str) -> Option<Error> {
    let cause: BoxError = problem.message.clone().into();
    Some(match problem.code.as_str() {
        "instance_not_found" => failure::lost(subject),
        "instance_id_conflict" => failure::taken(subject),
        "instance_not_ready" => failure::not_ready(),
        "instance_busy" => failure::busy(),
        "instance_terminated" => failure::terminated(),
        "invalid_bundle" => failure::unrunnable(problem.message.clone()),
        "deployment_failed" => failure::undeployable(problem.message.clone()),
        "capacity_exhausted" => failure::full(),
        "draining" => failure::draining(),
        "slow_consumer" => failure::slow(),
        // The host is well; its store is away, and nothing was begun.
        "storage_unavailable" | "storage_timeout" => failure::unfetchable(cause),
        "storage_full" => failure::disk_full(cause),
        "coordinator_unavailable" => failure::unavailable(cause),
        "coordinator_timeout" => failure::timeout(),
        other => {
            let (reason, code) = TOLD_ON.iter().find(|(reason, _)| reason.as_str() == other)?;
            Error::new(*code, *reason, problem.message.clone())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_base::Retry;

    #[test]
    fn refusals_say_whether_another_host_may_be_asked() {
        let html = "<html>Bad gateway</html>";
        let full = r#"{"error": {"code": "capacity_exhausted", "message": "full"}}"#;
        let no_room = r#"{"error": {"code": "storage_full", "message": "no room"}}"#;
        let missing = r#"{"error": {"code": "instance_not_found", "message": "no"}}"#;
        let foreign = r#"{"error": {"code": "no_such_agent"}}"#;
        for (status, body, about, reason, again) in [
            (502, html, About::Create, r::COORDINATOR_ERROR, Retry::MayRepeat),
            (500, "", About::Instance, r::COORDINATOR_ERROR, Retry::MayRepeat),
            (301, "", About::Instance, r::COORDINATOR_ERROR, Retry::MayRepeat),
            (401, "", About::Instance, r::COORDINATOR_ERROR, Retry::MayRepeat),
            (422, "", About::Create, r::VALIDATION_FAILED, Retry::Never),
            (404, "", About::Create, r::DEPLOYMENT_NOT_FOUND, Retry::Never),
            (404, foreign, About::Instance, r::INSTANCE_NOT_FOUND, Retry::Never),
            (404, "", About::Instance, r::INSTANCE_NOT_FOUND, Retry::Never),
            (404, html, About::Instance, r::NOT_OFFERED, Retry::Never),
            (404, r#"{"message": "no"}"#, About::Instance, r::INSTANCE_NOT_FOUND, Retry::Never),
            (404, html, About::End, r::INSTANCE_NOT_FOUND, Retry::Never),
            (404, missing, About::Extension, r::INSTANCE_NOT_FOUND, Retry::Never),
            (507, no_room, About::Create, r::STORAGE_FULL, Retry::Safe),
            (404, html, About::Extension, r::NOT_OFFERED, Retry::Never),
            (409, "", About::Create, r::INSTANCE_ID_CONFLICT, Retry::Never),
        ] {
            let error = of(StatusCode::from_u16(status).unwrap(), body.as_bytes(), about, "a");
            assert_eq!((error.reason(), error.retry_hint()), (reason, again), "{status} {about:?}");
        }
        let unfetched = r#"{"error": {"code": "storage_unavailable", "message": "away"}}"#;
        for (status, body, reason) in [
            (503, full, r::CAPACITY_EXHAUSTED),
            (503, html, r::COORDINATOR_UNAVAILABLE),
            (429, "", r::CAPACITY_EXHAUSTED),
            (503, unfetched, r::STORAGE_UNAVAILABLE),
        ] {
            let error = of(StatusCode::from_u16(status).unwrap(), body.as_bytes(), About::Create, "a");
            assert!(error.reason() == reason && matches!(error.retry_hint(), Retry::After(_)), "{status} {body}");
        }
    }
}
