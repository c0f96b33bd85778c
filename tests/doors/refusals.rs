//! What is refused before a handler is reached, and how each protocol says it.

use std::io::Write;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use portico::base::{Code, Error, Outgoing, reason};

use super::*;

#[tokio::test]
async fn an_unknown_method_is_refused_in_the_protocol_of_the_caller() {
    let edge = edge(&keys());
    for media_type in ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text"] {
        let answer = send(&edge, post("/a.B/C", media_type), "").await;
        assert_eq!(answer.status, StatusCode::OK, "{media_type}");
        assert!(answer.header("content-type").starts_with(media_type), "{media_type}");
        assert!(!answer.body.is_empty() || answer.grpc_status() == "12", "{media_type}");
    }
    let answer = send(&edge, post("/a.B/C", "application/proto"), "").await;
    assert_eq!((answer.status, answer.connect_code().as_str()), (StatusCode::NOT_FOUND, "unimplemented"));
    let answer = send(&edge, post("/a.B/C", "application/connect+json"), "").await;
    assert!(answer.body.windows(13).any(|part| part == b"unimplemented"));
    // Not a call in any protocol: the web's, and there is none here.
    assert_eq!(send(&edge, Request::get("/a.B/C"), "").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_failed_call_says_how_it_ended_once() {
    let mut handlers = keys();
    on(&mut handlers, READING, |_, _: ListKeysRequest| async move {
        Err::<ListKeysResponse, _>(Error::new(Code::NotFound, reason::KEY_NOT_FOUND, "no such key"))
    });
    let edge = edge(&handlers);
    // By the gateway, by a handler, by the engine.
    for (path, body) in [("/a.B/C", vec![]), (READING, envelope(0, b"")), (MUTATING, envelope(0b100, b""))] {
        let answer = send(&edge, post(path, "application/grpc"), body.clone()).await;
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
            let counted = [&answer.headers, &answer.trailers].map(|sent| sent.get_all(name).iter().count());
            assert_eq!(counted, [1, 0], "{path} {name}");
        }
        let answer = send(&edge, post(path, "application/grpc-web"), body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!((text.matches("grpc-status:").count(), answer.grpc_status()), (1, ""), "{path} {text}");
    }
}

#[tokio::test]
async fn the_wrong_verb_is_405_and_the_wrong_media_type_415() {
    let edge = edge(&keys());
    let answer = send(&edge, Request::get(MUTATING), "").await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let answer = send(&edge, Request::delete(READING), "").await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, POST"));
    let answer = send(&edge, post(MUTATING, "text/plain"), "").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(answer.header("accept-post").contains("application/grpc-web-text"));
    // A stream's media type does not fit a method of one message.
    let answer = send(&edge, post(MUTATING, "application/connect+proto"), envelope(0, b"")).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = send(&edge, post(MUTATING, "application/grpc+thrift"), "").await;
    assert_eq!(answer.grpc_status(), "12");
}

#[tokio::test]
async fn what_is_no_call_is_on_record_with_the_bytes_that_were_sent() {
    let (recording, mut records) = crate::support::record::Recording::new();
    let edge = edge_with(&keys(), recording, Tasks::new(), Config::default());
    for (request, code) in [
        (post("/a.B/C", "application/grpc"), "unimplemented"),
        (post("/a.B/C", "application/proto"), "unimplemented"),
        (Request::delete(READING), "unimplemented"),
        (post(MUTATING, "text/plain"), "unimplemented"),
        (post(MUTATING, "application/grpc-web+thrift"), "unimplemented"),
        (Request::get("/nowhere"), "unimplemented"),
        (post(MUTATING, "application/json").header("connect-timeout-ms", "soon"), "invalid_argument"),
    ] {
        let told = format!("{request:?}");
        let answer = send(&edge, request, "").await;
        let record = records.recv().await.unwrap();
        assert_eq!((record.code, record.bytes_out), (code, answer.body.len() as u64), "{told}");
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_refused_rather_than_ignored() {
    let edge = edge(&keys());
    for value in ["12345678901", "-1", "1.5", "soon"] {
        let answer = send(&edge, post(MUTATING, "application/json").header("connect-timeout-ms", value), "{}").await;
        assert_eq!((answer.status, answer.connect_code().as_str()), (StatusCode::BAD_REQUEST, "invalid_argument"));
    }
    for value in ["123456789S", "1", "1x", "+1S"] {
        let request = post(MUTATING, "application/grpc").header("grpc-timeout", value);
        assert_eq!(send(&edge, request, envelope(0, b"")).await.grpc_status(), "3", "{value}");
    }
}

#[tokio::test]
async fn a_call_whose_deadline_is_over_does_nothing() {
    let mut handlers = Handlers::new();
    on(&mut handlers, MUTATING, |_: Context, _: CreateKeyRequest| async {
        unreachable!("it is too late") as Result<()>
    });
    handlers.server_stream(STREAMING, &Arc::new(()), |_, _, _: FollowLogsRequest| async {
        unreachable!("it is too late") as Result<Outgoing<FollowLogsResponse>>
    });
    let edge = edge(&handlers);
    for kind in ["application/json", "application/json; charset=utf-8"] {
        let answer = send(&edge, post(MUTATING, kind).header("connect-timeout-ms", "0"), "{}").await;
        assert_eq!((answer.status.as_u16(), answer.connect_code().as_str()), (504, "deadline_exceeded"), "{kind}");
    }
    for timeout in ["0S", "1n"] {
        for path in [MUTATING, STREAMING] {
            let request = post(path, "application/grpc").header("grpc-timeout", timeout);
            assert_eq!(send(&edge, request, envelope(0, b"")).await.grpc_status(), "4", "{path} {timeout}");
        }
    }
}

#[tokio::test]
async fn an_unknown_envelope_flag_is_refused() {
    let edge = edge(&keys());
    let answer = send(&edge, post(MUTATING, "application/grpc"), envelope(0b100, b"")).await;
    assert_eq!(answer.grpc_status(), "3");
    assert!(answer.header("grpc-message").contains("flags"));
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_compressed_or_not() {
    let edge = edge(&keys());
    let large = CreateKeyRequest { name: "x".repeat(portico::edge::MESSAGE_BYTES_MAX), ..Default::default() };
    let large = large.to_wire();
    let answer = send(&edge, post(MUTATING, "application/proto"), large.clone()).await;
    assert_eq!(answer.connect_code(), "resource_exhausted");

    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
    writer.write_all(&large).unwrap();
    let bomb = writer.into_inner();
    assert!(bomb.len() < 4_096, "it is a bomb");
    let request = post(MUTATING, "application/proto").header("content-encoding", "br");
    assert_eq!(send(&edge, request, bomb.clone()).await.connect_code(), "resource_exhausted");
    let request = post(MUTATING, "application/grpc").header("grpc-encoding", "br");
    assert_eq!(send(&edge, request, envelope(1, &bomb)).await.grpc_status(), "8");
}

#[tokio::test]
async fn programs_read_why_json_is_refused_and_of_the_exchange_by_its_code_alone() {
    let edge = edge(&keys());
    let details =
        |answer: &Answer| serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["details"].clone();
    for media_type in ["application/json", "application/json; charset=utf-8"] {
        let answer = send(&edge, post(MUTATING, media_type), "{\"name\":").await;
        let detail = &details(&answer)[0];
        assert_eq!(detail["type"], "google.rpc.ErrorInfo", "{detail}");
        let info = STANDARD_NO_PAD.decode(detail["value"].as_str().unwrap()).unwrap();
        assert!(info.windows(12).any(|part| part == b"invalid_json"), "{detail}");
    }
    // As the conformance suite wants it, and the reference says it.
    let answer = send(&edge, post(MUTATING, "application/json").header("connect-timeout-ms", "soon"), "{}").await;
    assert_eq!((answer.connect_code().as_str(), details(&answer).is_null()), ("invalid_argument", true));
    let answer = send(&edge, post(MUTATING, "application/json").header("connect-timeout-ms", "0"), "{}").await;
    assert_eq!((answer.connect_code().as_str(), details(&answer).is_null()), ("deadline_exceeded", true));
}

#[tokio::test]
async fn what_cannot_be_decoded_is_the_callers_fault() {
    let edge = edge(&keys());
    // What is passed over may not nest deeper than what is read.
    let deep = format!("{{\"unknown\":{}{}}}", "[".repeat(500_000), "]".repeat(500_000));
    for (media_type, body) in [
        ("application/json", "{\"name\": 1}".to_owned()),
        ("application/proto", "\u{1}".to_owned()),
        ("application/json", deep),
    ] {
        let answer = send(&edge, post(MUTATING, media_type), body).await;
        assert_eq!((answer.status, answer.connect_code().as_str()), (StatusCode::BAD_REQUEST, "invalid_argument"));
    }
}
