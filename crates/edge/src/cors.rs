//! Calls from web pages of other origins.
//!
//! A newcomer's usual mistake is to think that this protects the server. It does not: it tells a browser which pages may
//! read the answers. Who may call is the gate's.
//!
//! *Knows:* the allowed origins, the headers that Connect and gRPC-Web need. *Does not know:* methods, callers.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::Body;

/// How long browsers may remember a preflight: the longest that Chromium honours.
const PREFLIGHT_AGE_SECONDS_MAX: &str = "7200";
/// Verbs of REST; calls are POST or GET.
const VERBS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// What callers of any door send beyond the headers that browsers always allow.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, content-encoding, connect-protocol-version, connect-timeout-ms, \
     connect-content-encoding, connect-accept-encoding, grpc-timeout, grpc-encoding, grpc-accept-encoding, \
     x-grpc-web, x-user-agent, x-request-id, traceparent, idempotency-key, if-match, if-none-match, last-event-id",
);
/// What clients must be able to read.
const RESPONSE_HEADERS: &str = "grpc-status, grpc-message, grpc-status-details-bin, grpc-encoding, connect-content-encoding, \
     content-encoding, x-request-id, retry-after, ratelimit, ratelimit-policy, etag, location, age, \
     x-podium-stale, x-podium-deferred";
/// Connect sends trailers of unary calls as headers with this prefix.
const TRAILER_PREFIX: &str = "trailer-";

/// Which pages may read our answers. None by default.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    any: bool,
    origins: Box<[HeaderValue]>,
}

impl Cors {
    /// Allows these origins, for example `https://console.example.com`. `*` allows every origin, without credentials.
    pub fn new<'a>(origins: impl IntoIterator<Item = &'a str>) -> Cors {
        let mut cors = Cors::default();
        let mut listed = Vec::new();
        for origin in origins {
            match HeaderValue::from_str(origin.trim_end_matches('/')) {
                Ok(_) if origin == "*" => cors.any = true,
                Ok(origin) => listed.push(origin),
                // No browser can send an origin that is not a header value, so it would never match.
                Err(_) => {}
            }
        }
        cors.origins = listed.into();
        cors
    }

    /// What to say about the origin of this request.
    pub(super) fn verdict(&self, request: &HeaderMap) -> Verdict {
        if !self.any && self.origins.is_empty() {
            return Verdict::Silent;
        }
        match request.get(header::ORIGIN) {
            Some(origin) if self.origins.contains(origin) => Verdict::Allowed(origin.clone()),
            Some(_) if self.any => Verdict::Anybody,
            _ => Verdict::Refused,
        }
    }
}

/// What is said about an origin.
pub(super) enum Verdict {
    /// Nothing: no origin is allowed here.
    Silent,
    /// Other origins are allowed, this one is not.
    Refused,
    /// Pages of any origin may read the answer; it was given without credentials of the browser.
    Anybody,
    /// Pages of this origin may read the answer.
    Allowed(HeaderValue),
}

impl Verdict {
    /// The answer to a preflight.
    pub(super) fn preflight(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if matches!(self, Verdict::Anybody | Verdict::Allowed(_)) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, VERBS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_AGE_SECONDS_MAX));
        }
        response
    }

    /// Marks an answer.
    pub(super) fn mark(self, headers: &mut HeaderMap) {
        let origin = match self {
            Verdict::Silent => return,
            Verdict::Refused => None,
            Verdict::Anybody => Some(HeaderValue::from_static("*")),
            Verdict::Allowed(origin) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                Some(origin)
            }
        };
        // A cache must not give the answer for one origin to another one.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed(headers));
        }
    }
}

/// The names that a page may read: the fixed ones, and the trailers that this very answer has.
fn exposed(headers: &HeaderMap) -> HeaderValue {
    let mut names = RESPONSE_HEADERS.to_owned();
    for name in headers.keys().filter(|name| name.as_str().starts_with(TRAILER_PREFIX)) {
        names.push_str(", ");
        names.push_str(name.as_str());
    }
    HeaderValue::from_str(&names).unwrap_or_else(|_| HeaderValue::from_static(RESPONSE_HEADERS))
}
