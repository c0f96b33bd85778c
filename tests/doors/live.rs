//! What stays open while agents run: event streams, lines, sockets, uploads in progress.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::Request;
use http_body::Frame as Data;
use http_body_util::{BodyExt, StreamBody};
use portico::{base::Error, domain::keys::TENANT_PERMISSIONS, edge::Body};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::UPLOADING;
use crate::support::{
    doors::{Call, Door, socket::Socket},
    gateway::{ADMIN, PATIENCE, TestHouse, schema},
    stage::{Stage, bundle, upload},
};

const FOLLOW: &str = "/api/v1/instances/echo-1/logs:follow";
const CREATING: &str = "/podium.v1.InstancesService/CreateInstance";
/// How soon a revoked key must have ended everything.
const REVOKED_MAX: Duration = Duration::from_secs(1);

impl Stage {
    async fn open(&self, key: &str, headers: &[(&str, &str)]) -> Body {
        let mut request = Request::get(FOLLOW).header("authorization", format!("Bearer {key}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.house.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        response.into_body()
    }

    async fn calls_in_flight(&self) -> i64 {
        let metrics = self.house.ask("", "GET", "/metrics").send().await;
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("portico_calls_in_flight "));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no gauge in {text}"))
    }
}

/// Reads until the text is there, or the body ends.
async fn read_until(body: &mut Body, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        match tokio::time::timeout(PATIENCE, body.frame()).await.expect("a frame in time") {
            Some(frame) => text += std::str::from_utf8(&frame.unwrap().into_data().unwrap_or_default()).unwrap(),
            None => break,
        }
    }
    text
}

#[tokio::test]
async fn events_go_on_where_the_reader_left_off_and_hanging_up_ends_them() {
    let stage = Stage::set().await;
    let mut events = stage.open(&stage.tenant, &[("accept", "text/event-stream")]).await;
    let text = read_until(&mut events, "\n\n").await;
    assert!(text.starts_with("id: 1\ndata: {"), "{text}");
    assert_eq!(stage.calls_in_flight().await, 1);
    drop(events);
    assert_eq!(stage.calls_in_flight().await, 0, "hanging up ends the call");

    // What was seen does not come again.
    let headers = [("accept", "text/event-stream"), ("last-event-id", "1")];
    let mut events = stage.open(&stage.tenant, &headers).await;
    stage.house.ask(&stage.tenant, "DELETE", "/api/v1/instances/echo-1").send().await.expect(204);
    let text = read_until(&mut events, "event: end").await;
    assert!(!text.contains("id: 1\n") && text.contains("id: 2\n"), "{text}");
    assert!(text.ends_with("event: end\ndata: {}\n\n"), "{text}");
    stage.house.close().await;
}

#[tokio::test]
async fn lines_are_the_same_messages() {
    let stage = Stage::set().await;
    let mut lines = stage.open(&stage.tenant, &[]).await;
    let text = read_until(&mut lines, "\n").await;
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["sequence"], &first["entry"]["source"]), (&json!(1), &json!("agent")), "{first}");
    drop(lines);
    stage.house.close().await;
}

#[tokio::test]
async fn key_revoked_while_attached_closes_its_socket_with_4401_within_a_second() {
    let stage = Stage::set().await;
    let made = stage.house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": "acme"})).await.expect(201);
    let key = made["key"].as_str().unwrap();
    let mut events = stage.open(key, &[("accept", "text/event-stream")]).await;
    let socket = Socket::open(&stage.house, "/agent/echo-1", key).await.unwrap();

    let path = format!("/api/v1/keys/{}", made["key_id"].as_str().unwrap());
    stage.house.ask(ADMIN, "DELETE", &path).send().await.expect(204);
    let ended = tokio::time::timeout(REVOKED_MAX, async {
        (read_until(&mut events, "event: error").await, socket.closed().await)
    });
    let (text, code) = ended.await.expect("the end within a second");
    assert!(text.contains(r#""code":"unauthorized""#), "{text}");
    assert_eq!(code, 4401);
    let (status, _) = Socket::open(&stage.house, "/agent/echo-1", key).await.err().unwrap();
    assert_eq!(status, 401);
    stage.house.close().await;
}

#[tokio::test]
async fn what_is_still_being_sent_is_refused_within_a_second_of_its_keys_revocation_and_leaves_nothing() {
    let stage = Stage::set().await;
    let asked = json!({"tenant_id": "acme", "permissions": TENANT_PERMISSIONS});
    let made = stage.house.ask(ADMIN, "POST", "/api/v1/keys").json(&asked).await.expect(201);
    let (key, key_id) = (made["key"].as_str().unwrap(), made["key_id"].as_str().unwrap());
    // Each has begun and does not end: a form, bytes, JSON, messages of every protocol.
    let form = [fields("other", "1.0.0").as_bytes(), &bundle()].concat();
    let begun_message = b"\0\0\0\0\x09half".to_vec();
    let unfinished = [
        ("POST", "/api/v1/deployments", "multipart/form-data; boundary=b", form),
        ("POST", "/api/v1/instances/echo-1/files/half", "application/octet-stream", b"half".to_vec()),
        ("POST", "/api/v1/instances", "application/json", b"{".to_vec()),
        ("POST", CREATING, "application/json", b"{".to_vec()),
        ("POST", CREATING, "application/grpc", begun_message.clone()),
        ("POST", CREATING, "application/grpc-web", begun_message.clone()),
        ("POST", UPLOADING, "application/connect+proto", begun_message.clone()),
        ("POST", UPLOADING, "application/grpc", begun_message),
    ];
    let calls = unfinished.len();
    let sending = join_all(unfinished.map(|(verb, path, media_type, begun)| {
        let frames = stream::iter([Ok::<_, Error>(Data::data(Bytes::from(begun)))]).chain(stream::pending());
        let request = Request::builder().method(verb).uri(path).header("content-type", media_type);
        let request = request.header("authorization", format!("Bearer {key}"));
        let answer = stage.house.call(request.body(Body::boxed(StreamBody::new(frames))).unwrap());
        async move {
            let (head, body) = answer.await.into_parts();
            let body = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
            (format!("{verb} {path} {media_type}"), head, body)
        }
    }));
    let revoking = async {
        until_spooled(&stage.house, true).await;
        let all = async {
            while stage.calls_in_flight().await < i64::try_from(calls).unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all calls are in the house");
        stage.house.ask(ADMIN, "DELETE", &format!("/api/v1/keys/{key_id}")).send().await.expect(204);
        Instant::now()
    };
    let (answers, revoked) = tokio::join!(async { (sending.await, Instant::now()) }, revoking);
    let (answers, ended) = answers;
    assert!(ended.saturating_duration_since(revoked) < REVOKED_MAX);
    for (call, head, body) in answers {
        let told = match call.as_str() {
            call if call.contains("grpc-web") => body.contains("grpc-status: 16"),
            call if call.contains("grpc") => head.headers["grpc-status"] == "16",
            call if call.contains("connect") => body.contains(r#""code":"unauthenticated""#),
            call if call.contains(CREATING) => head.status == 401 && body.contains(r#""code":"unauthenticated""#),
            _ => head.status == 401 && body.contains(r#""code":"unauthorized""#),
        };
        assert!(told, "{call}: {head:?} {body}");
        assert!(call.contains("connect") || head.headers["www-authenticate"] == "Bearer", "{call}: {head:?}");
    }

    until_spooled(&stage.house, false).await;
    stage.house.ask(&stage.tenant, "GET", "/api/v1/instances/echo-1/files/half").send().await.expect(404);
    let form = [fields("other", "1.0.0").as_bytes(), &bundle(), b"\r\n--b--\r\n"].concat();
    let again = stage.house.ask(&stage.tenant, "POST", "/api/v1/deployments");
    let again = again.bytes("multipart/form-data; boundary=b", form).await.expect(201);
    assert_eq!(again["status"], "deployed", "nothing of the version was there, and nobody holds it");
    let metrics = stage.house.ask("", "GET", "/metrics").send().await;
    let counted = format!("portico_calls_total{{method=\"{UPLOADING}\",door=\"rest\",code=\"unauthenticated\"}} 1");
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains(&counted), "{metrics}");
    stage.house.close().await;
}

/// A form as far as the first byte of its file.
fn fields(agent_type: &str, version: &str) -> String {
    let head = "--b\r\ncontent-disposition: form-data; name=";
    format!(
        "{head}\"agent_type\"\r\n\r\n{agent_type}\r\n{head}\"version\"\r\n\r\n{version}\r\n\
         {head}\"file\"; filename=\"a\"\r\n\r\n"
    )
}

#[tokio::test]
async fn a_tunnel_keeps_kind_order_and_boundaries() {
    let stage = Stage::set().await;
    let mut socket = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    // Binary comes back as binary, byte for byte, a megabyte as well as one byte.
    for size in [1, 1 << 20] {
        let bytes: Bytes = (0..size).map(|at: usize| (at % 251) as u8).collect();
        socket.send(Frame::Binary(bytes.clone())).await;
        assert_eq!(socket.next().await.into_data(), bytes);
    }
    // Text comes back as text, in order.
    let words: Vec<String> = (0..20).map(|at| format!("word{at}")).collect();
    let command = json!({"type": "process_message", "content": {"text": words.join(" "), "messages": []}});
    socket.send(command.to_string()).await;
    let mut heard = Vec::new();
    loop {
        let Frame::Text(text) = socket.next().await else { panic!("not text") };
        let event: Value = serde_json::from_str(text.as_str()).unwrap();
        match event["type"].as_str().unwrap() {
            "complete" => break,
            "created" => assert!(heard.is_empty()),
            _ => heard.push(event["content"]["text"].as_str().unwrap_or_default().trim().to_owned()),
        }
    }
    assert_eq!(heard, words);
    socket.close().await;
    stage.house.close().await;
}

#[tokio::test]
async fn instance_deleted_while_attached_closes_with_4410() {
    let stage = Stage::set().await;
    let socket = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap();
    stage.house.ask(&stage.tenant, "DELETE", "/api/v1/instances/echo-1").send().await.expect(204);
    assert_eq!(socket.closed().await, 4410);
    let (status, body) = Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.err().unwrap();
    assert!(matches!(status.as_u16(), 404 | 410), "{status} {body}");
    stage.house.close().await;
}

#[tokio::test]
async fn two_racing_uploads_of_one_version_and_exactly_one_creates() {
    let stage = Stage::set().await;
    let method = schema().method("/podium.v1.DeploymentsService/UploadDeployment").unwrap();
    let call = |messages| Call { method, messages, key: ADMIN, answers_max: 1 };
    let first = call(upload("2.0.0", &bundle()));
    // In a form the fields may stand in any order.
    let mut reversed = upload("2.0.0", &bundle());
    let named = reversed.remove(0);
    reversed = vec![
        json!({"file": stitched(&reversed)}),
        json!({"version": "2.0.0"}),
        json!({"agent_type": named["agent_type"]}),
    ];
    let second = call(reversed);
    let whole = first_in_one(&first);
    let (one, two) = tokio::join!(Door::Rest.call(&stage.house, &whole), Door::Rest.call(&stage.house, &second));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert!(
        matches!(statuses, [200 | 201, 201 | 409]) && statuses != [200, 409],
        "{statuses:?} {} {}",
        one.text,
        two.text
    );
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);

    // The same bytes again are the same deployment, through every door that can carry them; other bytes are refused.
    for door in [Door::Grpc, Door::ConnectProto, Door::ConnectJson, Door::GrpcWeb] {
        let again = door.call(&stage.house, &first).await.ok();
        assert_eq!(again[0]["version"], "2.0.0");
    }
    let mut other = bundle();
    other.truncate(other.len() - 1);
    let broken = first_in_one(&call(upload("2.0.0", &other)));
    let broken = Door::Rest.call(&stage.house, &broken).await;
    assert!(matches!(broken.status.as_u16(), 400 | 409), "{} {}", broken.status, broken.text);
    stage.house.close().await;
}

/// Several chunks of base64 as one.
fn stitched(messages: &[Value]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes: Vec<u8> =
        messages.iter().flat_map(|it| STANDARD.decode(it["file"].as_str().unwrap()).unwrap()).collect();
    STANDARD.encode(bytes)
}

/// The same upload with the file in one part, as a form has it.
fn first_in_one<'a>(call: &Call<'a>) -> Call<'a> {
    let mut message = call.messages[0].clone();
    message["file"] = stitched(&call.messages[1..]).into();
    Call { method: call.method, messages: vec![message], key: call.key, answers_max: 1 }
}

#[tokio::test]
async fn client_disconnect_leaves_nothing_of_an_upload() {
    let stage = Stage::set().await;
    let mut connection = TcpStream::connect(stage.house.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/deployments HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\ncontent-length: 1000000\r\n\
         content-type: multipart/form-data; boundary=b\r\n\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; \
         filename=\"a\"\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&bundle()).await.unwrap();
    until_spooled(&stage.house, true).await;
    drop(connection);
    until_spooled(&stage.house, false).await;
    let listed = stage.house.ask(ADMIN, "GET", "/api/v1/deployments").send().await.expect(200);
    assert_eq!(listed["deployments"].as_array().unwrap().len(), 1);
    stage.house.close().await;
}

/// Waits until an upload has begun to arrive, or until nothing is left of any.
pub(crate) async fn until_spooled(house: &TestHouse, is_spooled: bool) {
    let noticed = async {
        while spooled(house.data()).is_empty() == is_spooled {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap_or_else(|_| panic!("spooled is never {is_spooled}"));
}

/// Files of uploads that have not ended.
fn spooled(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "fleet") {
            found.extend(spooled(&path));
        } else if path.components().any(|part| part.as_os_str().to_string_lossy().contains("staging")) {
            found.push(path);
        }
    }
    found
}
