//! How a page prints an error: status, headers, body.
//!
//! A newcomer's usual mistake is to choose a status where an error is raised. An error says what is wrong; the one table
//! here says what that is on each page.
//!
//! *Knows:* errors, pages, HTTP statuses. *Does not know:* which call failed. gRPC and Connect calls print their own.

mod connect;
mod podium;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use portico_base::{Error, RequestId, Retry};
use portico_schema::Dialect;
use serde_json::{Value, json};

use super::Body;

/// The answer that tells of an error.
pub fn render(error: &Error, dialect: Dialect, id: &RequestId) -> Response<Body> {
    let mut response = Response::new(Body::from(body(error, dialect, id)));
    let status = status(error, dialect);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(metadata) = error.metadata() {
        headers.extend(metadata.clone());
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Retry::After(delay) = error.retry_hint() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(delay)));
    }
    response
}

/// The status of an error.
pub fn status(error: &Error, dialect: Dialect) -> StatusCode {
    match dialect {
        Dialect::Connect => connect::status(error),
        Dialect::Podium => podium::status(error),
    }
}

/// The body of an error.
pub fn body(error: &Error, dialect: Dialect, id: &RequestId) -> Bytes {
    match dialect {
        Dialect::Connect => connect::object(error),
        Dialect::Podium => json!({ "error": podium::object(error, id) }),
    }
    .to_string()
    .into()
}

/// An error as the last line of a stream: always an object with the member `error`, which no message has.
pub fn line(error: &Error, dialect: Dialect, id: &RequestId) -> Value {
    match dialect {
        Dialect::Connect => json!({ "error": connect::object(error) }),
        Dialect::Podium => json!({ "error": podium::object(error, id) }),
    }
}

/// Retry-After has no fractions, and zero would mean at once.
pub(super) fn whole_seconds(delay: Duration) -> u64 {
    (delay.as_secs() + u64::from(delay.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portico_base::{Code, error::Detail, reason};

    fn id() -> RequestId {
        RequestId::parse("req_1").unwrap()
    }

    fn told(error: &Error, dialect: Dialect) -> (u16, String) {
        (status(error, dialect).as_u16(), String::from_utf8(body(error, dialect, &id()).to_vec()).unwrap())
    }

    #[test]
    fn every_code_has_a_status_in_every_dialect() {
        let expected: [(Code, u16, u16); 16] = [
            (Code::Canceled, 499, 499),
            (Code::Unknown, 500, 500),
            (Code::InvalidArgument, 400, 400),
            (Code::DeadlineExceeded, 504, 504),
            (Code::NotFound, 404, 404),
            (Code::AlreadyExists, 409, 409),
            (Code::PermissionDenied, 403, 403),
            (Code::ResourceExhausted, 429, 429),
            (Code::FailedPrecondition, 400, 409),
            (Code::Aborted, 409, 409),
            (Code::OutOfRange, 400, 400),
            (Code::Unimplemented, 501, 501),
            (Code::Internal, 500, 500),
            (Code::Unavailable, 503, 503),
            (Code::DataLoss, 500, 500),
            (Code::Unauthenticated, 401, 401),
        ];
        assert_eq!(expected.map(|(code, ..)| code), Code::ALL);
        for (code, connect, podium) in expected {
            assert_eq!(connect::status_of(code), connect, "{code:?}");
            assert_eq!(podium::status_of(code), podium, "{code:?}");
        }
    }

    #[test]
    fn every_reason_has_a_status() {
        for (reason, _) in reason::ALL {
            let listed = podium::STATUS.iter().filter(|(listed, _)| listed == reason).count();
            let expected = usize::from(!podium::BY_CODE.contains(reason));
            assert_eq!(listed, expected, "{reason} must have one status, or be decided by its code");
        }
    }

    #[test]
    fn one_error_in_two_dialects() {
        let error = Error::invalid("config.model", "must not be empty").with_fact("limit", "3");
        assert_eq!(
            told(&error, Dialect::Podium),
            (
                422,
                concat!(
                    r#"{"error":{"code":"validation_failed","message":"config.model: must not be empty","#,
                    r#""request_id":"req_1","details":{"limit":"3","#,
                    r#""fields":[{"path":"config.model","reason":"must not be empty"}]},"retryable":false}}"#
                )
                .to_owned()
            )
        );
        let (status, body) = told(&error, Dialect::Connect);
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["code"]), (400, &json!("invalid_argument")));
        assert_eq!(body["details"][0]["type"], "google.rpc.ErrorInfo");
        assert_eq!(body["details"][1]["type"], "google.rpc.BadRequest");
        assert_eq!(body["details"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn headers_say_what_to_do_next() {
        let busy = Error::new(Code::ResourceExhausted, reason::RATE_LIMITED, "too many calls")
            .retry(Retry::After(Duration::from_millis(1_200)));
        let response = render(&busy, Dialect::Podium, &id());
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"2".parse().unwrap()));
        let stranger = Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "no valid credential");
        let response = render(&stranger, Dialect::Podium, &id());
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["content-type"], "application/json");
    }

    #[test]
    fn packed_details_stay_as_they_are() {
        let detail = Detail::Packed { type_name: "a.B".into(), value: Bytes::from_static(&[8, 1]) };
        let error = Error::new(Code::Internal, reason::INTERNAL, "internal error").with(detail);
        let body: Value = serde_json::from_str(&told(&error, Dialect::Connect).1).unwrap();
        assert_eq!(body["details"][0], json!({ "type": "a.B", "value": "CAE" }));
        assert!(!told(&error, Dialect::Podium).1.contains("details"));
    }
}
