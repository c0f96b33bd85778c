//! Calls of one message each way.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portico::{
    base::{Code, Error, Retry, reason},
    wire::google::rpc::{ErrorInfo, RetryInfo},
};
use prost::Message;
use tokio::sync::mpsc;

use super::*;
use crate::support::record::Recording;

#[tokio::test]
async fn every_protocol_and_encoding_reaches_the_same_handler() {
    let edge = edge(&keys());
    let wire = CreateKeyRequest { name: "ci".into(), ..Default::default() }.to_wire();
    let expected = CreateKeyResponse { name: "ci".into(), ..Default::default() }.to_wire();

    assert_eq!(send(&edge, post(MUTATING, "application/proto"), wire.clone()).await.body, expected);
    assert_eq!(send(&edge, post(MUTATING, "application/json"), r#"{"name":"ci"}"#).await.body, r#"{"name":"ci"}"#);
    let answer = send(&edge, post(MUTATING, "application/grpc"), envelope(0, &wire)).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (envelope(0, &expected), "0"));
    let answer = send(&edge, post(MUTATING, "application/grpc+json"), envelope(0, br#"{"name":"ci"}"#)).await;
    assert_eq!(answer.body, envelope(0, br#"{"name":"ci"}"#));

    // The prefix that browsers' proxies like, and a read by GET.
    let answer = send(&edge, post(&format!("/api{MUTATING}"), "application/json"), r#"{"name":"ci"}"#).await;
    assert_eq!(answer.body, r#"{"name":"ci"}"#);
    let answer = send(&edge, Request::get(format!("{READING}?connect=v1&encoding=json&message=%7B%7D")), "").await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, b"{}".as_slice()));
}

#[tokio::test]
async fn case_means_nothing_in_media_types_and_codings() {
    let edge = edge(&keys());
    let wire = CreateKeyRequest { name: "ci".into(), ..Default::default() }.to_wire();
    let expected = CreateKeyResponse { name: "ci".into(), ..Default::default() }.to_wire();
    for media_type in ["Application/JSON", "application/json; Charset=UTF-8"] {
        let request = post(MUTATING, media_type).header("content-encoding", "Identity");
        let answer = send(&edge, request, r#"{"name":"ci"}"#).await;
        assert_eq!((answer.header("content-type"), &answer.body[..]), ("application/json", &br#"{"name":"ci"}"#[..]));
    }
    assert_eq!(send(&edge, post(MUTATING, "APPLICATION/PROTO"), wire.clone()).await.body, expected);
    let answer = send(&edge, post(MUTATING, "application/gRPC+Proto"), envelope(0, &wire)).await;
    assert_eq!((answer.body.to_vec(), answer.grpc_status()), (envelope(0, &expected), "0"));
    let answer = send(&edge, post(MUTATING, "Application/gRPC-Web"), envelope(0, &wire)).await;
    assert!(answer.body.starts_with(&envelope(0, &expected)), "{:?}", answer.body);
    let body = STANDARD.encode(envelope(0, &wire));
    let answer = send(&edge, post(MUTATING, "application/gRPC-Web-Text"), body).await;
    assert!(answer.body.starts_with(STANDARD.encode(envelope(0, &expected)).as_bytes()), "{:?}", answer.body);
}

#[tokio::test]
async fn base64_goes_in_and_out_of_grpc_web_text() {
    let edge = edge(&keys());
    let wire = CreateKeyRequest { name: "ci".into(), ..Default::default() }.to_wire();
    let body = STANDARD.encode(envelope(0, &wire));
    let answer = send(&edge, post(MUTATING, "application/grpc-web-text"), body).await;
    assert_eq!(answer.header("content-type"), "application/grpc-web-text+proto");
    // Each frame is padded by itself: the message, then the trailers.
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let message =
        STANDARD.encode(envelope(0, &CreateKeyResponse { name: "ci".into(), ..Default::default() }.to_wire()));
    let trailers = STANDARD.decode(text.strip_prefix(&message).unwrap()).unwrap();
    assert_eq!(trailers, envelope(0x80, b"grpc-status: 0\r\n"));

    let answer = send(&edge, post(MUTATING, "application/grpc-web-text"), "?").await;
    let trailers = STANDARD.decode(&answer.body).unwrap();
    assert!(String::from_utf8_lossy(&trailers).contains("grpc-status: 3"));
}

#[tokio::test]
async fn an_error_carries_its_reason_where_programs_look() {
    let mut handlers = Handlers::new();
    on(&mut handlers, MUTATING, |_, _: CreateKeyRequest| async move {
        let error = Error::new(Code::ResourceExhausted, reason::QUOTA_EXCEEDED, "no more keys").with_fact("limit", "5");
        Err::<CreateKeyResponse, _>(error.retry(Retry::After(Duration::from_secs(3))))
    });
    let answer = send(&edge(&handlers), post(MUTATING, "application/json"), "{}").await;
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!((json["code"].as_str(), json["message"].as_str()), (Some("resource_exhausted"), Some("no more keys")));
    let detail = |at: usize| {
        let value = json["details"][at]["value"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD_NO_PAD.decode(value).unwrap()
    };
    assert_eq!(json["details"][0]["type"], "google.rpc.ErrorInfo");
    let info = ErrorInfo::decode(detail(0).as_slice()).unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str(), info.metadata["limit"].as_str()),
        ("quota_exceeded", "portico", "5")
    );
    assert_eq!(RetryInfo::decode(detail(1).as_slice()).unwrap().retry_delay.unwrap().seconds, 3);
    assert_eq!(answer.header("retry-after"), "3");
}

#[tokio::test]
async fn a_panic_is_the_failure_of_one_call() {
    let mut handlers = keys();
    on(&mut handlers, MUTATING, |_, request: CreateKeyRequest| async move {
        assert_ne!(request.name, "bad", "a secret of the handler");
        Ok(CreateKeyResponse::default())
    });
    on(&mut handlers, READING, |_, _: ListKeysRequest| async move {
        if true { panic!("a secret of the handler") } else { Ok(ListKeysResponse::default()) }
    });
    let edge = edge(&handlers);
    for (path, body) in [(MUTATING, r#"{"name":"bad"}"#), (READING, "{}")] {
        let answer = send(&edge, post(path, "application/json"), body).await;
        assert_eq!((answer.status, answer.connect_code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"));
    }
    assert_eq!(send(&edge, post(MUTATING, "application/json"), "{}").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_change_completes_when_its_caller_hangs_up_and_a_read_is_stopped() {
    let (note, mut notes) = mpsc::unbounded_channel();
    let (go, gone) = tokio::sync::watch::channel(false);
    let mut handlers = Handlers::new();
    for path in [MUTATING, READING] {
        let (note, gone) = (note.clone(), gone.clone());
        let call = move |_: Context, (): ()| {
            let (note, mut gone) = (note.clone(), gone.clone());
            async move {
                note.send(format!("{path} begins")).unwrap();
                gone.wait_for(|gone| *gone).await.unwrap();
                note.send(format!("{path} ends")).unwrap();
                Ok(())
            }
        };
        on(&mut handlers, path, call);
    }
    drop(note);
    let (recording, mut records) = Recording::new();
    let edge = Arc::new(edge_with(&handlers, recording, Tasks::new(), Config::default()));
    for path in [MUTATING, READING] {
        let edge = Arc::clone(&edge);
        let call = Tasks::new().spawn(async move { send(&edge, post(path, "application/proto"), "").await });
        assert_eq!(notes.recv().await.unwrap(), format!("{path} begins"));
        call.abort();
        assert!(call.await.is_err(), "the caller is gone");
    }
    go.send(true).unwrap();
    drop((edge, handlers));
    assert_eq!(notes.recv().await.unwrap(), format!("{MUTATING} ends"));
    assert_eq!(notes.recv().await, None, "the read was stopped");
    let ended = [records.recv().await.unwrap(), records.recv().await.unwrap()].map(|record| (record.code, record.work));
    assert_eq!(ended, [("canceled", None), ("canceled", Some("done"))], "the record has both");
}

#[tokio::test]
async fn handlers_see_headers_without_credentials_and_callers_see_the_request_id() {
    let mut handlers = Handlers::new();
    on(&mut handlers, READING, |cx: Context, _: ListKeysRequest| async move {
        let seen = ["authorization", "cookie", "x-api-key", "x-team"].map(|name| cx.metadata.get(name).is_some());
        assert_eq!(seen, [false, false, false, true]);
        assert_eq!((cx.procedure, cx.id.as_str()), (READING, "mine"));
        Ok(ListKeysResponse::default())
    });
    let mut request = post(READING, "application/json").header("x-request-id", "mine");
    for name in ["authorization", "cookie", "x-api-key", "x-team"] {
        request = request.header(name, "value");
    }
    let answer = send(&edge(&handlers), request, "{}").await;
    assert_eq!((answer.status, answer.header("x-request-id")), (StatusCode::OK, "mine"));
}
