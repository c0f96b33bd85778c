//! Stable, machine-readable reasons for errors.
//!
//! A newcomer's usual mistake is to invent a reason at the call site. Reasons are part of the interface: each is listed
//! here once with the sentence that documents it, and the error reference is generated from this table.
//!
//! *Knows:* every reason Portico can answer with. *Does not know:* who raises it, or the status it gets on a page.

use std::fmt;

/// A snake_case constant that programs may match on. It never changes meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// The text as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: Reason = Reason($text);)+

        /// Every reason with the sentence that documents it, in the order of this file.
        pub const ALL: &[(Reason, &str)] = &[$(($name, concat!($($doc),+))),+];
    };
}

reasons! {
    // Any call.
    /// An invariant of the server is broken. The request id leads to the log line.
    INTERNAL = "internal";
    /// The caller hung up before the answer was ready.
    CANCELED = "canceled";
    /// The deadline passed before the work was done.
    DEADLINE_EXCEEDED = "deadline_exceeded";
    /// No route or method answers to this path.
    NO_SUCH_ROUTE = "not_found";
    /// The path exists, but not for this HTTP method. The Allow header lists those that it takes.
    METHOD_NOT_ALLOWED = "method_not_allowed";
    /// The path is that of a WebSocket, and the request is no WebSocket handshake.
    UPGRADE_REQUIRED = "upgrade_required";
    /// The Content-Type is not one that this route takes.
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type";
    /// The body is larger than this route takes.
    BODY_TOO_LARGE = "body_too_large";
    /// The body is not well-formed JSON, or does not fit the message.
    INVALID_JSON = "invalid_json";
    /// The message could not be decoded.
    INVALID_MESSAGE = "invalid_message";
    /// The request is well-formed, but a field breaks a rule. The details name the fields.
    VALIDATION_FAILED = "validation_failed";
    /// A required field is missing.
    MISSING_FIELD = "missing_field";
    /// A field that may appear once appears twice.
    DUPLICATE_FIELD = "duplicate_field";
    /// A page cursor was not made by this server for this list.
    INVALID_CURSOR = "invalid_cursor";
    /// The method is declared, but this installation does not offer it.
    NOT_OFFERED = "not_offered";
    /// The service behind the gateway failed in its own words. They are passed on as they came, with nothing added.
    RELAYED = "relayed";
    /// The server is shutting down; another one will answer.
    DRAINING = "draining";

    // Who calls, and may they.
    /// No credential, or one that is malformed, unknown, revoked or expired. One reason for all, so that nothing is learned by guessing.
    UNAUTHORIZED = "unauthorized";
    /// Two different credentials came with one request.
    CONFLICTING_CREDENTIALS = "conflicting_credentials";
    /// The method is for administrators.
    ADMIN_REQUIRED = "admin_required";
    /// The key lacks the permission that the method asks for.
    PERMISSION_DENIED = "permission_denied";
    /// The key store is out of reach, so the key could not be checked.
    AUTH_UNAVAILABLE = "auth_unavailable";
    /// Too many calls by this key or from this address. Retry-After says when to come back.
    RATE_LIMITED = "rate_limited";
    /// Too many calls of this key, or of this address without one, at the same time.
    TOO_MANY_CONCURRENT = "too_many_concurrent";
    /// A quota of the tenant is used up.
    QUOTA_EXCEEDED = "quota_exceeded";

    // Keys.
    /// No key has this id or prefix.
    KEY_NOT_FOUND = "key_not_found";
    /// The bootstrap admin key lives in the configuration and cannot be revoked by a call.
    CANNOT_REVOKE_BOOTSTRAP = "cannot_revoke_bootstrap";
    /// Earlier peppers are still needed by keys that were not used since.
    TOO_MANY_PEPPERS = "too_many_peppers";

    // Stores.
    /// The record store is out of reach.
    RECORDS_UNAVAILABLE = "records_unavailable";
    /// The blob store refused.
    STORAGE_ERROR = "storage_error";
    /// The blob store is out of reach.
    STORAGE_UNAVAILABLE = "storage_unavailable";
    /// The blob store did not answer in time.
    STORAGE_TIMEOUT = "storage_timeout";
    /// The disk for uploads, or that of every host that was asked, is full.
    STORAGE_FULL = "storage_full";
    /// The registry is out of reach.
    REGISTRY_UNAVAILABLE = "registry_unavailable";
    /// A concurrent change won; read again and retry.
    CONFLICT = "conflict";

    // Deployments.
    /// The body is not multipart/form-data, or its boundary is broken.
    NOT_MULTIPART = "not_multipart";
    /// The bundle is empty, or has no regular file.
    EMPTY_BUNDLE = "empty_bundle";
    /// The bundle does not begin like gzip.
    NOT_GZIP = "not_gzip";
    /// The gzip stream is damaged, truncated or followed by other bytes.
    CORRUPT_GZIP = "corrupt_gzip";
    /// The bundle does not hold a tar archive.
    NOT_TAR = "not_tar";
    /// The tar archive is damaged or truncated.
    CORRUPT_TAR = "corrupt_tar";
    /// An entry of the archive would escape its root, or is of a kind that is not taken. The details name it.
    UNSAFE_ARCHIVE_ENTRY = "unsafe_archive_entry";
    /// The compressed bundle is over the limit.
    BUNDLE_TOO_LARGE = "bundle_too_large";
    /// The bundle expands beyond the limits on size, entries or ratio.
    BUNDLE_EXPANDS_TOO_LARGE = "bundle_expands_too_large";
    /// The agent type does not fit the pattern.
    INVALID_AGENT_TYPE = "invalid_agent_type";
    /// The version is not a semantic version.
    INVALID_VERSION = "invalid_version";
    /// The same type and version exist with other content; versions are immutable, so choose the next one.
    VERSION_CONFLICT = "version_conflict";
    /// The same type and version are being uploaded by another call.
    UPLOAD_IN_PROGRESS = "upload_in_progress";
    /// No byte arrived for too long, or the upload took too long.
    UPLOAD_TIMEOUT = "upload_timeout";
    /// The agent type belongs to another tenant.
    AGENT_TYPE_OWNED = "agent_type_owned";
    /// No deployment of this id is visible to the caller.
    DEPLOYMENT_NOT_FOUND = "deployment_not_found";
    /// The deployment id does not fit `{type}:{version}@{hash_prefix}`.
    INVALID_DEPLOYMENT_ID = "invalid_deployment_id";
    /// The type and version exist, but with another hash than the id names.
    DEPLOYMENT_HASH_MISMATCH = "deployment_hash_mismatch";
    /// The bundle says nothing that can be run: it has no `agent.json`, or one that breaks a rule.
    INVALID_BUNDLE = "invalid_bundle";
    /// The host could not fetch, verify or start the bundle.
    DEPLOYMENT_FAILED = "deployment_failed";

    // Instances.
    /// No instance of this id is visible to the caller.
    INSTANCE_NOT_FOUND = "instance_not_found";
    /// The id is in use by an instance that was created otherwise.
    INSTANCE_ID_CONFLICT = "instance_id_conflict";
    /// The idempotency key was used for another request.
    IDEMPOTENCY_CONFLICT = "idempotency_conflict";
    /// The instance is not ready to talk yet.
    INSTANCE_NOT_READY = "instance_not_ready";
    /// The agent does not read what it is sent. Nothing was handed to it, and Retry-After says when to come back.
    INSTANCE_BUSY = "instance_busy";
    /// The instance has ended.
    INSTANCE_TERMINATED = "instance_terminated";
    /// The reader of a stream did not take what was sent to it in time; what it missed is lost to it.
    SLOW_CONSUMER = "slow_consumer";
    /// No healthy host can take instances.
    NO_COORDINATOR_AVAILABLE = "no_coordinator_available";
    /// Every host is full.
    CAPACITY_EXHAUSTED = "capacity_exhausted";
    /// The host that holds the instance is out of reach.
    COORDINATOR_UNAVAILABLE = "coordinator_unavailable";
    /// The host failed or answered something unreadable.
    COORDINATOR_ERROR = "coordinator_error";
    /// The host did not answer in time.
    COORDINATOR_TIMEOUT = "coordinator_timeout";
    /// The host of an open stream broke it off.
    COORDINATOR_LOST = "coordinator_lost";
    /// The host of an open stream broke a rule of it, such as the size of a frame.
    PEER_ERROR = "peer_error";
    /// The path of a file would leave the workspace.
    INVALID_PATH = "invalid_path";
    /// No file at this path.
    FILE_NOT_FOUND = "file_not_found";
    /// The file is larger than this route carries.
    FILE_TOO_LARGE = "file_too_large";

    // Secrets and configuration.
    /// No secrets are stored for this agent type.
    SECRETS_NOT_FOUND = "secrets_not_found";
    /// The stored secrets cannot be opened with the configured key.
    SECRETS_UNDECRYPTABLE = "secrets_undecryptable";
    /// The If-Match version is not the current one.
    VERSION_MISMATCH = "version_mismatch";
    /// The field is read-only.
    READ_ONLY_FIELD = "read_only_field";

    // Models.
    /// No Ensemble address is configured.
    ENSEMBLE_NOT_CONFIGURED = "ensemble_not_configured";
    /// Ensemble refused the gateway's own key.
    ENSEMBLE_AUTH_FAILED = "ensemble_auth_failed";
    /// Ensemble has no such route, or its answer was not the documented one.
    ENSEMBLE_BAD_RESPONSE = "ensemble_bad_response";
    /// Ensemble failed.
    ENSEMBLE_ERROR = "ensemble_error";
    /// Ensemble is out of reach.
    ENSEMBLE_UNAVAILABLE = "ensemble_unavailable";
    /// Ensemble did not answer in time.
    ENSEMBLE_TIMEOUT = "ensemble_timeout";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn reasons_are_distinct_and_snake_case() {
        let mut seen = HashSet::new();
        for (reason, sentence) in ALL {
            assert!(seen.insert(reason.as_str()), "{reason} is listed twice");
            assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{reason}");
            assert!(sentence.trim_end().ends_with('.'), "{reason} has no sentence");
        }
    }
}
