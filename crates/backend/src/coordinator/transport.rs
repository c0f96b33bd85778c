//! Requests to hosts: connected within bounds, answered within bounds, and never led elsewhere.
//!
//! A newcomer's usual mistake is to pass on what a caller sent. Every header of a request to a host is made here: the shared
//! token, whose call it is, its id and its place in the trace.
//!
//! *Knows:* HTTP, TLS, headers between gateway and host. *Does not know:* routes, what an answer means.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client, Error as Failed,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use portico_base::{Current, Error, Result, network::Network};
use portico_port::fleet::{Asked, failure};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{
    Config,
    address::{Address, resolve},
    trust::Papers,
};

/// How long connecting may take.
pub(super) const CONNECT_WAIT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept.
const IDLE_KEPT: Duration = Duration::from_secs(60);
/// Idle connections to one host: a burst of calls finds them, and a thousand hosts stay below the usual limit of files.
const IDLE_MAX: usize = 16;
/// How long a connection is silent before the kernel asks whether the host is there.
const ASKED_AFTER: Duration = Duration::from_secs(15);
/// How often it asks again.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// How often it asks in all: a host is given up as soon as a silent socket is.
const ASKED_TIMES: u32 = 3;
/// Largest answer of a host about itself or a new instance.
pub(super) const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Largest answer about an instance. Its messages, its log and the paths of its files are 4 MiB at most each; written as JSON
/// the oddest characters take six times as much.
pub(super) const LIST_BYTES_MAX: usize = 32 << 20;

/// What gateways and hosts know and nobody else.
const TOKEN: HeaderName = HeaderName::from_static("x-podium-internal-token");
/// Whose call it is.
const TENANT: HeaderName = HeaderName::from_static("x-podium-tenant");
/// The id of the call.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the call stands in its trace.
const TRACE: HeaderName = HeaderName::from_static("traceparent");

/// The body of a request.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport {
    dialler: Current<Dialler>,
    pub(super) networks: Arc<[Network]>,
    token: Option<HeaderValue>,
}

/// What connections begin with, and those that were begun so. With it go its idle ones; those in use end by themselves.
struct Dialler {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Body>,
    tls: Arc<ClientConfig>,
}

impl Transport {
    /// # Errors
    /// When the token cannot be in a header, or the certificates are none.
    pub(super) fn new(config: &Config) -> Result<Transport> {
        let networks: Arc<[Network]> = config.networks.clone().into();
        let token = config.token.as_ref().map(|token| {
            let mut value = HeaderValue::from_str(token.reveal())
                .map_err(|_| Error::invalid("fleet.token", "must be visible ASCII characters"))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let dialler = Current::new(Dialler::new(&config.papers, &networks)?);
        Ok(Transport { dialler, networks, token: token.transpose()? })
    }

    /// Makes ready to begin connections with these papers, once what is answered is called.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(super) fn ready(&self, papers: &Papers) -> Result<impl FnOnce() + Send + use<>> {
        let (newer, dialler) = (Dialler::new(papers, &self.networks)?, self.dialler.clone());
        Ok(move || dialler.set(newer))
    }

    /// How a connection is begun now.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.dialler.get().tls)
    }

    /// The headers of every request to a host.
    pub(super) fn headers(&self, asked: &Asked) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut say = |name, text: Option<String>| {
            // Ids and tenants are visible ASCII; one that is not goes unsaid.
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        };
        say(TENANT, asked.tenant.as_ref().map(ToString::to_string));
        say(REQUEST_ID, asked.request.as_ref().map(ToString::to_string));
        say(TRACE, asked.trace.map(|trace| trace.to_string()));
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        headers
    }

    /// Sends a request and waits for the head of the answer.
    ///
    /// # Errors
    /// `coordinator_unavailable` when no connection came about, so that nothing was sent, or when nothing was to be changed;
    /// `coordinator_timeout` when it broke before the answer.
    pub(super) async fn begin(
        &self,
        address: &Address,
        verb: Method,
        path: &str,
        asked: &Asked,
        body: Option<(&'static str, Body)>,
    ) -> Result<Response<Incoming>> {
        let target = address.at(path).ok_or_else(|| failure::broken("the path is no part of a URL"))?;
        if verb == Method::GET {
            return self.look(target, asked).await;
        }
        let mut request = Request::new(empty());
        *request.method_mut() = verb;
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers(asked);
        if let Some((media_type, body)) = body {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            *request.body_mut() = body;
        }
        self.dialler.get().client.request(request).await.map_err(unanswered)
    }

    /// Asks for what changes nothing. A host that stops closes its idle connections, and a question may just have been sent
    /// over one; it is asked once more then, and one that is not answered either has done nothing.
    async fn look(&self, target: Uri, asked: &Asked) -> Result<Response<Incoming>> {
        let question = || {
            let mut request = Request::new(empty());
            *request.uri_mut() = target.clone();
            *request.headers_mut() = self.headers(asked);
            request
        };
        let dialler = self.dialler.get();
        let client = &dialler.client;
        match client.request(question()).await {
            Err(error) if !error.is_connect() => client.request(question()).await.map_err(failure::unavailable),
            answered => answered.map_err(failure::unavailable),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As for [`Transport::begin`]; `coordinator_timeout` when the answer was not there in time, `coordinator_error` when it
    /// broke off or is too large.
    pub(super) async fn ask(
        &self,
        address: &Address,
        verb: Method,
        path: &str,
        asked: &Asked,
        body: Option<(&'static str, Body)>,
        patience: Duration,
    ) -> Result<Response<Bytes>> {
        read_within(patience, self.begin(address, verb, path, asked, body), ANSWER_BYTES_MAX).await
    }
}

impl Dialler {
    fn new(papers: &Papers, networks: &Arc<[Network]>) -> Result<Dialler> {
        let tls = papers.tls()?;
        let mut http = HttpConnector::new_with_resolver(Resolver(Arc::clone(networks)));
        http.set_connect_timeout(Some(CONNECT_WAIT));
        http.set_nodelay(true);
        http.enforce_http(false);
        // An answer that is read as it comes may be quiet for hours; a host that vanished must not be waited for as long.
        http.set_keepalive(Some(ASKED_AFTER));
        http.set_keepalive_interval(Some(ASKED_EVERY));
        http.set_keepalive_retries(Some(ASKED_TIMES));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_KEPT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(connector);
        Ok(Dialler { client, tls: Arc::new(tls) })
    }
}

/// Waits this long for an answer of at most this many bytes.
///
/// # Errors
/// `coordinator_timeout` when the answer was not there in time, `coordinator_error` when it broke off or is too large.
pub(super) async fn read_within(
    patience: Duration,
    answer: impl Future<Output = Result<Response<Incoming>>>,
    bytes_max: usize,
) -> Result<Response<Bytes>> {
    let answered = timeout(patience, async {
        let (head, body) = answer.await?.into_parts();
        Ok(Response::from_parts(head, collect(body, bytes_max).await?))
    });
    answered.await.unwrap_or_else(|_| Err(failure::timeout()))
}

/// The whole of an answer of at most this many bytes.
///
/// # Errors
/// `coordinator_error` when it breaks off or is too large.
pub(super) async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes> {
    Ok(Limited::new(body, bytes_max).collect().await.map_err(failure::broken)?.to_bytes())
}

/// A body of these bytes.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Body {
    UnsyncBoxBody::new(Full::new(bytes.into()).map_err(|never| match never {}))
}

fn empty() -> Body {
    whole(Bytes::new())
}

/// Only a failed connection proves that nothing was done. One that broke later is as good as no answer in time.
fn unanswered(error: Failed) -> Error {
    if let Some(broken_off) = broken_off(&error) {
        broken_off
    } else if error.is_connect() || is_refused(&error) {
        failure::unavailable(error)
    } else {
        failure::timeout().caused_by(error)
    }
}

/// What the body of the request ended with, if that is why there is no answer: whoever sent it broke it off, not the host.
fn broken_off(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let told = causes.find_map(|cause| cause.downcast_ref::<Error>())?;
    Some(Error::new(told.code(), told.reason(), told.message().to_owned()).retry(told.retry_hint()))
}

/// Whether the host did not accept our certificate. In TLS 1.3 that is heard only after the first request was sent, of which
/// the host has read nothing.
pub(super) fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::AlertDescription as Alert;
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An error of the system does not count what it carries among its sources.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let told = carried.and_then(|carried| carried.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = told {
            return matches!(
                alert,
                Alert::HandshakeFailure
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::CertificateRequired
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::DecryptError
            );
        }
        cause = error.source();
    }
    false
}

/// Resolves names to addresses that may be dialled.
#[derive(Clone)]
struct Resolver(Arc<[Network]>);

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let networks = Arc::clone(&self.0);
        // The connector knows the port and sets it.
        Box::pin(async move { Ok(resolve(networks, name.as_str(), 0).await?.into_iter()) })
    }
}
