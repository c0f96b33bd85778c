//! An Ensemble of our own: answers `GET /api/v1/models` as it is told, and counts.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use portico::base::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// The models that it tells of at first.
pub(crate) const MODELS: &str = r#"{"models":[{"id":"claude-sonnet-4-20250514","name":"Claude Sonnet 4","provider":"anthropic","capabilities":{"streaming":true,"tools":true,"vision":true},"context_window":200000,"max_output_tokens":64000,"pricing":{"currency":"USD","unit":"per_mtok","input":"3.00","output":"15.00","cached_input":"0.30"},"status":"available"}],"total":1}"#;

/// The longest request head that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// More than any test asks for.
const ANSWERS_MAX: usize = 1 << 20;

/// A running Ensemble. Ends with the test's runtime.
pub(crate) struct Ensemble {
    address: SocketAddr,
    script: Arc<Script>,
}

struct Script {
    answer: Mutex<(u16, String)>,
    heads: Mutex<Vec<String>>,
    /// Answers wait for a permit, if they shall.
    gate: Semaphore,
}

impl Ensemble {
    pub(crate) async fn start() -> Ensemble {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script {
            answer: Mutex::new((200, MODELS.to_owned())),
            heads: Mutex::new(Vec::new()),
            gate: Semaphore::new(ANSWERS_MAX),
        });
        let told = Arc::clone(&script);
        let tasks = Tasks::new();
        let serving = tasks.clone();
        let _ends_with_the_runtime = tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ends_by_itself = serving.spawn(serve(stream, Arc::clone(&told)));
            }
        });
        Ensemble { address, script }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on answers this.
    pub(crate) fn answers(&self, status: u16, body: &str) {
        *self.script.answer.lock().unwrap() = (status, body.to_owned());
    }

    /// From now on answers nothing, until [`Ensemble::release`].
    pub(crate) fn hold(&self) {
        self.script.gate.forget_permits(usize::MAX);
    }

    pub(crate) fn release(&self) {
        self.script.gate.add_permits(ANSWERS_MAX);
    }

    /// The heads of the requests that came.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.script.heads.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Script>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    script.heads.lock().unwrap().push(String::from_utf8_lossy(&head).to_lowercase());
    script.gate.acquire().await.unwrap().forget();
    let (status, body) = script.answer.lock().unwrap().clone();
    let answer = format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\nretry-after: 7\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // A caller that hung up is the test's business.
    let _sent = stream.write_all(answer.as_bytes()).await.is_ok();
}
