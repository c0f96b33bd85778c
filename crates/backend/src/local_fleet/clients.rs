//! The clients that are attached to one instance, and what is on its way to them.
//!
//! A newcomer's usual mistake is an unbounded queue per client. A queue that is full holds the agent up, for every
//! client; one that stays full for too long ends its own client alone, with `slow_consumer`. How long that is depends on who
//! else waits. No frame is ever dropped: whoever missed one gets no other.
//!
//! *Knows:* queues, ends. *Does not know:* what the frames say.

mod kept;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
    vec,
};

use futures_util::{future::join_all, stream};
use portico_base::{Error, Outgoing};
use portico_port::fleet::{Frame, failure};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::kept::Kept;

/// Most frames on their way to one client.
const QUEUE_FRAMES_MAX: usize = 256;
/// Most bytes on their way to one client. A larger frame goes alone.
const QUEUE_BYTES_MAX: u32 = 1 << 20;
/// How long a client that does not take its frames holds its agent up before it is let go.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The same where it holds up other clients too: longer than a line that changes its antenna, no longer than people wait.
const STALL_AMONG_OTHERS_MAX: Duration = Duration::from_secs(5);
/// The same where the instance is to end: whoever ends it waits.
const STALL_AT_THE_END_MAX: Duration = Duration::from_secs(1);

/// The attached clients of one instance. Clones share one set.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Inner>);

#[derive(Default)]
struct Inner {
    attached: Mutex<Set>,
    patience: watch::Sender<Patience>,
    next: AtomicU64,
    ended: OnceLock<End>,
}

/// Who is attached, and what was sent lately: one lock, so that a client that attaches misses nothing between the two.
#[derive(Default)]
struct Set {
    clients: Vec<Client>,
    kept: Kept,
    is_ending: bool,
}

impl Set {
    fn patience(&self) -> Patience {
        match (self.is_ending, self.clients.len()) {
            (true, _) => Patience::AtTheEnd,
            (false, 0 | 1) => Patience::Alone,
            (false, _) => Patience::AmongOthers,
        }
    }
}

/// With what patience a client is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Patience {
    #[default]
    Alone,
    AmongOthers,
    AtTheEnd,
}

impl Patience {
    fn stall_max(self) -> Duration {
        match self {
            Patience::Alone => STALL_MAX,
            Patience::AmongOthers => STALL_AMONG_OTHERS_MAX,
            Patience::AtTheEnd => STALL_AT_THE_END_MAX,
        }
    }
}

/// Why a client's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The instance ended.
    Terminated,
    /// The client was too slow.
    Slow,
    /// The host closes.
    Draining,
}

impl End {
    fn error(self) -> Error {
        match self {
            End::Terminated => failure::terminated(),
            End::Slow => failure::slow(),
            End::Draining => failure::draining(),
        }
    }
}

/// One attached client, as whoever reads its frames knows it.
#[derive(Clone)]
pub(super) struct Seat {
    id: u64,
    clients: Clients,
    gone: CancellationToken,
}

impl Seat {
    /// Sends a frame to this client alone, waiting for room. False when the client is gone.
    pub(super) async fn send(&self, frame: Frame) -> bool {
        let client = self.clients.with(|set| set.clients.iter().find(|client| client.id == self.id).cloned());
        match client {
            Some(client) => match client.try_send(frame) {
                Ok(()) => true,
                Err(frame) => self.clients.wait_for(&client, frame).await,
            },
            None => false,
        }
    }

    /// Ends the client's stream in order, after what is on its way.
    pub(super) fn leave(&self) {
        self.clients.detach(self.id);
    }

    /// Resolves when the client has hung up or its stream has ended.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}

/// The host's end of a queue. Held by the set alone: the stream ends when the set lets go of it.
#[derive(Clone)]
struct Client {
    id: u64,
    queue: mpsc::Sender<(Frame, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    end: Arc<OnceLock<End>>,
    gone: CancellationToken,
}

impl Client {
    /// Puts a frame into the queue if there is room now; gives it back otherwise.
    fn try_send(&self, frame: Frame) -> Result<(), Frame> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(room_for(&frame)) else { return Err(frame) };
        self.queue.try_send((frame, room)).map_err(|full| full.into_inner().0)
    }

    /// Puts a frame into the queue, waiting for room. False when the client is gone or patience with it has run out.
    async fn send(&self, frame: Frame, patience: watch::Receiver<Patience>) -> bool {
        let delivery = async {
            let room = Arc::clone(&self.room).acquire_many_owned(room_for(&frame)).await.ok()?;
            self.queue.send((frame, room)).await.ok()
        };
        tokio::select! {
            biased;
            sent = delivery => sent.is_some(),
            () = self.queue.closed() => false,
            () = run_out(patience) => false,
        }
    }
}

fn room_for(frame: &Frame) -> u32 {
    u32::try_from(frame.len()).unwrap_or(QUEUE_BYTES_MAX).clamp(1, QUEUE_BYTES_MAX)
}

/// Resolves when it has been waited for as long as it may be, which can change meanwhile.
async fn run_out(mut patience: watch::Receiver<Patience>) {
    let began = Instant::now();
    loop {
        let stall_max = patience.borrow_and_update().stall_max();
        tokio::select! {
            () = sleep_until(began + stall_max) => return,
            // Its other end lives as long as the clients do.
            _ = patience.changed() => {}
        }
    }
}

/// A frame that is on its way to a client. When it does not arrive, the client is let go: another one would stand in its place.
struct Delivery<'a> {
    clients: &'a Clients,
    client: u64,
    arrived: bool,
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        if !self.arrived {
            self.clients.let_go(|client| client.id == self.client, Some(End::Slow));
        }
    }
}

impl Clients {
    /// Attaches a client. Answers its seat and its stream, which begins with what is kept of the frames after `since`.
    ///
    /// # Errors
    /// Why every stream of this instance ends, when they already do.
    pub(super) fn attach(&self, since: Option<u64>) -> Result<(Seat, Outgoing<Frame>), Error> {
        if let Some(end) = self.0.ended.get() {
            return Err(end.error());
        }
        let (queue, frames) = mpsc::channel(QUEUE_FRAMES_MAX);
        let client = Client {
            id: self.0.next.fetch_add(1, Ordering::Relaxed),
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize)),
            end: Arc::default(),
            gone: CancellationToken::new(),
        };
        let seat = Seat { id: client.id, clients: self.clone(), gone: client.gone.clone() };
        let end = Arc::clone(&client.end);
        let again = self.with(|set| {
            set.clients.push(client);
            since.map(|since| set.kept.after(since)).unwrap_or_default()
        });
        let attached = Attached { seat: seat.clone(), again: again.into_iter(), frames, end, done: false };
        // The end may have come in between: then it has not seen this client.
        if self.0.ended.get().is_some() {
            self.let_go(|_| true, None);
        }
        let outgoing = stream::unfold(attached, |mut attached| async move {
            if attached.done {
                return None;
            }
            if let Some(frame) = attached.again.next() {
                return Some((Ok(frame), attached));
            }
            // Dropping the permit makes room for the next frame.
            if let Some((frame, _room)) = attached.frames.recv().await {
                return Some((Ok(frame), attached));
            }
            attached.done = true;
            let end = attached.end.get().or(attached.seat.clients.0.ended.get()).copied()?;
            Some((Err(end.error()), attached))
        });
        Ok((seat, Box::pin(outgoing)))
    }

    /// Sends the frame of this number to every client at once, waiting for the slow ones as long as they may be slow.
    pub(super) async fn broadcast(&self, sequence: u64, frame: Frame) {
        let clients = self.with(|set| {
            set.kept.add(sequence, frame.clone());
            set.clients.clone()
        });
        let slow: Vec<_> =
            clients.iter().filter_map(|client| Some((client, client.try_send(frame.clone()).err()?))).collect();
        join_all(slow.into_iter().map(|(client, frame)| self.wait_for(client, frame))).await;
    }

    /// Brings a frame to a client that has no room or lets go of it, also when this is dropped. False when it is gone.
    async fn wait_for(&self, client: &Client, frame: Frame) -> bool {
        let mut delivery = Delivery { clients: self, client: client.id, arrived: false };
        delivery.arrived = client.send(frame, self.0.patience.subscribe()).await;
        delivery.arrived
    }

    /// Says that the instance is to end: nobody is waited for as long any more.
    pub(super) fn hurry(&self) {
        self.with(|set| set.is_ending = true);
    }

    /// Ends every client's stream, after what is on its way, and refuses new ones.
    pub(super) fn end(&self, end: End) {
        self.0.ended.get_or_init(|| end);
        self.let_go(|_| true, None);
    }

    fn detach(&self, id: u64) {
        self.let_go(|client| client.id == id, None);
    }

    /// Drops the host's end of these queues, so that their streams end after what is on its way.
    fn let_go(&self, which: impl Fn(&Client) -> bool, end: Option<End>) {
        self.with(|Set { clients, .. }| {
            for client in clients.iter().filter(|client| which(client)) {
                if let Some(end) = end {
                    client.end.get_or_init(|| end);
                }
                client.gone.cancel();
            }
            clients.retain(|client| !which(client));
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut Set) -> T) -> T {
        let mut set = self.0.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut set);
        let patience = set.patience();
        self.0.patience.send_if_modified(|last| std::mem::replace(last, patience) != patience);
        changed
    }
}

/// A client's end of its queue. Detaches when dropped.
struct Attached {
    seat: Seat,
    again: vec::IntoIter<Frame>,
    frames: mpsc::Receiver<(Frame, OwnedSemaphorePermit)>,
    end: Arc<OnceLock<End>>,
    done: bool,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.seat.clients.detach(self.seat.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use portico_base::reason;

    fn text(text: &str) -> Frame {
        Frame::Text(text.to_owned().into())
    }

    fn why(error: &Error) -> portico_base::Reason {
        error.reason()
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_take_nothing_are_let_go_and_the_others_lose_nothing() {
        let (clients, began) = (Clients::default(), Instant::now());
        let [(_, slow), (_, slower), (_, quick)] = [(); 3].map(|()| clients.attach(None).unwrap());
        let host = async {
            for _ in 0..=QUEUE_FRAMES_MAX {
                clients.broadcast(1, text("x")).await;
            }
            clients.end(End::Terminated);
        };
        let ((), quick) = tokio::join!(host, quick.collect::<Vec<_>>());
        // Two cost no more than one.
        assert_eq!(began.elapsed().as_secs(), STALL_AMONG_OTHERS_MAX.as_secs());
        assert_eq!(quick.len(), QUEUE_FRAMES_MAX + 2);
        assert_eq!(why(quick.last().unwrap().as_ref().unwrap_err()), reason::INSTANCE_TERMINATED);
        for slow in [slow, slower] {
            let slow: Vec<_> = slow.collect().await;
            assert_eq!(slow.len(), QUEUE_FRAMES_MAX + 1);
            assert_eq!(why(slow.last().unwrap().as_ref().unwrap_err()), reason::SLOW_CONSUMER);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_alone_may_be_slow_for_longer_until_somebody_waits_with_it_or_the_instance_is_to_end() {
        let (clients, began) = (Clients::default(), Instant::now());
        let (_, mut slow) = clients.attach(None).unwrap();
        for _ in 0..QUEUE_FRAMES_MAX {
            clients.broadcast(1, text("x")).await;
        }
        let taking = async {
            tokio::time::sleep(STALL_MAX - Duration::from_secs(1)).await;
            slow.next().await.unwrap().unwrap();
        };
        tokio::join!(clients.broadcast(2, text("y")), taking);
        assert_eq!(began.elapsed().as_secs(), STALL_MAX.as_secs() - 1);

        let began = Instant::now();
        let other = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            clients.attach(None).unwrap()
        };
        let ((), (_, mut other)) = tokio::join!(clients.broadcast(3, text("z")), other);
        assert_eq!(began.elapsed().as_secs(), STALL_AMONG_OTHERS_MAX.as_secs());
        let slow: Vec<_> = slow.collect().await;
        assert_eq!(slow.len(), QUEUE_FRAMES_MAX + 1);

        for _ in 0..QUEUE_FRAMES_MAX {
            clients.broadcast(4, text("a")).await;
        }
        let began = Instant::now();
        clients.hurry();
        clients.broadcast(5, text("b")).await;
        assert_eq!(began.elapsed().as_secs(), STALL_AT_THE_END_MAX.as_secs());
        assert!(other.next().await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_missed_a_frame_gets_no_other() {
        let clients = Clients::default();
        let (_, slow) = clients.attach(None).unwrap();
        for _ in 0..QUEUE_FRAMES_MAX {
            clients.broadcast(1, text("x")).await;
        }
        let given_up = tokio::time::timeout(Duration::from_secs(1), clients.broadcast(2, text("missed"))).await;
        assert!(given_up.is_err());
        clients.broadcast(3, text("next")).await;
        let slow: Vec<_> = slow.collect().await;
        assert_eq!(slow.len(), QUEUE_FRAMES_MAX + 1);
        assert_eq!(why(slow.last().unwrap().as_ref().unwrap_err()), reason::SLOW_CONSUMER);
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_is_forgotten() {
        let clients = Clients::default();
        let (seat, stream) = clients.attach(None).unwrap();
        drop(stream);
        seat.gone().await;
        assert_eq!(clients.with(|set| set.clients.len()), 0);
        assert!(!seat.send(text("x")).await);
    }
}
