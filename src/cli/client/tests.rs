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
        tenant => Ok(CreateKeyResponse { key: "pod_x".to_owned(), tenant_id: tenant.to_owned(), ..Default::default() }),
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
    let made = house.client().call(CreateKeyRequest { tenant_id: "acme".into(), ..Default::default() }).await.unwrap();
    assert_eq!((made.key.as_str(), made.tenant_id.as_str()), ("pod_x", "acme"));
    let failure = house.client().call(CreateKeyRequest::default()).await.unwrap_err();
    let expected = (Code::InvalidArgument, "tenant_id: is required".to_owned(), Some("validation_failed".to_owned()));
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
