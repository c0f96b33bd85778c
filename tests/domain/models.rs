//! The models of Ensemble, asked over a real connection.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use portico::{
    backend::ensemble::Ensemble,
    base::{Caller, Context, Error, Reason, Retry, Secret, clock::SystemClock, health::State, reason, tasks::Tasks},
    domain::models::{Models, Shown},
    port::catalog::Catalog,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const MODELS: &str = r#"{"models":[{"id":"gpt-5","pricing":{"input":"1.25"},"new_field":[1]}],"next":null}"#;

#[tokio::test]
async fn the_document_passes_through_and_is_asked_for_once() {
    let server = Server::start(ok(MODELS)).await;
    let models = server.models();
    let cx = call();
    let (one, two) = tokio::join!(models.list(&cx, ""), models.list(&cx, ""));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.list.document, MODELS);
    assert_eq!(one.list.models[0]["id"], "gpt-5");
    assert!(!one.stale && Arc::ptr_eq(&one.list, &two.list));
    let asked = server.asked();
    assert_eq!(asked.len(), 1, "one question was under way at a time");
    assert!(asked[0].starts_with("GET /api/v1/models HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Bearer ens_own\r\n"), "{}", asked[0]);
}

#[tokio::test]
async fn three_shapes_are_read() {
    for (body, document) in
        [(r#"{"data":[{"id":"a"}]}"#, r#"{"data":[{"id":"a"}]}"#), (r#" [{"id":"a"}]"#, r#"{"models": [{"id":"a"}]}"#)]
    {
        let shown = Server::start(ok(body)).await.models().list(&call(), "").await.unwrap();
        assert_eq!(shown.list.document, document);
        assert_eq!(shown.list.models[0]["id"], "a");
    }
}

#[tokio::test]
async fn every_failure_has_its_reason() {
    let later = |seconds| Retry::After(Duration::from_secs(seconds));
    for (answer, expected, retry) in [
        (status(401), reason::ENSEMBLE_AUTH_FAILED, Retry::Never),
        (status(403), reason::ENSEMBLE_AUTH_FAILED, Retry::Never),
        (status(404), reason::ENSEMBLE_BAD_RESPONSE, Retry::Never),
        (status(302), reason::ENSEMBLE_BAD_RESPONSE, Retry::Never),
        (
            "HTTP/1.1 429 X\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n".to_owned(),
            reason::ENSEMBLE_UNAVAILABLE,
            later(17),
        ),
        (status(500), reason::ENSEMBLE_ERROR, Retry::After(Duration::from_secs(5))),
        (ok("<html>"), reason::ENSEMBLE_BAD_RESPONSE, Retry::Never),
        (ok(r#"{"models":[1]}"#), reason::ENSEMBLE_BAD_RESPONSE, Retry::Never),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9000000\r\n\r\n".to_owned() + &"x".repeat(9_000_000),
            reason::ENSEMBLE_BAD_RESPONSE,
            Retry::Never,
        ),
    ] {
        let error = refusal(Server::start(answer.clone()).await.models().list(&call(), "").await);
        assert_eq!((error.reason(), error.retry_hint()), (expected, retry), "{}", &answer[..answer.len().min(60)]);
    }
    assert_eq!(reason_of(Models::new(None, Tasks::new()).list(&call(), "").await), reason::ENSEMBLE_NOT_CONFIGURED);
    let ensemble = Ensemble::new("http://127.0.0.1:1", None).unwrap();
    assert_eq!(ensemble.health().await.unwrap().state, State::Down);
    assert_eq!(
        reason_of(Models::new(Some(Arc::new(ensemble)), Tasks::new()).list(&call(), "").await),
        reason::ENSEMBLE_UNAVAILABLE
    );
}

#[tokio::test(start_paused = true)]
async fn the_last_good_list_is_shown_for_ten_minutes() {
    let _time_stands = super::time_stands();
    let server = Server::start(ok(MODELS)).await;
    let models = server.models();
    models.list(&call(), "").await.unwrap();
    server.answer(status(500));
    tokio::time::advance(Duration::from_secs(59)).await;
    assert!(!models.list(&call(), "").await.unwrap().stale, "a minute old is fresh");
    tokio::time::advance(Duration::from_secs(2)).await;
    let shown = models.list(&call(), "").await.unwrap();
    assert!(shown.stale && shown.age >= Duration::from_secs(61));
    models.list(&call(), "").await.unwrap();
    assert_eq!(server.asked().len(), 2, "a catalog in trouble is not pressed");
    tokio::time::advance(Duration::from_secs(540)).await;
    assert_eq!(reason_of(models.list(&call(), "").await), reason::ENSEMBLE_ERROR);
    server.answer(ok(MODELS));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(!models.list(&call(), "").await.unwrap().stale);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_catalog_that_hangs_while_there_is_a_good_list() {
    let server = Server::start(ok(MODELS)).await;
    let models = {
        let _time_stands = super::time_stands();
        let models = server.models();
        models.list(&call(), "").await.unwrap();
        models
    };
    server.answer(String::new());
    tokio::time::advance(Duration::from_secs(61)).await;
    let began = tokio::time::Instant::now();
    assert!(models.list(&call(), "").await.unwrap().stale);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn addresses_and_keys_are_checked_at_start() {
    for url in ["", "ensemble:8080", "ftp://ensemble", "http://ensemble?x=1", "http://"] {
        assert!(Ensemble::new(url, None).is_err(), "{url}");
    }
    assert!(Ensemble::new("http://ensemble:8080/", Some(&Secret::new("a\nb"))).is_err());
    let server = Server::start(ok(MODELS)).await;
    let below = Ensemble::new(&format!("http://{}/base/", server.address), None).unwrap();
    below.models(&call(), "").await.unwrap();
    assert!(server.asked()[0].starts_with("GET /base/api/v1/models "));
}

fn call() -> Context {
    Context::internal("/test", Caller::clone(&Caller::anonymous()), Arc::new(SystemClock))
}

/// Something that answers every request with the same bytes, and hangs when there are none.
struct Server {
    address: std::net::SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the task ends with the server")]
    async fn start(answer: String) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(Mutex::new(Vec::new())));
        let (answers, questions) = (Arc::clone(&answer), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                questions.lock().unwrap().push(String::from_utf8(head).unwrap());
                if answers.lock().unwrap().is_empty() {
                    std::future::pending::<()>().await;
                }
                let answer = answers.lock().unwrap().replacen("\r\n", "\r\nconnection: close\r\n", 1);
                // The client may have enough before the end.
                let _enough = stream.write_all(answer.as_bytes()).await;
                let _gone = stream.shutdown().await;
            }
        });
        Server { address, answer, asked, task }
    }

    fn models(&self) -> Models {
        let ensemble = Ensemble::new(&format!("http://{}", self.address), Some(&Secret::new("ens_own"))).unwrap();
        Models::new(Some(Arc::new(ensemble)), Tasks::new())
    }

    fn answer(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
}

fn refusal(outcome: portico::base::Result<Shown>) -> Error {
    match outcome {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

fn reason_of(outcome: portico::base::Result<Shown>) -> Reason {
    refusal(outcome).reason()
}
