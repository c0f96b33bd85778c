//! How a socket is closed, and why.
//!
//! A newcomer's usual mistake is to close with 1000 whatever happened. Clients decide by the code whether to connect again,
//! so every end has its own, in one table.
//!
//! *Knows:* close codes, the error each stands for. *Does not know:* when they happen.

use std::borrow::Cow;

use portico_base::{Code, Error, reason as r};
use tokio_tungstenite::tungstenite::{
    Error as SocketError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// Longest reason: a close frame is a control frame of 125 bytes, two of which are the code.
const REASON_BYTES_MAX: usize = 123;

/// How the pump ended.
#[derive(Debug)]
pub(super) enum End {
    /// We close: with this code, for this reason.
    Ours {
        /// The code.
        code: u16,
        /// A token for programs, perhaps with a sentence behind it.
        reason: Cow<'static, str>,
    },
    /// The caller has closed, in these words if it used any.
    Theirs(Option<CloseFrame>),
    /// The connection is gone.
    Gone,
}

impl End {
    /// The end of a stream that simply ended.
    pub(super) const NORMAL: End = End::Ours { code: 1000, reason: Cow::Borrowed("") };

    pub(super) const fn ours(code: u16, reason: &'static str) -> End {
        End::Ours { code, reason: Cow::Borrowed(reason) }
    }

    /// The end that a handler said farewell with. Codes that are never sent are an ordinary end or a failure.
    pub(super) fn said(frame: Option<CloseFrame>) -> End {
        let Some(CloseFrame { code, reason }) = frame else { return End::NORMAL };
        let code = match u16::from(code) {
            1005 => 1000,
            1006 | 1015 => 1011,
            code if CloseCode::from(code).is_allowed() => code,
            _ => 1011,
        };
        End::Ours { code, reason: reason.to_string().into() }
    }

    /// What the other side of a tunnel is told when this side is closed so. A handler that ended by itself needs no word.
    pub(super) fn told_on(&self) -> Option<(u16, Cow<'_, str>)> {
        match self {
            End::Ours { code: 1002 | 1007 | 1009 | 1013 | 4408 | 4429, .. } => Some((1011, "peer_error".into())),
            End::Ours { code: 1012 | 4401, .. } => Some((1001, "".into())),
            End::Ours { .. } => None,
            End::Theirs(Some(frame)) => Some((frame.code.into(), frame.reason.as_str().into())),
            End::Theirs(None) => Some((1000, "".into())),
            End::Gone => Some((1011, "peer_gone".into())),
        }
    }

    /// The end that an error means.
    pub(super) fn of(error: &Error) -> End {
        End::Ours { code: code_of(error), reason: format!("{}: {}", error.reason(), error.message()).into() }
    }

    /// The end that a broken connection or a broken rule of the protocol means.
    pub(super) fn broken(error: &SocketError) -> End {
        match error {
            SocketError::Capacity(_) => End::ours(1009, "message_too_big"),
            SocketError::Utf8(_) => End::ours(1007, "not_utf8"),
            SocketError::Protocol(_) => End::ours(1002, "protocol_error"),
            _ => End::Gone,
        }
    }
}

/// The frame that closes.
pub(super) fn frame(code: u16, reason: &str) -> CloseFrame {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    CloseFrame { code: CloseCode::from(code), reason: reason[..end].into() }
}

/// The one table from errors to close codes.
fn code_of(error: &Error) -> u16 {
    match error.reason() {
        r::INSTANCE_NOT_FOUND => return 4404,
        r::INSTANCE_TERMINATED => return 4410,
        r::RATE_LIMITED | r::TOO_MANY_CONCURRENT | r::QUOTA_EXCEEDED => return 4429,
        r::DRAINING => return 1012,
        r::CAPACITY_EXHAUSTED | r::NO_COORDINATOR_AVAILABLE | r::SLOW_CONSUMER => return 1013,
        r::INVALID_JSON | r::INVALID_MESSAGE => return 1007,
        r::BODY_TOO_LARGE => return 1009,
        _ => {}
    }
    match error.code() {
        Code::Unauthenticated => 4401,
        Code::NotFound => 4404,
        Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied => 1008,
        Code::ResourceExhausted => 1013,
        Code::Canceled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => 1011,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_close_with_their_codes() {
        let cases: &[(Code, r::Reason, u16)] = &[
            (Code::NotFound, r::INSTANCE_NOT_FOUND, 4404),
            (Code::FailedPrecondition, r::INSTANCE_TERMINATED, 4410),
            (Code::ResourceExhausted, r::RATE_LIMITED, 4429),
            (Code::Unauthenticated, r::UNAUTHORIZED, 4401),
            (Code::Unavailable, r::DRAINING, 1012),
            (Code::Unavailable, r::COORDINATOR_UNAVAILABLE, 1011),
            (Code::Unavailable, r::CAPACITY_EXHAUSTED, 1013),
            (Code::InvalidArgument, r::INVALID_JSON, 1007),
            (Code::PermissionDenied, r::PERMISSION_DENIED, 1008),
        ];
        for (code, reason, expected) in cases {
            assert_eq!(code_of(&Error::new(*code, *reason, "why")), *expected, "{reason}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let frame = frame(1011, &"ä".repeat(100));
        assert_eq!(frame.reason.len(), 122);
    }
}
