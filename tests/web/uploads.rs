//! Bodies that stream in: forms and files.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use portico::{
    base::{Code, Error, Incoming, Result, reason},
    edge::{Body, Rest},
    wire::{Handlers, podium::v1 as podium},
};

use super::support::{Answer, ask, door, send};

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XX");

/// Answers with what it got: text fields, and the file's bytes as checksum.
fn deployments() -> Rest {
    door(on_upload)
}

fn on_upload(handlers: &mut Handlers) {
    handlers.client_stream(
        "/podium.v1.DeploymentsService/UploadDeployment",
        &Arc::new(()),
        |_, _, mut messages: Incoming<podium::UploadDeploymentRequest>| async move {
            let mut stored = podium::UploadDeploymentResponse::default();
            let mut file = Vec::new();
            while let Some(message) = messages.next().await {
                let message = message?;
                stored.agent_type.push_str(&message.agent_type);
                stored.version.push_str(&message.version);
                file.extend_from_slice(&message.file);
            }
            stored.checksum = String::from_utf8(file).unwrap();
            Ok(stored)
        },
    );
}

fn part(name: &str, value: &str) -> String {
    format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\n\r\n{value}\r\n")
}

fn form(parts: &[(&str, &str)]) -> String {
    parts.iter().map(|(name, value)| part(name, value)).collect::<String>() + "--XX--\r\n"
}

async fn upload(body: String) -> Answer {
    ask(&deployments(), "POST", "/api/v1/deployments", &[FORM], body).await
}

fn told(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    (answer.status, format!("{} {} {}", field("agent_type"), field("version"), field("checksum")))
}

#[tokio::test]
async fn parts_may_come_in_any_order() {
    let parts = [("file", "a\r\n--X\r\nb"), ("agent_type", "claude"), ("version", "1.0.0")];
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let answer = upload(form(&order.map(|at| parts[at]))).await;
        assert_eq!(told(&answer), (201, "claude 1.0.0 a\r\n--X\r\nb".into()), "{order:?}");
    }
}

#[tokio::test]
async fn a_form_is_one_however_its_type_is_written() {
    let headers = [("content-type", "Multipart/Form-Data; Boundary=XX")];
    let whole = form(&[("agent_type", "t"), ("version", "1"), ("file", "f")]);
    let answer = ask(&deployments(), "POST", "/api/v1/deployments", &headers, whole).await;
    assert_eq!(told(&answer), (201, "t 1 f".into()));
}

#[tokio::test]
async fn parts_that_mean_nothing_are_thrown_away() {
    let large = "x".repeat(3 << 20);
    let answer = upload(form(&[("note", &large), ("agent_type", "t"), ("version", "1"), ("file", "f")])).await;
    assert_eq!(told(&answer), (201, "t 1 f".into()));
}

#[tokio::test]
async fn parts_may_be_cut_anywhere() {
    let whole = form(&[("version", "1"), ("file", "12\r\n--X345"), ("other", "y"), ("agentType", "t")]);
    let door = deployments();
    for size in [1, 2, 3, 5, 7, 50] {
        let pieces: Vec<_> =
            whole.as_bytes().chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        let body = Body::boxed(StreamBody::new(stream::iter(pieces)));
        let answer = send(&door, "POST", "/api/v1/deployments", &[FORM], body).await;
        assert_eq!(told(&answer), (201, "t 1 12\r\n--X345".into()), "{size}");
    }
}

#[tokio::test]
async fn forms_that_are_not_taken() {
    let long = "x".repeat(1_025);
    let cases = [
        (form(&[("version", "1"), ("version", "2")]), 400, "duplicate_field"),
        (form(&[("file", "1"), ("file", "2")]), 400, "duplicate_field"),
        (form(&[("version", &long)]), 422, "validation_failed"),
        (part("version", "1"), 400, "not_multipart"),
        ("nothing like it".to_owned(), 400, "not_multipart"),
        (form(&[("x", ""); 65]), 413, "body_too_large"),
        (format!("--XX\r\nContent-Disposition: {}", "x".repeat(2 << 20)), 400, "not_multipart"),
    ];
    for (body, status, reason) in cases {
        let shown = body.chars().take(60).collect::<String>();
        assert_eq!(upload(body).await.failure(), (status, reason.into()), "{shown}");
    }
    let door = deployments();
    let json = ask(&door, "POST", "/api/v1/deployments", &[("content-type", "application/json")], "{}").await;
    assert_eq!(json.failure(), (415, "unsupported_media_type".into()));
    for unbounded in ["multipart/form-data", "multipart/form-data; boundary=\"\""] {
        let unbounded = ask(&door, "POST", "/api/v1/deployments", &[("content-type", unbounded)], "--XX--").await;
        assert_eq!(unbounded.failure(), (400, "not_multipart".into()));
    }
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_rest_and_nothing_is_read_ahead() {
    let door = door(|handlers| {
        handlers.client_stream(
            "/podium.v1.DeploymentsService/UploadDeployment",
            &Arc::new(()),
            |_, _, mut messages: Incoming<podium::UploadDeploymentRequest>| async move {
                let first = messages.next().await;
                assert!(first.is_some_and(|message| message.is_ok_and(|message| !message.file.is_empty())));
                Err::<podium::UploadDeploymentResponse, _>(Error::new(
                    Code::InvalidArgument,
                    reason::NOT_GZIP,
                    "not gzip",
                ))
            },
        );
    });
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&taken);
    let head = stream::iter([Ok(Frame::data(Bytes::from(part("file", ""))))]);
    let endless = stream::repeat_with(move || -> Result<Frame<Bytes>> {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from_static(&[b'x'; 1_024])))
    });
    let request = http::Request::post("/api/v1/deployments").header(FORM.0, FORM.1).version(http::Version::HTTP_2);
    let body = Body::boxed(StreamBody::new(head.chain(endless)));
    let id = portico::base::RequestId::generate();
    let (head, body) = request.body(body).unwrap().into_parts();
    let response = portico::edge::Web::call(&door, Box::new(head), body, super::support::peer(), id).await;
    assert_eq!(response.status(), 400);
    assert!(taken.load(Ordering::SeqCst) <= 4, "{} chunks were read for one", taken.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_file_is_the_body_and_its_address_comes_first() {
    let door = door(|handlers| {
        handlers.client_stream(
            "/podium.v1.InstancesService/WriteFile",
            &Arc::new(()),
            |_, _, mut messages: Incoming<podium::WriteFileRequest>| async move {
                let first = messages.next().await.unwrap()?;
                let mut size_bytes = 0;
                while let Some(message) = messages.next().await {
                    size_bytes += i64::try_from(message?.content.len()).unwrap();
                }
                Ok(podium::WriteFileResponse { path: format!("{}:{}", first.instance_id, first.path), size_bytes })
            },
        );
    });
    let chunks = ["one", "", "two"].map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))));
    let body = Body::boxed(StreamBody::new(stream::iter(chunks)));
    let written = send(&door, "POST", "/api/v1/instances/a/files/src/main%20x.rs", &[], body).await;
    assert_eq!((written.status, &*written.body), (201, r#"{"path":"a:src/main x.rs","size_bytes":6}"#));
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_says_nothing_is_not_waited_for() {
    let began = tokio::time::Instant::now();
    let body = Body::boxed(StreamBody::new(stream::pending::<Result<Frame<Bytes>>>()));
    let answer = send(&deployments(), "POST", "/api/v1/deployments", &[FORM], body).await;
    assert_eq!((answer.failure(), began.elapsed().as_secs()), ((408, "upload_timeout".into()), 30));
}

#[tokio::test]
async fn a_refusal_reaches_a_caller_who_still_sends() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let refuse = || Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "no valid credential");
    let gateway = super::support::Gateway::start(Arc::new(super::support::Shut(refuse)), |_| {}).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let size = 3 << 20;
    let head = format!("POST /api/v1/keys HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn a_refusal_over_http_2_lets_its_caller_send_to_the_end() {
    use hyper_util::rt::{TokioExecutor, TokioIo};

    const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 << 10]);
    let refuse = || Error::new(Code::Unauthenticated, reason::UNAUTHORIZED, "no valid credential");
    let gateway = super::support::Gateway::start(Arc::new(super::support::Shut(refuse)), |_| {}).await;
    let doors =
        [("/api/v1/keys", "application/json", 401), ("/podium.v1.KeysService/Unknown", "application/proto", 404)];
    for (path, kind, status) in doors {
        let stream = TokioIo::new(tokio::net::TcpStream::connect(gateway.address).await.unwrap());
        let (mut calls, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        gateway.tasks.spawn(connection);
        let (sent, all) = tokio::sync::oneshot::channel();
        let last = stream::once(async move {
            sent.send(()).unwrap();
            CHUNK
        });
        let chunks = stream::iter(vec![CHUNK; 127]).chain(last).map(|chunk| Ok::<_, Error>(Frame::data(chunk)));
        let request = http::Request::post(format!("http://{}{path}", gateway.address)).header("content-type", kind);
        let request = request.body(Box::pin(StreamBody::new(chunks))).unwrap();
        let answer = calls.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status);
        http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
        all.await.expect("the stream was not reset while its body was on its way");
    }
}

#[tokio::test]
async fn a_body_that_is_not_framed_as_http_says_is_the_callers_fault() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let gateway = super::support::Gateway::start(Arc::new(portico::gate::Open), |handlers| {
        handlers.unary("/podium.v1.KeysService/CreateKey", &Arc::new(()), |_, _, _: podium::CreateKeyRequest| async {
            Ok(podium::CreateKeyResponse::default())
        });
        on_upload(handlers);
    })
    .await;
    for (path, kind) in [("keys", "application/json"), ("deployments", FORM.1)] {
        let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST /api/v1/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n");
        let body = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n";
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let is_told = answer.starts_with("HTTP/1.1 400") && answer.contains(r#""code":"invalid_message""#);
        assert!(is_told, "{path}: {answer}");
    }
}
