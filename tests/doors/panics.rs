//! A handler that panics, through every door.

use futures_util::{SinkExt, StreamExt, stream};
use portico::{
    base::Outgoing,
    edge::{Rest, listen},
    schema::Surface,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::Message as Frame};

use super::*;

const MESSAGE: &str = "hidden in the log";

/// A house whose every handler panics: at once, or after the first message of its stream.
fn panicking() -> Handlers {
    let mut handlers = Handlers::new();
    on(&mut handlers, MUTATING, |_, _: CreateKeyRequest| async move { fail::<Result<CreateKeyResponse>>() });
    on(&mut handlers, READING, |_, _: ListKeysRequest| async move { fail::<Result<ListKeysResponse>>() });
    handlers.server_stream(STREAMING, &Arc::new(()), |_, _, _: FollowLogsRequest| async move {
        let first = stream::iter([Ok(FollowLogsResponse { sequence: 1, entry: None })]);
        Ok(Box::pin(first.chain(stream::once(async { fail() }))) as Outgoing<FollowLogsResponse>)
    });
    handlers.bidi(DUPLEX, &Arc::new(()), |_, _, mut heard: portico::base::Incoming<AttachRequest>| async move {
        // The first message says whom, the second makes it panic.
        heard.next().await;
        let answers = stream::once(async move {
            heard.next().await;
            fail()
        });
        Ok(Box::pin(answers) as Outgoing<AttachResponse>)
    });
    handlers
}

fn fail<T>() -> T {
    panic!("{MESSAGE}")
}

fn house() -> Edge {
    let (handlers, tasks, admit) = (panicking(), Tasks::new(), Arc::new(gate::Open) as Arc<dyn Admit>);
    let schema = Schema::read(SCHEMA).unwrap();
    let stranger = Surface::named("podium").unwrap();
    let rest = Rest::new(&schema, &handlers, Arc::clone(&admit), tasks.clone(), stranger).unwrap();
    edge_with(&handlers, admit, tasks, Config::default()).with_web(Arc::new(rest))
}

/// `docs/surfaces/podium.md`, "panic".
#[tokio::test]
async fn a_panic_is_one_500_with_a_request_id_and_the_process_survives() {
    let edge = house();
    // Calls that change something and calls that do not take different ways.
    for (path, body) in [(MUTATING, r#"{"name":"a"}"#), (READING, "{}")] {
        for media_type in ["application/json", "application/grpc", "application/grpc-web+proto"] {
            let content = if media_type == "application/json" { body.into() } else { envelope(0, b"") };
            let answer = send(&edge, post(path, media_type), content).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.header("x-request-id").starts_with("req_"), "{path} {media_type}");
            assert!(!text.contains(MESSAGE), "{text}");
            match media_type {
                "application/json" => {
                    assert_eq!((answer.status.as_u16(), answer.connect_code().as_str()), (500, "internal"));
                }
                "application/grpc" => assert_eq!(answer.grpc_status(), "13"),
                _ => assert!(answer.grpc_status() == "13" || text.contains("grpc-status: 13"), "{text}"),
            }
        }
    }
    for (verb, body) in [("POST", r#"{"tenant_id":"t"}"#), ("GET", "")] {
        let request = Request::builder().method(verb).uri("/api/v1/keys").header("content-type", "application/json");
        let answer = send(&edge, request, body).await;
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status.as_u16(), &json["error"]["code"]), (500, &"internal".into()), "{verb}");
        assert!(answer.header("x-request-id").starts_with("req_"), "{verb}");
        assert!(!json.to_string().contains(MESSAGE));
    }
}

#[tokio::test]
async fn a_panic_in_a_stream_ends_it_with_an_error_of_its_protocol() {
    let edge = house();
    let follow = "/api/v1/instances/a/logs:follow";
    for (request, body, end) in [
        (Request::get(follow).header("accept", "text/event-stream"), Vec::new(), "event: error\n"),
        (Request::get(follow), Vec::new(), r#"{"error":{"code":"internal""#),
        (post(STREAMING, "application/connect+json"), envelope(0, b"{}"), r#""code":"internal""#),
        (post(STREAMING, "application/grpc-web+json"), envelope(0, b"{}"), "grpc-status: 13"),
    ] {
        let answer = send(&edge, request, body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains(end) && !text.contains(MESSAGE), "{text}");
    }
    let answer = send(&edge, post(STREAMING, "application/grpc+json"), envelope(0, b"{}")).await;
    assert_eq!(answer.grpc_status(), "13");
}

#[tokio::test]
async fn a_panic_behind_a_socket_closes_that_socket_alone() {
    let tasks = Tasks::new();
    let listener = listen::Listener::bind(listen::Config::plain(SocketAddr::from(([127, 0, 0, 1], 0))), tasks.clone())
        .await
        .unwrap();
    let address = listener.address();
    tasks.spawn(listener.serve(Arc::new(house())));
    let open = async || {
        let stream = TcpStream::connect(address).await.unwrap();
        client_async(format!("ws://{address}/agent/a"), stream).await.unwrap().0
    };
    let (mut one, mut other) = (open().await, open().await);
    one.send(Frame::text("go")).await.unwrap();
    let Some(Ok(Frame::Close(Some(told)))) = one.next().await else { panic!("no farewell") };
    assert_eq!(u16::from(told.code), 1011);
    assert!(!told.reason.contains(MESSAGE), "{told}");
    other.send(Frame::Ping("still there?".into())).await.unwrap();
    assert!(matches!(other.next().await, Some(Ok(Frame::Pong(_)))));
    tasks.close();
}
