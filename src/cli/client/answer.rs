//! What a gateway answers when it refuses.
//!
//! A newcomer's usual mistake is to trust that every refusal is in the Connect form. A proxy on the way, or a server that
//! is no Portico, answers with whatever it likes; that too must end in a sentence.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, StatusCode, header};
use portico::{base::Code, wire::google::rpc::ErrorInfo};
use prost::{Message, Name};
use serde::Deserialize;

use super::super::failure::Refusal;
use super::Failure;

/// Connect leaves padding out; not everybody does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(rename = "type", default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct End {
    #[serde(default)]
    error: Option<Problem>,
}

/// The refusal in the body of an answer that did not succeed.
pub(super) fn refusal_of_body(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => Failure::Call(refusal(problem, code_of(status), headers)),
        Err(_) => Failure::Other(
            format!("{status}, and no reason that this command understands"),
            Some("check that --url or PORTICO_URL names a Portico gateway, and what stands between it and you"),
        ),
    }
}

/// The refusal in the last envelope of a stream, if there is one.
pub(super) fn refusal_of_end(headers: &HeaderMap, payload: &[u8]) -> Option<Failure> {
    match serde_json::from_slice::<End>(payload) {
        Ok(End { error: None }) => None,
        Ok(End { error: Some(problem) }) => Some(Failure::Call(refusal(problem, Code::Unknown, headers))),
        Err(error) => Some(Failure::other(format!("the end of the stream cannot be read: {error}"))),
    }
}

fn refusal(problem: Problem, otherwise: Code, headers: &HeaderMap) -> Refusal {
    let known = Code::ALL.into_iter().find(|code| code.as_str() == problem.code);
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Refusal {
        code: known.unwrap_or(otherwise),
        message: if problem.message.is_empty() { "no message".to_owned() } else { problem.message },
        reason: problem.details.iter().find_map(reason),
        request_id: header("x-request-id"),
        retry_after: header(header::RETRY_AFTER.as_str()),
    }
}

fn reason(detail: &Detail) -> Option<String> {
    if detail.name != ErrorInfo::full_name() {
        return None;
    }
    let bytes = BASE64.decode(&detail.value).ok()?;
    ErrorInfo::decode(bytes.as_slice()).ok().map(|info| info.reason)
}

/// The code that Connect infers when an answer names none.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_in_code_message_reason_hint_and_request() {
        let info = ErrorInfo { reason: "admin_required".to_owned(), ..Default::default() };
        for value in [BASE64.encode(info.encode_to_vec()), BASE64.encode(info.encode_to_vec()).replace('=', "")] {
            let body = serde_json::json!({
                "code": "permission_denied",
                "message": "an administrator's key is needed",
                "details": [{"type": "google.rpc.ErrorInfo", "value": value}],
            });
            let headers = HeaderMap::from_iter([("x-request-id".parse().unwrap(), "req_1".parse().unwrap())]);
            let failure = refusal_of_body(StatusCode::FORBIDDEN, &headers, body.to_string().as_bytes());
            assert_eq!(
                failure.to_string(),
                "error: permission_denied: an administrator's key is needed\n  reason: admin_required\n  hint: use a key \
                 with this permission, or an administrator's key\n  request: req_1"
            );
        }
    }

    #[test]
    fn a_stranger_s_refusal_ends_in_a_sentence() {
        let failure = refusal_of_body(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>");
        assert!(failure.to_string().starts_with("error: 502 Bad Gateway"));
        let failure = refusal_of_body(StatusCode::UNAUTHORIZED, &HeaderMap::new(), br#"{"code":"what"}"#);
        assert!(failure.to_string().starts_with("error: unauthenticated: no message"));
    }

    #[test]
    fn the_end_of_a_stream_may_be_a_refusal() {
        assert!(refusal_of_end(&HeaderMap::new(), b"{}").is_none());
        let refused = refusal_of_end(&HeaderMap::new(), br#"{"error":{"code":"aborted","message":"m"},"metadata":{}}"#);
        assert_eq!(refused.unwrap().to_string(), "error: aborted: m");
    }
}
