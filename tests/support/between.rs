//! Between a gateway and a store: every request is noted, and some are held up or answered otherwise than the store would.
//!
//! A newcomer's usual mistake is to take a header off. Requests are signed over their headers; one that shall not reach the
//! store is answered here.
//!
//! *Knows:* HTTP/1.1, the errors of S3. *Does not know:* objects.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Either, Full};
use hyper::{body::Incoming, client::conn::http1 as client, server::conn::http1 as server, service::service_fn};
use hyper_util::rt::TokioIo;
use portico::base::tasks::Tasks;
use tokio::net::{TcpListener, TcpStream};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// The store answers.
    Passes,
    /// The store answers, after a while.
    Waits(Duration),
    /// This status and code are the answer.
    Fails(u16, &'static str),
}

/// Decides by the head of a request.
pub(crate) type Rule = dyn Fn(&Parts) -> Fate + Send + Sync;

/// Somebody between a gateway and its store.
pub(crate) struct Between {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    store: SocketAddr,
    rule: Mutex<Arc<Rule>>,
    noted: Mutex<Vec<Parts>>,
}

type Body = Either<Incoming, Full<Bytes>>;

impl Between {
    /// In front of this store; everything passes.
    pub(crate) async fn start(store: SocketAddr) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared =
            Arc::new(Shared { store, rule: Mutex::new(Arc::new(|_: &Parts| Fate::Passes)), noted: Mutex::default() });
        let (tasks, serving) = (Tasks::new(), Arc::clone(&shared));
        let each = tasks.clone();
        let _ends_with_the_runtime = tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                let service = service_fn(move |request| carry(Arc::clone(&shared), request));
                let _ends_by_itself =
                    each.spawn(server::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Between { address, shared }
    }

    /// Decides by this rule from now on, and forgets what was noted.
    pub(crate) fn rule(&self, rule: impl Fn(&Parts) -> Fate + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
        self.shared.noted.lock().unwrap().clear();
    }

    /// How many requests were like this since the rule was made.
    pub(crate) fn noted(&self, is_like: impl Fn(&Parts) -> bool) -> usize {
        self.shared.noted.lock().unwrap().iter().filter(|head| is_like(head)).count()
    }
}

async fn carry(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let rule = Arc::clone(&shared.rule.lock().unwrap());
    let fate = rule(&head);
    shared.noted.lock().unwrap().push(head.clone());
    match fate {
        Fate::Passes => {}
        Fate::Waits(time) => tokio::time::sleep(time).await,
        Fate::Fails(status, code) => {
            // Read first, so that nobody is cut off while it still sends.
            body.collect().await?;
            let told = format!("<Error><Code>{code}</Code><Message>as told</Message></Error>");
            let mut answer = Response::new(Either::Right(Full::from(told)));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            return Ok(answer);
        }
    }
    let stream = TcpStream::connect(shared.store).await.expect("the store is there");
    let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    let _ends_with_the_answer = Tasks::new().spawn(connection);
    let answer = sender.send_request(Request::from_parts(head, body)).await?;
    Ok(answer.map(Either::Left))
}
