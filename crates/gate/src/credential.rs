//! Finds the credential of a request.
//!
//! A newcomer's usual mistake is to rank credentials when two different ones come with a request. Ranking is how one
//! caller acts as another; such a request is refused.
//!
//! *Knows:* where callers put keys. *Does not know:* what a key is worth.

use http::{HeaderMap, HeaderName, HeaderValue};
use portico_base::{Code, Error, Result, reason};

/// The one answer to every credential that does not hold, so that nothing is learned by guessing.
pub(super) use portico_domain::keys::unauthorized;

/// Longest credential that is looked at; keys are far shorter.
const CREDENTIAL_CHARACTERS_MAX: usize = 4_096;

/// Headers that carry credentials. They end here: no handler and no upstream sees them.
const SPENT: [&str; 4] = ["authorization", "cookie", "x-api-key", super::trusted::TOKEN_NAME];

/// What the headers of a request say to the gate.
pub(super) struct Told<'h> {
    /// Where the call stands in its trace.
    pub(super) traceparent: Option<&'h str>,
    /// The one bearer credential, if there is one: from the Authorization header or, on a WebSocket, from its subprotocol.
    /// `unauthorized` when the header is not a bearer credential, `conflicting_credentials` when there are two.
    pub(super) bearer: Result<Option<&'h str>>,
}

impl<'h> Told<'h> {
    /// Walks over the headers: looking each name up, which mostly is not there, costs more.
    pub(super) fn by(headers: &'h HeaderMap, from_socket: Option<&'h str>) -> Told<'h> {
        let mut traceparent: Option<&HeaderValue> = None;
        let mut bearer = Ok(from_socket);
        for (name, value) in headers {
            match name.as_str() {
                "authorization" => bearer = bearer.and_then(|found| joined(found, value)),
                "traceparent" => traceparent = traceparent.or(Some(value)),
                _ => {}
            }
        }
        Told { traceparent: traceparent.and_then(|value| value.to_str().ok()), bearer }
    }
}

/// The credential of this header, when no other one was found.
fn joined<'h>(found: Option<&'h str>, value: &'h HeaderValue) -> Result<Option<&'h str>> {
    let credential = str::from_utf8(value.as_bytes()).ok().and_then(scheme_bearer).ok_or_else(unauthorized)?;
    if found.is_some_and(|other| other != credential) { Err(conflicting()) } else { Ok(Some(credential)) }
}

/// Takes the credentials out, so that what is left may be handed to handlers.
pub(super) fn strip(headers: &mut HeaderMap) {
    let is_spent = |name: &&HeaderName| SPENT.contains(&name.as_str());
    while let Some(name) = headers.keys().find(is_spent).cloned() {
        headers.remove(name);
    }
}

/// The answer to two credentials that are not one.
pub(super) fn conflicting() -> Error {
    Error::new(
        Code::Unauthenticated,
        reason::CONFLICTING_CREDENTIALS,
        "two different credentials came with one request; send one",
    )
}

/// The credential after the scheme, whose case does not matter (RFC 9110, 11.1).
fn scheme_bearer(value: &str) -> Option<&str> {
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer")
        && (1..=CREDENTIAL_CHARACTERS_MAX).contains(&credential.len())
        // Without an early end, so that the compiler looks at many bytes in one step.
        && credential.bytes().fold(true, |fits, byte| fits & byte.is_ascii_graphic());
    fits.then_some(credential)
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_credential_is_found_and_two_are_refused() {
        let bearer = |values: &[&str], from_socket| {
            let headers = headers(values);
            Told::by(&headers, from_socket).bearer.map(|found| found.map(str::to_owned))
        };
        assert_eq!(bearer(&["bEaReR pod_x"], None).unwrap().as_deref(), Some("pod_x"));
        assert!(bearer(&["Bearer a", "Bearer a"], Some("a")).is_ok());
        for two in [bearer(&["Bearer a"], Some("b")), bearer(&["Bearer a", "Bearer b"], None)] {
            assert_eq!(two.unwrap_err().reason(), reason::CONFLICTING_CREDENTIALS);
        }
        for garbled in ["Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "pod_x"] {
            assert_eq!(bearer(&[garbled], None).unwrap_err().reason(), reason::UNAUTHORIZED, "{garbled}");
        }
    }

    #[test]
    fn no_handler_sees_a_credential() {
        let mut headers = headers(&["Bearer a", "Bearer b"]);
        headers.insert("accept", "a".parse().unwrap());
        for name in SPENT {
            headers.append(name, "a".parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
