//! The streams of one HTTP/2 connection: run as tasks of the house, and counted.
//!
//! A newcomer's usual mistake is to take a peer that answers pings for one that needs its connection. Answering costs it
//! nothing; what it asks for shows whether it is there for anything.
//!
//! *Knows:* how many streams were begun and have ended, bodies on their way out included. *Does not know:* what they carry.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use hyper::rt::Executor;
use portico_base::tasks::Tasks;
use tokio::time::{Instant, sleep};

use super::aside::Aside;
use crate::{socket::FAREWELL_MAX, taking};

/// How often is looked whether there are streams. Looking now and then lets a stream cost two additions and read no clock.
const LOOK_EVERY: Duration = Duration::from_secs(25);

/// Runs streams. Clones count together.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: Tasks,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// One stream, until it is dropped.
struct Open(Arc<Count>);

impl Streams {
    pub(super) fn new(tasks: Tasks) -> Streams {
        Streams { tasks, count: Arc::default() }
    }

    /// Whether any stream has not ended.
    pub(super) fn are_open(&self) -> bool {
        self.count.ended.load(Ordering::Relaxed) != self.count.begun.load(Ordering::Relaxed)
    }

    /// Resolves when there was no stream for this long, or at most one look later.
    pub(super) async fn none_for(&self, patience: Duration) {
        let mut none_since: Option<(u64, Instant)> = None;
        loop {
            sleep(LOOK_EVERY).await;
            let (ended, begun) = (self.count.ended.load(Ordering::Relaxed), self.count.begun.load(Ordering::Relaxed));
            let since = match none_since {
                Some((before, since)) if before == begun => since,
                _ => Instant::now(),
            };
            none_since = (begun == ended).then_some((begun, since));
            if none_since.is_some() && since.elapsed() >= patience {
                return;
            }
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.count.begun.fetch_add(1, Ordering::Relaxed);
        let open = Open(Arc::clone(&self.count));
        // Nobody waits for one stream; the house waits for all of its tasks.
        match taking::Socket::of_caller() {
            None => drop(self.tasks.serve(taking::Watched::new(work).map(move |_| drop(open)))),
            Some(socket) => drop(self.tasks.serve(written(work, socket).map(move |()| drop(open)))),
        }
    }
}

/// Passes on what is written to a socket. What is not taken soon after its writer has left is dropped, which resets the stream:
/// a peer that opens no window would have both for as long as it likes.
async fn written(work: impl Future, socket: taking::Socket) {
    let late = Aside::new(async {
        socket.left().await;
        sleep(FAREWELL_MAX).await;
    });
    tokio::select! {
        biased;
        _ = work => {}
        () = late => {}
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use futures_util::stream;
    use http::Request;
    use http_body_util::{Empty, Full};
    use hyper::ext::Protocol;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use portico_wire::{
        Handlers,
        podium::v1::{AttachRequest, AttachResponse, FollowLogsRequest, FollowLogsResponse, attach_response},
    };
    use tokio::{io::DuplexStream, sync::Semaphore, time::timeout};

    use super::{
        super::{Connection, greeting::Greeted, head::IDLE_PATIENCE},
        *,
    };
    use crate::{Config, Edge, Rest};
    use portico_base::{Incoming, Outgoing};
    use portico_gate as gate;
    use portico_gate::{Admit, Peer};
    use portico_schema::{Schema, Surface};

    const ATTACHING: &str = "/podium.v1.AgentService/Attach";
    const FOLLOWING: &str = "/podium.v1.InstancesService/FollowLogs";

    #[tokio::test(start_paused = true)]
    async fn a_peer_without_streams_is_asked_to_go_and_one_whose_answer_has_not_ended_stays() {
        let (tasks, mut handlers) = (Tasks::new(), Handlers::new());
        handlers.server_stream(FOLLOWING, &Arc::new(()), |_, _, _: FollowLogsRequest| async {
            Ok(Box::pin(stream::pending()) as Outgoing<FollowLogsResponse>)
        });
        let (theirs, slots) = connected(&handlers, &tasks);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(theirs));
        let (mut calls, connection) = handshake.await.unwrap();
        let connection = tasks.spawn(connection);
        let url = format!("http://house{FOLLOWING}");
        let call = Request::post(url).header("content-type", "application/connect+proto");
        let answer = calls.send_request(call.body(Full::new(Bytes::from_static(&[0; 5]))).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        sleep(IDLE_PATIENCE * 5).await;
        assert!(!connection.is_finished() && slots.available_permits() == 0);

        drop(answer);
        let none_since = Instant::now();
        connection.await.unwrap().unwrap();
        let lived = none_since.elapsed();
        assert!((IDLE_PATIENCE..=IDLE_PATIENCE + LOOK_EVERY).contains(&lived), "{lived:?}");
        let _slot = slots.acquire().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_whose_peer_opens_no_window_is_reset_soon_after_its_writer_has_left() {
        let (tasks, mut handlers) = (Tasks::new(), Handlers::new());
        handlers.bidi(ATTACHING, &Arc::new(()), |_, _, _: Incoming<AttachRequest>| async {
            let frame = attach_response::Frame::Binary(Bytes::from_static(&[0; 1 << 16]));
            let flood = stream::repeat_with(move || Ok(AttachResponse { frame: Some(frame.clone()) }));
            Ok(Box::pin(flood) as Outgoing<AttachResponse>)
        });
        let (theirs, slots) = connected(&handlers, &tasks);
        let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let handshake = client.initial_stream_window_size(1).handshake(TokioIo::new(theirs));
        let (mut calls, connection) = handshake.await.unwrap();
        tasks.spawn(connection);
        // The house has said that it takes sockets when it has answered anything at all.
        let any = Request::get("http://house/").body(Empty::<Bytes>::new()).unwrap();
        drop(calls.send_request(any).await.unwrap());
        let call = Request::connect("http://house/agent/a").extension(Protocol::from_static("websocket"));
        let answer = calls.send_request(call.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let began = Instant::now();
        let _deaf = hyper::upgrade::on(answer).await.unwrap();

        // A connection without streams is closed.
        let _slot = timeout(IDLE_PATIENCE * 10, slots.acquire()).await.expect("nothing holds the connection").unwrap();
        let held = began.elapsed().saturating_sub(IDLE_PATIENCE);
        let patience = Duration::from_secs(30) + FAREWELL_MAX * 2;
        assert!((patience..=patience + LOOK_EVERY).contains(&held), "{held:?}");
    }

    /// The far end of a connection to a house with these handlers, and the slots of which it takes the only one.
    fn connected(handlers: &Handlers, tasks: &Tasks) -> (DuplexStream, Arc<Semaphore>) {
        let schema = Schema::read(portico_wire::SCHEMA).unwrap();
        let admit: Arc<dyn Admit> = Arc::new(gate::Open);
        let edge = Edge::new(&schema, handlers, Arc::clone(&admit), tasks.clone(), Config::default());
        let rest = Rest::new(&schema, handlers, admit, tasks.clone(), Surface::NEUTRAL).unwrap();
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        let edge = Arc::new(edge.with_web(Arc::new(rest)));
        let connection = Connection { edge, tls: None, tasks: tasks.clone(), slot };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tasks.spawn(async move {
            let peer = Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), None);
            connection.talk(Greeted::read(ours).await.unwrap(), peer).await
        });
        (theirs, slots)
    }
}
