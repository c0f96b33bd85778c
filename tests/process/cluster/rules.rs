//! What may fail while a process is restarted, and while it is killed.

use crate::{
    process::load::{
        calls::AGAIN,
        ledger::{Failure, How, Member, Phase},
    },
    support::doors::refusal::Refusal,
};

/// Whether what is done to a process in its phase may break this.
pub(super) fn is_allowed(failure: &Failure) -> bool {
    let is_of = |host: &str| failure.host.as_deref() == Some(host);
    match (&failure.phase, &failure.how) {
        // What an upload that was cut had claimed is free again after a while; what is told then is when.
        (Phase::Kill(Member::Gateway(_)), How::Refused(refusal)) if refusal.reason == "upload_in_progress" => {
            refusal.may_repeat && refusal.after.is_some()
        }
        (_, How::Refused(refusal)) if refusal.reason == "instance_not_found" => failure.work == AGAIN,
        (Phase::Calm | Phase::Fault(_), _) | (_, How::Wordless(_)) => false,
        (Phase::Restart(Member::Gateway(gateway)), How::Farewell(code)) => {
            failure.gateway == *gateway && ["1012", "draining"].contains(&code.as_str())
        }
        (Phase::Restart(Member::Gateway(_)), _) => false,
        (Phase::Restart(Member::Host(host)), How::Farewell(code)) => {
            is_of(host) && ["1012", "4410", "draining"].contains(&code.as_str())
        }
        (Phase::Kill(Member::Gateway(gateway)), How::Broken(_)) => failure.gateway == *gateway,
        (Phase::Kill(Member::Gateway(_)), _) => false,
        (Phase::Kill(Member::Host(host)), How::Farewell(code)) => {
            is_of(host) && ["1011", "coordinator_lost"].contains(&code.as_str())
        }
        (Phase::Restart(Member::Host(host)), How::Refused(refusal)) => is_of(host) && is_gone(refusal),
        (Phase::Kill(Member::Host(host)), How::Refused(refusal)) => {
            let was_on_its_way = failure.work == "create" && refusal.reason == "coordinator_timeout";
            let broke = is_of(host) && ["coordinator_timeout", "coordinator_error"].contains(&refusal.reason.as_str());
            was_on_its_way || broke || is_of(host) && is_gone(refusal)
        }
        (Phase::Restart(Member::Host(_)) | Phase::Kill(Member::Host(_)), How::Broken(_)) => false,
    }
}

/// An instance ends with its host: that one is away is told with when to come back, and then that the instance has ended.
fn is_gone(refusal: &Refusal) -> bool {
    match refusal.reason.as_str() {
        "coordinator_unavailable" => refusal.may_repeat && refusal.after.is_some(),
        "instance_terminated" => !refusal.may_repeat,
        _ => false,
    }
}
