//! A mixed load: unary calls on all doors, uploads, tunnels and log streams, by callers that note what was acknowledged.

pub(super) mod calls;
pub(super) mod ledger;
pub(super) mod talk;
pub(super) mod worker;
