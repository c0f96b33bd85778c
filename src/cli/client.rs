//! A Connect client over protobuf.
//!
//! A newcomer's usual mistake is to look for retries. There are none: a command that failed says so, and whoever typed it
//! knows whether to type it again.
//!
//! *Knows:* the Connect protocol, unary and streams. *Does not know:* what methods mean.

mod answer;
mod call;
mod envelope;
mod transport;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use portico::base::Secret;

use self::{
    answer::{refusal_of_body, refusal_of_end},
    envelope::{Envelopes, enveloped},
    transport::{Body, Transport},
};
use super::Failure;

pub(crate) use call::{Call, Follow, Upload};

/// How long a single answer may take. Creating an instance includes starting it.
const UNARY_PATIENCE: Duration = Duration::from_secs(90);

/// What a stream of chunks may fail with before it reaches the gateway.
pub(crate) type ChunkError = std::io::Error;

/// A client of one gateway.
pub(crate) struct Client {
    base: String,
    key: Option<Secret>,
    transport: Transport,
}

impl Client {
    /// A client of the gateway at this URL.
    pub(crate) fn new(url: &str, key: Option<String>) -> Result<Client, Failure> {
        let refused =
            |problem: &str| Failure::usage(format!("{url:?} {problem}: name a gateway such as http://127.0.0.1:8080"));
        let uri: Uri = url.parse().map_err(|_| refused("is not a URL"))?;
        let transport = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(_)) => Transport::plain(),
            (Some("https"), Some(_)) => Transport::encrypted()?,
            _ => return Err(refused("is not an http or https URL")),
        };
        Ok(Client { base: url.trim_end_matches('/').to_owned(), key: key.map(Secret::new), transport })
    }

    /// One message there, one back.
    pub(crate) async fn call<Q: Call>(&self, request: Q) -> Result<Q::Answer, Failure> {
        self.call_with(request, &[]).await
    }

    /// The same with further headers.
    pub(crate) async fn call_with<Q: Call>(
        &self,
        request: Q,
        headers: &[(&'static str, String)],
    ) -> Result<Q::Answer, Failure> {
        let body = Full::new(Bytes::from(request.encode_to_vec())).map_err(|never| match never {}).boxed_unsync();
        let mut message = self.request(Q::PATH, "application/proto", body)?;
        let patience = UNARY_PATIENCE.as_millis().to_string();
        for (name, value) in headers.iter().chain(&[("connect-timeout-ms", patience)]) {
            let refused = |_| Failure::usage(format!("{name}: {value:?} cannot be sent in a header"));
            message.headers_mut().insert(*name, HeaderValue::from_str(value).map_err(refused)?);
        }
        let exchange = async {
            let response = self.transport.send(message, &self.base).await?;
            let bytes = whole(response).await?;
            decoded(bytes)
        };
        match tokio::time::timeout(UNARY_PATIENCE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::other(format!("{} did not answer within {UNARY_PATIENCE:?}", self.base))),
        }
    }

    /// Many messages there, one back. A failing stream of messages ends the call.
    pub(crate) async fn upload<Q: Upload>(
        &self,
        messages: impl Stream<Item = Result<Q, ChunkError>> + Send + 'static,
    ) -> Result<Q::Answer, Failure> {
        let frames = messages.map(|message| message.map(|message| Frame::data(enveloped(&message.encode_to_vec()))));
        let body = StreamBody::new(frames.map_err(Into::into)).boxed_unsync();
        let response = self.transport.send(self.request(Q::PATH, STREAM, body)?, &self.base).await?;
        let mut envelopes = streamed(response).await?;
        let mut answer = None;
        // To the end: an error may follow the answer.
        while let Some(payload) = envelopes.next().await? {
            answer = Some(decoded(payload)?);
        }
        answer.ok_or_else(|| Failure::other("the gateway ended the call without an answer"))
    }

    /// One message there, many back.
    pub(crate) async fn follow<Q: Follow>(&self, request: Q) -> Result<Answers<Q::Answer>, Failure> {
        let body = Full::new(enveloped(&request.encode_to_vec())).map_err(|never| match never {}).boxed_unsync();
        let response = self.transport.send(self.request(Q::PATH, STREAM, body)?, &self.base).await?;
        Ok(Answers { envelopes: streamed(response).await?, answer: std::marker::PhantomData })
    }

    fn request(&self, path: &str, content_type: &'static str, body: Body) -> Result<Request<Body>, Failure> {
        let mut request = Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, content_type)
            .header("connect-protocol-version", "1")
            .header(header::USER_AGENT, concat!("portico/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.base)))?;
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()))
                .map_err(|_| Failure::usage("PORTICO_KEY has characters that a header cannot carry"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

const STREAM: &str = "application/connect+proto";

/// The answers of a call that has many.
pub(crate) struct Answers<R> {
    envelopes: Envelopes,
    answer: std::marker::PhantomData<R>,
}

impl<R: prost::Message + Default> Answers<R> {
    /// The next answer, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<R>, Failure> {
        match self.envelopes.next().await? {
            Some(payload) => decoded(payload).map(Some),
            None => Ok(None),
        }
    }
}

/// The body of an answer that succeeded.
async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let (head, body) = response.into_parts();
    let bytes = transport::collect(body).await?;
    match head.status.is_success() {
        true => Ok(bytes),
        false => Err(refusal_of_body(head.status, &head.headers, &bytes)),
    }
}

/// The envelopes of a stream that began.
async fn streamed(response: Response<Incoming>) -> Result<Envelopes, Failure> {
    let (head, body) = response.into_parts();
    if head.status.is_success() {
        return Ok(Envelopes::new(body, head.headers));
    }
    let bytes = transport::collect(body).await?;
    Err(refusal_of_body(head.status, &head.headers, &bytes))
}

fn decoded<R: prost::Message + Default>(bytes: Bytes) -> Result<R, Failure> {
    R::decode(bytes).map_err(|error| Failure::other(format!("the gateway's answer cannot be decoded: {error}")))
}

#[cfg(test)]
mod tests {
    //! The client against the gateway's own doors, with a handful of methods behind them.

    use std::{net::SocketAddr, sync::Arc};

    use futures_util::{StreamExt, stream};
    use portico::{
        base::{Code, Context, Error, Incoming, reason, tasks::Tasks},
        edge::{self, Edge, listen},
        gate::Open,
        schema::Schema,
        wire::{
            Handlers, SCHEMA,
            podium::v1::{
                CreateKeyRequest, CreateKeyResponse, FollowLogsRequest, FollowLogsResponse, UploadDeploymentRequest,
                UploadDeploymentResponse,
            },
        },
    };

    use super::*;

    async fn create_key(_: Context, request: CreateKeyRequest) -> Result<CreateKeyResponse, Error> {
        match request.tenant_id.as_str() {
            "" => Err(Error::invalid("tenant_id", "is required")),
            tenant => {
                Ok(CreateKeyResponse { key: "pod_x".to_owned(), tenant_id: tenant.to_owned(), ..Default::default() })
            }
        }
    }

    async fn upload(
        _: Context,
        mut messages: Incoming<UploadDeploymentRequest>,
    ) -> Result<UploadDeploymentResponse, Error> {
        let mut size_bytes = 0;
        let mut version = String::new();
        while let Some(message) = messages.next().await {
            let message = message?;
            version.push_str(&message.version);
            size_bytes += i64::try_from(message.file.len()).unwrap();
            if version == "taken" {
                return Err(Error::new(Code::AlreadyExists, reason::VERSION_CONFLICT, "the version is taken"));
            }
        }
        Ok(UploadDeploymentResponse { version, size_bytes, ..Default::default() })
    }

    /// Three entries; then the end, or a failure for the instance `broken`.
    fn entries(request: FollowLogsRequest) -> portico::base::Outgoing<FollowLogsResponse> {
        let entries = (1..=3).map(|sequence| Ok(FollowLogsResponse { sequence, entry: None }));
        let failure = (request.instance_id == "broken")
            .then(|| Err(Error::not_found(reason::INSTANCE_NOT_FOUND, "instance", &request.instance_id)));
        Box::pin(stream::iter(entries.chain(failure)))
    }

    /// A served house that ends with the test.
    struct House {
        address: SocketAddr,
        tasks: Tasks,
    }

    impl House {
        async fn open() -> House {
            let mut handlers = Handlers::new();
            let nothing = Arc::new(());
            handlers.unary(CreateKeyRequest::PATH, &nothing, |_, cx, request| create_key(cx, request));
            handlers.client_stream(UploadDeploymentRequest::PATH, &nothing, |_, cx, messages| upload(cx, messages));
            handlers.server_stream(FollowLogsRequest::PATH, &nothing, |_, _, request| async { Ok(entries(request)) });
            let (schema, tasks) = (Schema::read(SCHEMA).unwrap(), Tasks::new());
            let edge = Edge::new(&schema, &handlers, Arc::new(Open), tasks.clone(), edge::Config::default());
            let config = listen::Config::plain(([127, 0, 0, 1], 0).into());
            let listener = listen::Listener::bind(config, tasks.clone()).await.unwrap();
            let address = listener.address();
            tasks.spawn(listener.serve(Arc::new(edge)));
            House { address, tasks }
        }

        fn client(&self) -> Client {
            Client::new(&format!("http://{}/", self.address), Some("pod_test".to_owned())).unwrap()
        }
    }

    impl Drop for House {
        fn drop(&mut self) {
            self.tasks.close();
        }
    }

    fn chunks(version: &str, count: usize) -> Vec<Result<UploadDeploymentRequest, ChunkError>> {
        let head = UploadDeploymentRequest { version: version.to_owned(), ..Default::default() };
        let chunk = UploadDeploymentRequest { file: vec![7; 100_000].into(), ..Default::default() };
        std::iter::once(Ok(head)).chain((0..count).map(|_| Ok(chunk.clone()))).collect()
    }

    fn refused(failure: Failure) -> (Code, String, Option<String>) {
        match failure {
            Failure::Call(refusal) => (refusal.code, refusal.message, refusal.reason),
            other => panic!("not a refusal: {other}"),
        }
    }

    #[tokio::test]
    async fn one_message_there_one_back_or_a_refusal_with_its_reason() {
        let house = House::open().await;
        let made =
            house.client().call(CreateKeyRequest { tenant_id: "acme".into(), ..Default::default() }).await.unwrap();
        assert_eq!((made.key.as_str(), made.tenant_id.as_str()), ("pod_x", "acme"));
        let failure = house.client().call(CreateKeyRequest::default()).await.unwrap_err();
        let expected =
            (Code::InvalidArgument, "tenant_id: is required".to_owned(), Some("validation_failed".to_owned()));
        assert_eq!(refused(failure), expected);
    }

    #[tokio::test]
    async fn many_messages_there_one_back() {
        let house = House::open().await;
        let stored = house.client().upload(stream::iter(chunks("1.0.0", 100))).await.unwrap();
        assert_eq!((stored.version.as_str(), stored.size_bytes), ("1.0.0", 10_000_000));
        let failure = house.client().upload(stream::iter(chunks("taken", 1))).await.unwrap_err();
        let expected = (Code::AlreadyExists, "the version is taken".to_owned(), Some("version_conflict".to_owned()));
        assert_eq!(refused(failure), expected);
    }

    #[tokio::test]
    async fn a_stream_of_messages_that_fails_is_not_taken_for_a_short_one() {
        let house = House::open().await;
        let mut messages = chunks("1.0.0", 2);
        messages.push(Err(ChunkError::other("the disk is gone")));
        assert!(house.client().upload(stream::iter(messages)).await.is_err());
    }

    #[tokio::test]
    async fn one_message_there_many_back() {
        let house = House::open().await;
        for (instance, ends_well) in [("whole", true), ("broken", false)] {
            let request = FollowLogsRequest { instance_id: instance.into(), ..Default::default() };
            let mut answers = house.client().follow(request).await.unwrap();
            for sequence in 1..=3 {
                assert_eq!(answers.next().await.unwrap().unwrap().sequence, sequence);
            }
            match answers.next().await {
                Ok(end) => assert!(ends_well && end.is_none()),
                Err(failure) => assert_eq!(refused(failure).2.as_deref(), Some("instance_not_found")),
            }
        }
    }

    #[tokio::test]
    async fn nobody_there_is_said_with_what_to_do() {
        let house = House::open().await;
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let client = Client::new(&format!("http://{elsewhere}"), None).unwrap();
        let failure = client.call(CreateKeyRequest::default()).await.unwrap_err().to_string();
        assert!(failure.contains("cannot be reached") && failure.contains("portico serve"), "{failure}");
        drop(house);
        for url in ["127.0.0.1:8080", "ftp://x", "", "http://"] {
            assert!(matches!(Client::new(url, None), Err(Failure::Usage(_))), "{url} was taken");
        }
    }
}
