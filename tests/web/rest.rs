//! One message each way: binding, statuses, headers, refusals.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use futures_util::stream;
use http::{
    Request,
    header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue},
};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use portico::{
    base::{Code, Error, RequestId, Result, reason, reply::Outcome, tasks::Tasks},
    edge::{Body, Web},
    gate::Open,
    wire::{Handlers, podium::v1 as podium},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

use super::support::{Gateway, JSON, Shut, ask, begin, door, edge, guarded, peer, read, send};
use crate::support::record::Recording;

fn keys(handlers: &mut Handlers) {
    handlers.unary(
        "/podium.v1.KeysService/CreateKey",
        &Arc::new(()),
        |_, _, request: podium::CreateKeyRequest| async {
            if request.tenant_id.is_empty() {
                return Err(Error::invalid("tenant_id", "must not be empty"));
            }
            Ok(podium::CreateKeyResponse {
                key: "pod_secret".into(),
                tenant_id: request.tenant_id,
                ..Default::default()
            })
        },
    );
    handlers.unary("/podium.v1.KeysService/RevokeKey", &Arc::new(()), |_, _, _: podium::RevokeKeyRequest| async {
        Ok(podium::RevokeKeyResponse {})
    });
    handlers.unary(
        "/podium.v1.KeysService/ListKeys",
        &Arc::new(()),
        |_, cx, request: podium::ListKeysRequest| async move {
            cx.reply.header(ETAG, HeaderValue::from_static("\"7\""));
            Ok(podium::ListKeysResponse { next_cursor: format!("{request:?}"), ..Default::default() })
        },
    );
}

#[tokio::test]
async fn a_call_answers_in_the_pages_json_with_its_status() {
    let door = door(keys);
    let created = ask(&door, "POST", "/api/v1/keys", &[JSON], r#"{"tenantId":"acme","unknown":1}"#).await;
    assert_eq!((created.status, created.header("content-type")), (201, "application/json"));
    assert_eq!(
        created.body,
        concat!(
            r#"{"key":"pod_secret","key_id":"","prefix":"","tenant_id":"acme","name":"","permissions":[],"#,
            r#""role":"","created_at":null,"expires_at":null}"#
        )
    );
    let revoked = ask(&door, "DELETE", "/api/v1/keys/key_1", &[], "").await;
    assert_eq!((revoked.status, revoked.header("content-type"), &*revoked.body), (204, "", ""));
}

#[tokio::test]
async fn what_a_handler_said_before_it_failed_goes_out_with_the_refusal() {
    let left = HeaderValue::from_static("\"calls\";r=99;t=0");
    let door = door(|handlers| {
        let said = Arc::new(left.clone());
        handlers.unary("/podium.v1.KeysService/ListKeys", &said, |left, cx, _: podium::ListKeysRequest| async move {
            cx.reply.header(HeaderName::from_static("ratelimit"), HeaderValue::clone(&left));
            cx.reply.header(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            Err::<podium::ListKeysResponse, _>(Error::new(Code::NotFound, reason::KEY_NOT_FOUND, "no such key"))
        });
    });
    let refused = ask(&door, "GET", "/api/v1/keys", &[], "").await;
    assert_eq!((refused.status, refused.header("ratelimit")), (404, left.to_str().unwrap()));
    assert_eq!(refused.header("content-type"), "application/json", "the body is that of the refusal");
}

#[tokio::test]
async fn outcomes_choose_the_status() {
    let door = door(|handlers| {
        handlers.unary(
            "/podium.v1.InstancesService/CreateInstance",
            &Arc::new(()),
            |_, cx, _: podium::CreateInstanceRequest| async move {
                cx.reply.outcome(Outcome::Existing);
                Ok(podium::CreateInstanceResponse::default())
            },
        );
        handlers.unary(
            "/podium.v1.HealthService/GetHealth",
            &Arc::new(()),
            |_, cx, _: podium::GetHealthRequest| async move {
                cx.reply.outcome(Outcome::OutOfService);
                Ok(podium::GetHealthResponse::default())
            },
        );
    });
    let existing = ask(&door, "POST", "/api/v1/instances", &[JSON], "{}").await;
    assert_eq!((existing.status, &existing.json()["chronicle_ws_endpoint"]), (200, &serde_json::Value::Null));
    assert_eq!(ask(&door, "GET", "/health", &[], "").await.status, 503);
}

#[tokio::test]
async fn paths_and_verbs_that_are_not_served() {
    let door = door(keys);
    assert_eq!(ask(&door, "GET", "/api/v1/nothing", &[], "").await.failure(), (404, "not_found".into()));
    assert_eq!(ask(&door, "GET", "/api/v1/keys/", &[], "").await.failure(), (404, "not_found".into()));
    let wrong = ask(&door, "PUT", "/api/v1/keys", &[], "").await;
    assert_eq!(wrong.failure(), (405, "method_not_allowed".into()));
    assert_eq!(wrong.header("allow"), "GET, HEAD, OPTIONS, POST");
    let options = ask(&door, "OPTIONS", "/api/v1/keys", &[], "").await;
    assert_eq!((options.status, options.header("allow")), (204, "GET, HEAD, OPTIONS, POST"));
    let plain = ask(&door, "GET", "/agent/agent_1", &[], "").await;
    assert_eq!(plain.failure(), (426, "upgrade_required".into()));
    let told = ["connection", "upgrade", "sec-websocket-version", "allow"].map(|name| plain.header(name));
    assert_eq!(told, ["upgrade", "websocket", "13", "GET, OPTIONS"]);
    let other = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "8")];
    let other = ask(&door, "GET", "/agent/agent_1", &other, "").await;
    let told = ["connection", "upgrade", "sec-websocket-version"].map(|name| other.header(name));
    assert_eq!((other.status, told), (426, ["upgrade", "websocket", "13"]));
    let head = ask(&door, "HEAD", "/agent/agent_1", &[], "").await;
    assert_eq!((head.status, head.header("allow")), (405, "GET, OPTIONS"));
    assert_eq!(ask(&door, "GET", "/api/v1/config", &[], "").await.failure(), (501, "not_offered".into()));
}

#[tokio::test]
async fn bodies_that_are_not_taken() {
    let door = door(keys);
    let refused = async |headers: &[(&str, &str)], body: &'static str| {
        ask(&door, "POST", "/api/v1/keys", headers, body).await.failure()
    };
    assert_eq!(refused(&[("content-type", "text/plain")], "{}").await, (415, "unsupported_media_type".into()));
    assert_eq!(refused(&[], "{}").await, (415, "unsupported_media_type".into()));
    assert_eq!(refused(&[JSON], "{").await, (400, "invalid_json".into()));
    assert_eq!(refused(&[JSON], r#"{"name":"\ud800"}"#).await, (400, "invalid_json".into()));
    let not_text = Bytes::from_static(b"{\"name\":\"\xff\"}");
    let not_text = send(&door, "POST", "/api/v1/keys", &[JSON], Body::from(not_text)).await;
    assert_eq!(not_text.failure(), (400, "invalid_json".into()));
    assert_eq!(refused(&[JSON], r#"{"permissions":1}"#).await, (422, "validation_failed".into()));
    assert_eq!(refused(&[JSON], r#"{"name":1e400}"#).await, (422, "validation_failed".into()));
    let packed = [JSON, ("content-encoding", "gzip")];
    assert_eq!(refused(&packed, "{}").await, (415, "unsupported_media_type".into()));
    assert_eq!(refused(&[], "").await, (422, "validation_failed".into()));

    let large = "x".repeat((1 << 20) + 1);
    let told = ask(&door, "POST", "/api/v1/keys", &[JSON], large).await;
    assert_eq!(told.failure(), (413, "body_too_large".into()));
    let untold = stream::iter((0..20).map(|_| Ok(Frame::data(Bytes::from(vec![b' '; 1 << 16])))));
    let untold = send(&door, "POST", "/api/v1/keys", &[JSON], Body::boxed(StreamBody::new(untold))).await;
    assert_eq!(untold.failure(), (413, "body_too_large".into()));
}

#[tokio::test]
async fn an_error_names_the_field_and_the_request() {
    let answer = ask(&door(keys), "POST", "/api/v1/keys", &[JSON], "{}").await;
    assert_eq!(
        answer.body,
        concat!(
            r#"{"error":{"code":"validation_failed","message":"tenant_id: must not be empty","request_id":"req_test","#,
            r#""details":{"fields":[{"path":"tenant_id","reason":"must not be empty"}]},"retryable":false}}"#
        )
    );
}

#[tokio::test]
async fn head_has_the_length_but_no_body_and_etags_spare_it() {
    let door = door(keys);
    let full = ask(&door, "GET", "/api/v1/keys?limit=3&includeRevoked=true", &[], "").await;
    assert!(full.body.contains("limit: 3") && full.body.contains("include_revoked: true"), "{}", full.body);
    let known = ask(&door, "GET", "/api/v1/keys", &[("if-none-match", "\"6\", W/\"7\"")], "").await;
    assert_eq!((known.status, known.header("etag"), &*known.body), (304, "\"7\"", ""));

    let (recording, mut records) = Recording::new();
    let tasks = Tasks::new();
    let edge = edge(guarded(Arc::clone(&recording) as _, tasks.clone(), keys), recording, tasks);
    for (path, status) in [("/api/v1/keys?limit=3&includeRevoked=true", 200), ("/nowhere", 404)] {
        let request = |verb: &str| Request::builder().method(verb).uri(path).body(Body::empty()).unwrap();
        let full = read(edge.call(request("GET"), peer()).await).await;
        assert_eq!(records.recv().await.unwrap().bytes_out, full.body.len() as u64);
        let head = read(edge.call(request("HEAD"), peer()).await).await;
        assert_eq!((head.status, &*head.body), (status, ""));
        assert_eq!(head.header("content-length"), full.body.len().to_string());
        assert_eq!(records.recv().await.unwrap().bytes_out, 0);
    }
}

#[tokio::test]
async fn case_means_nothing_in_media_types_and_codings() {
    let door = door(keys);
    for media_type in ["Application/JSON", "application/vnd.Podium+Json; Charset=UTF-8"] {
        let headers = [("content-type", media_type), ("content-encoding", "Identity")];
        let created = ask(&door, "POST", "/api/v1/keys", &headers, r#"{"tenant_id":"acme"}"#).await;
        assert_eq!(created.status, 201, "{media_type}: {}", created.body);
    }
}

#[tokio::test]
async fn trailers_come_last_where_they_can_and_first_where_they_cannot() {
    let door = door(|handlers| {
        handlers.unary(
            "/podium.v1.HealthService/GetLiveness",
            &Arc::new(()),
            |_, cx, _: podium::GetLivenessRequest| async move {
                cx.reply.header("x-first".parse().unwrap(), HeaderValue::from_static("1"));
                cx.reply.trailer("x-last".parse().unwrap(), HeaderValue::from_static("2"));
                Ok(podium::GetLivenessResponse::default())
            },
        );
    });
    let old = ask(&door, "GET", "/health/live", &[], "").await;
    assert_eq!((old.header("x-first"), old.header("x-last")), ("1", "2"));
    let request = http::Request::get("/health/live").version(http::Version::HTTP_2).body(Body::empty()).unwrap();
    let (head, body) = request.into_parts();
    let new = door.call(Box::new(head), body, peer(), RequestId::generate()).await;
    assert_eq!((new.headers().get("x-first").is_some(), new.headers().get("x-last")), (true, None));
    let trailers = new.into_body().collect().await.unwrap().trailers().cloned();
    assert_eq!(trailers.unwrap()["x-last"], "2");
}

#[tokio::test]
async fn a_field_can_be_the_body_and_the_answer() {
    let door = door(|handlers| {
        handlers.unary(
            "/podium.v1.ConfigService/UpdateConfig",
            &Arc::new(()),
            |_, _, request: podium::UpdateConfigRequest| async move {
                let config =
                    podium::Config { defaults: request.patch, environment: request.mode, ..Default::default() };
                Ok(podium::UpdateConfigResponse { config: Some(config) })
            },
        );
        handlers.unary(
            "/podium.v1.ConfigService/ListModels",
            &Arc::new(()),
            |_, _, _: podium::ListModelsRequest| async {
                let document = Bytes::from_static(b"[ 1.0 ]");
                Ok(podium::ListModelsResponse {
                    document,
                    content_type: "application/json".into(),
                    ..Default::default()
                })
            },
        );
        handlers.unary(
            "/podium.v1.SecretsService/SetSecrets",
            &Arc::new(()),
            |_, _, request: podium::SetSecretsRequest| async move {
                let names = request.secrets.map(|secrets| secrets.fields.into_keys().collect()).unwrap_or_default();
                let (agent_type, tenant_id) = (request.agent_type, request.tenant_id);
                Ok(podium::SetSecretsResponse { names, agent_type, tenant_id, ..Default::default() })
            },
        );
    });
    let config = ask(&door, "PUT", "/api/v1/config?mode=replace", &[JSON], r#"{"model":"m"}"#).await.json();
    assert_eq!((&config["defaults"]["model"], &config["environment"]), (&"m".into(), &"replace".into()));
    let models = ask(&door, "GET", "/api/v1/config/models", &[], "").await;
    assert_eq!((models.header("content-type"), &*models.body), ("application/json", "[ 1.0 ]"));
    for body in [r#"{"API_KEY":"x"}"#, r#"{"secrets":{"API_KEY":"x"},"agent_type":"other"}"#] {
        let set = ask(&door, "PUT", "/api/v1/secrets/claude?tenant_id=acme", &[JSON], body).await.json();
        assert_eq!(set["names"], serde_json::json!(["API_KEY"]), "{body}");
        assert_eq!((&set["agent_type"], &set["tenant_id"]), (&"claude".into(), &"acme".into()), "{body}");
    }
}

#[tokio::test]
async fn the_gate_is_asked_before_the_body_is_read() {
    let refuse = || Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "no valid credential");
    let door = guarded(Arc::new(Shut(refuse)), Tasks::new(), keys);
    let touched = Arc::new(AtomicBool::new(false));
    let body = stream::poll_fn({
        let touched = Arc::clone(&touched);
        move |_| {
            touched.store(true, Ordering::SeqCst);
            std::task::Poll::Ready(None::<Result<Frame<Bytes>>>)
        }
    });
    // A caller that waits for permission to send must not get it.
    let headers = [JSON, ("expect", "100-continue")];
    let refused = send(&door, "POST", "/api/v1/keys", &headers, Body::boxed(StreamBody::new(body))).await;
    assert_eq!(refused.failure(), (401, "unauthorized".into()));
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    assert!(!touched.load(Ordering::SeqCst));
}

#[derive(Default)]
struct Steps {
    begun: Notify,
    go_on: Notify,
    done: Notify,
}

#[tokio::test]
async fn what_changes_something_ends_even_if_the_caller_hangs_up() {
    let steps = Arc::new(Steps::default());
    let (recording, mut records) = Recording::new();
    let door = guarded(recording, Tasks::new(), |handlers| {
        handlers.unary(
            "/podium.v1.KeysService/RevokeKey",
            &steps,
            |steps: Arc<Steps>, _, _: podium::RevokeKeyRequest| async move {
                steps.begun.notify_one();
                steps.go_on.notified().await;
                steps.done.notify_one();
                Ok(podium::RevokeKeyResponse {})
            },
        );
    });
    let call =
        Tasks::new().spawn(async move { begin(&door, "DELETE", "/api/v1/keys/k", &[], Body::empty()).await.status() });
    steps.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    steps.go_on.notify_one();
    steps.done.notified().await;
    let record = records.recv().await.unwrap();
    assert_eq!((record.code, record.work), ("canceled", Some("done")), "the record has both");
}

#[tokio::test]
async fn a_request_of_http_1_1_names_its_host_once() {
    let gateway = Gateway::start(Arc::new(Open), keys).await;
    for (version, hosts, status) in [
        ("1.1", "host: a\r\n", "200"),
        ("1.1", "", "400"),
        ("1.1", "host: a\r\nhost: a\r\n", "400"),
        ("1.0", "", "200"),
        ("1.0", "host: a\r\nhost: b\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let request = format!("GET /api/v1/keys HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.get(9..12), Some(status), "{version} {hosts:?}: {answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
    }
}

#[tokio::test]
async fn the_bytes_of_an_error_are_counted() {
    let (recording, mut records) = Recording::new();
    let door = guarded(recording, Tasks::new(), |handlers| {
        handlers.unary(
            "/podium.v1.KeysService/RevokeKey",
            &Arc::new(()),
            |_: Arc<()>, _, _: podium::RevokeKeyRequest| async move {
                Err::<podium::RevokeKeyResponse, _>(Error::not_found(reason::KEY_NOT_FOUND, "key", "k"))
            },
        );
    });
    let answer = send(&door, "DELETE", "/api/v1/keys/k", &[], Body::empty()).await;
    let record = records.recv().await.unwrap();
    assert_eq!((record.code, record.bytes_out), ("not_found", answer.body.len() as u64));
}
