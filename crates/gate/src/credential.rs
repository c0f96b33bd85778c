//! Finds the credential of a request.
//!
//! A newcomer's usual mistake is to rank credentials when two different ones come with a request. Ranking is how one
//! caller acts as another; such a request is refused.
//!
//! *Knows:* where callers put keys. *Does not know:* what a key is worth.

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use portico_base::{Code, Error, Result, Secret, reason};

/// The one answer to every credential that does not hold, so that nothing is learned by guessing.
pub(super) use portico_domain::keys::unauthorized;

/// Longest credential that is looked at; keys are far shorter.
const CREDENTIAL_CHARACTERS_MAX: usize = 4_096;

/// Headers that carry credentials. They end here: no handler and no upstream sees them.
const SPENT: [HeaderName; 4] =
    [AUTHORIZATION, http::header::COOKIE, HeaderName::from_static("x-api-key"), super::trusted::TOKEN];

/// The one bearer credential of a request, if there is one: from the Authorization header or, on a WebSocket, from its
/// subprotocol.
///
/// # Errors
/// `unauthorized` when the header is not a bearer credential, `conflicting_credentials` when there are two.
pub(super) fn bearer(headers: &HeaderMap, from_socket: Option<String>) -> Result<Option<Secret>> {
    let mut found: Option<Secret> = from_socket.map(Secret::new);
    for value in headers.get_all(AUTHORIZATION) {
        let credential = str::from_utf8(value.as_bytes()).ok().and_then(scheme_bearer).ok_or_else(unauthorized)?;
        let credential = Secret::new(credential);
        match &found {
            Some(other) if *other != credential => return Err(conflicting()),
            _ => found = Some(credential),
        }
    }
    Ok(found)
}

/// Takes the credentials out, so that what is left may be handed to handlers.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in &SPENT {
        // Comparing a name with the few of a request costs less than looking up one that is mostly not there.
        if headers.keys().any(|given| given == name) {
            headers.remove(name);
        }
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
        let found = bearer(&headers(&["bEaReR pod_x"]), None).unwrap().unwrap();
        assert_eq!(found.reveal(), "pod_x");
        assert!(bearer(&headers(&["Bearer a", "Bearer a"]), Some("a".to_owned())).is_ok());
        let error = bearer(&headers(&["Bearer a"]), Some("b".to_owned())).unwrap_err();
        assert_eq!(error.reason(), reason::CONFLICTING_CREDENTIALS);
        for garbled in ["Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "pod_x"] {
            assert_eq!(bearer(&headers(&[garbled]), None).unwrap_err().reason(), reason::UNAUTHORIZED, "{garbled}");
        }
    }
}
