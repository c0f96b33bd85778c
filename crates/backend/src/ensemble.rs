//! The models of Ensemble, over HTTP.
//!
//! A newcomer's usual mistake is to pass the caller's key on. Ensemble is asked with the gateway's own key, follows nobody
//! elsewhere, and gets a second to connect and five in all.
//!
//! *Knows:* Ensemble's address and its answers. *Does not know:* caching, what a model is.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited, combinators::BoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use portico_base::{Code, Context, Error, Reason, Result, Retry, Secret, error::BoxError, health::Health, reason};
use portico_port::{
    Answer,
    catalog::{Catalog, DOCUMENT_BYTES_MAX, Document},
};
use tokio::time::timeout;

/// How long connecting may take.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long an answer may take, connecting and the body included.
const TOTAL_WAIT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept; models are asked for about once a minute.
const IDLE_KEPT: Duration = Duration::from_secs(90);
/// When to ask again if Ensemble does not say.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Longest wait taken from Ensemble.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Longest answer to a health question.
const HEALTH_BYTES_MAX: usize = 64 << 10;
const MODELS_PATH: &str = "/api/v1/models";
const HEALTH_PATH: &str = "/api/v1/health";
/// The id of the call.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the call stands in its trace.
const TRACE: HeaderName = HeaderName::from_static("traceparent");

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Ensemble.
pub struct Ensemble {
    client: Client<HttpsConnector<HttpConnector>, Body>,
    base: Uri,
    authorization: Option<HeaderValue>,
}

impl Ensemble {
    /// Ensemble at this address, asked with this key.
    ///
    /// # Errors
    /// `validation_failed` when the address is not one of `http` or `https`, or the key cannot be in a header.
    pub fn new(url: &str, key: Option<&Secret>) -> Result<Ensemble> {
        let base: Uri = url.trim_end_matches('/').parse().map_err(|error| {
            Error::invalid("ensemble_url", "must be an address like http://ensemble:8080").caused_by(bad(error))
        })?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.authority().is_none() || base.query().is_some()
        {
            return Err(Error::invalid("ensemble_url", "must be an address like http://ensemble:8080"));
        }
        let authorization = key.map(authorization).transpose()?;
        let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE_KEPT).build(connector()?);
        Ok(Ensemble { client, base, authorization })
    }

    /// Asks, in the name of a call if there is one.
    async fn ask(&self, cx: Option<&Context>, path: &str, bytes_max: usize) -> Result<Response<Bytes>> {
        let target = format!("{}{path}", self.base.to_string().trim_end_matches('/'));
        let mut request = Request::new(BoxBody::new(Empty::new()));
        *request.method_mut() = Method::GET;
        *request.uri_mut() = target.parse().map_err(|error| Error::internal(bad(error)))?;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        for (name, value) in
            cx.into_iter().flat_map(|cx| [(REQUEST_ID, cx.id.to_string()), (TRACE, cx.trace.to_string())])
        {
            request.headers_mut().insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
        }
        let answered = timeout(TOTAL_WAIT, async {
            let response = self.client.request(request).await.map_err(unreachable)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
                failed(Code::Unavailable, reason::ENSEMBLE_BAD_RESPONSE, "Ensemble's answer broke off or is too large")
                    .caused_by(error)
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        });
        answered.await.unwrap_or_else(|_elapsed| {
            let message = "Ensemble did not answer in time";
            Err(failed(Code::DeadlineExceeded, reason::ENSEMBLE_TIMEOUT, message).retry(Retry::After(RETRY_AFTER)))
        })
    }
}

impl Catalog for Ensemble {
    fn models<'a>(&'a self, cx: &'a Context, query: &'a str) -> Answer<'a, Document> {
        Box::pin(async move {
            let path = if query.is_empty() { MODELS_PATH.to_owned() } else { format!("{MODELS_PATH}?{query}") };
            let response = self.ask(Some(cx), &path, DOCUMENT_BYTES_MAX).await?;
            if response.status() != StatusCode::OK {
                return Err(refused(&response));
            }
            let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or("application/json").to_owned();
            Ok(Document { body: response.into_body(), content_type })
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move {
            Ok(match self.ask(None, HEALTH_PATH, HEALTH_BYTES_MAX).await {
                Ok(response) if response.status().is_success() => Health::OK,
                Ok(response) => Health::reachable(format!("Ensemble answers {}", response.status().as_u16())),
                Err(error) => Health::down(error.message().to_owned()),
            })
        })
    }
}

/// What a status other than 200 means.
fn refused(response: &Response<Bytes>) -> Error {
    let status = response.status();
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            failed(Code::Unavailable, reason::ENSEMBLE_AUTH_FAILED, "Ensemble refuses the gateway's key")
        }
        StatusCode::TOO_MANY_REQUESTS => {
            failed(Code::Unavailable, reason::ENSEMBLE_UNAVAILABLE, "Ensemble has no capacity at the moment")
                .retry(Retry::After(retry_after(response)))
        }
        status if status.is_server_error() => failed(Code::Unavailable, reason::ENSEMBLE_ERROR, "Ensemble failed")
            .retry(Retry::After(retry_after(response))),
        _ => failed(Code::Unavailable, reason::ENSEMBLE_BAD_RESPONSE, "Ensemble does not list models"),
    };
    error.caused_by(format!("status {}", status.as_u16()))
}

fn unreachable(error: hyper_util::client::legacy::Error) -> Error {
    let (code, reason, message) = match timed_out(&error) {
        true => (Code::DeadlineExceeded, reason::ENSEMBLE_TIMEOUT, "Ensemble cannot be connected to in time"),
        false => (Code::Unavailable, reason::ENSEMBLE_UNAVAILABLE, "Ensemble is out of reach"),
    };
    failed(code, reason, message).retry(Retry::After(RETRY_AFTER)).caused_by(error)
}

fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::TimedOut) || error.source().is_some_and(timed_out)
}

fn failed(code: Code, reason: Reason, message: &'static str) -> Error {
    Error::new(code, reason, message)
}

fn retry_after(response: &Response<Bytes>) -> Duration {
    let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let wait = seconds.and_then(|seconds| seconds.parse().ok()).map_or(RETRY_AFTER, Duration::from_secs);
    wait.min(RETRY_AFTER_MAX)
}

fn authorization(key: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.reveal()))
        .map_err(|_| Error::invalid("ensemble_api_key", "must be visible ASCII characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn connector() -> Result<HttpsConnector<HttpConnector>> {
    let mut http = HttpConnector::new();
    http.set_connect_timeout(Some(CONNECT_WAIT));
    http.set_nodelay(true);
    http.enforce_http(false);
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
        .map_err(Error::internal)?;
    Ok(tls.https_or_http().enable_http1().wrap_connector(http))
}

fn bad(error: http::uri::InvalidUri) -> BoxError {
    Box::new(error)
}
