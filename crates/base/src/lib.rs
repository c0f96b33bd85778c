//! What everything in Portico stands on: the words every layer shares.
//!
//! A newcomer's usual mistake is to look here for behaviour. There is none: these types carry meaning between layers
//! (who calls, until when, what went wrong) and nothing in this crate decides anything about the platform.
//!
//! *Knows:* errors, callers, contexts, pages, health, time, identifiers, secrets, tasks, values that are replaced.
//! *Does not know:* HTTP handling, protobuf, storage, or any other layer.

pub mod caller;
pub mod clock;
pub mod context;
pub mod current;
pub mod error;
pub mod health;
pub mod id;
pub mod metadata;
pub mod network;
pub mod page;
pub mod reason;
pub mod reply;
pub mod secret;
pub mod stream;
pub mod tasks;
pub mod trace;

pub use caller::{Caller, IdentityId, TenantId};
pub use clock::{Clock, Timestamp};
pub use context::{Context, Deadline, Facts, RequestId};
pub use current::Current;
pub use error::{Code, Error, Result, Retry};
pub use reason::Reason;
pub use secret::Secret;
pub use stream::{Incoming, Outgoing};
pub use trace::Trace;
