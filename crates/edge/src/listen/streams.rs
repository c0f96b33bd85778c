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

use crate::taking;

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
        drop(self.tasks.serve(taking::Watched::new(work).map(move |_| drop(open))));
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
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use portico_wire::{
        Handlers,
        podium::v1::{FollowLogsRequest, FollowLogsResponse},
    };
    use tokio::sync::Semaphore;

    use super::{
        super::{Connection, greeting::Greeted, head::IDLE_PATIENCE},
        *,
    };
    use crate::{Config, Edge};
    use portico_base::Outgoing;
    use portico_gate as gate;
    use portico_gate::Peer;
    use portico_schema::Schema;

    const FOLLOWING: &str = "/podium.v1.InstancesService/FollowLogs";

    #[tokio::test(start_paused = true)]
    async fn a_peer_without_streams_is_asked_to_go_and_one_whose_answer_has_not_ended_stays() {
        let (tasks, mut handlers) = (Tasks::new(), Handlers::new());
        handlers.server_stream(FOLLOWING, &Arc::new(()), |_, _, _: FollowLogsRequest| async {
            Ok(Box::pin(stream::pending()) as Outgoing<FollowLogsResponse>)
        });
        let schema = Schema::read(portico_wire::SCHEMA).unwrap();
        let edge = Edge::new(&schema, &handlers, Arc::new(gate::Open), tasks.clone(), Config::default());
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).try_acquire_owned().unwrap();
        let connection = Connection { edge: Arc::new(edge), tls: None, tasks: tasks.clone(), slot };
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tasks.spawn(async move {
            let peer = Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), None);
            connection.talk(Greeted::read(ours).await.unwrap(), peer).await
        });

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
}
