//! A line to a server that can be cut, freeze, be slow, and answer something else in the server's place.
//!
//! A newcomer's usual mistake is to change the ways of new connections alone. What is open changes with the next bytes.
//!
//! *Knows:* bytes. *Does not know:* whose they are.

use std::{net::SocketAddr, time::Duration};

use portico::base::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

/// What is read at once.
const PIECE_BYTES: usize = 16 << 10;

/// What a line does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// It carries what it is given.
    Open,
    /// What is connected stays connected, what comes is taken, and nothing passes.
    Frozen,
    /// It carries every answer this much later.
    Slow(Duration),
    /// It answers this to whatever it is given, and hangs up.
    Says(&'static [u8]),
}

/// A line to a server.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    to: SocketAddr,
    way: watch::Sender<Way>,
    cut: CancellationToken,
    tasks: Tasks,
}

impl Line {
    pub(crate) async fn to(to: SocketAddr) -> Line {
        Line::between(TcpListener::bind("127.0.0.1:0").await.unwrap(), to)
    }

    /// A line from a port that had to be known before the server.
    pub(crate) fn between(listener: TcpListener, to: SocketAddr) -> Line {
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way::Open);
        let line = Line { address, to, way, cut: CancellationToken::new(), tasks: Tasks::new() };
        line.carry(listener);
        line
    }

    /// Leads it to another server, once it is joined again.
    pub(crate) fn leads(&mut self, to: SocketAddr) {
        self.to = to;
    }

    /// Changes what it does.
    pub(crate) fn goes(&self, way: Way) {
        self.way.send_replace(way);
    }

    fn carry(&self, listener: TcpListener) {
        let (to, way, cut, tasks) = (self.to, self.way.subscribe(), self.cut.clone(), self.tasks.clone());
        let carrying = async move {
            while let Some(Ok((near, _))) = cut.run_until_cancelled(listener.accept()).await {
                let (cut, way) = (cut.clone(), way.clone());
                let _ends_by_itself = tasks.spawn(async move {
                    let _cut = cut.run_until_cancelled(pass(near, to, way)).await;
                });
            }
        };
        let _ends_when_cut = self.tasks.spawn(carrying);
    }

    /// Cuts it: what passes breaks off, what comes is refused.
    pub(crate) async fn cut(&mut self) {
        self.cut.cancel();
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Joins it again.
    pub(crate) async fn join(&mut self) {
        self.cut = CancellationToken::new();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.carry(socket.listen(64).unwrap());
    }
}

/// Carries both directions until one ends. Who is not there is as good as one that hangs up.
async fn pass(near: TcpStream, to: SocketAddr, way: watch::Receiver<Way>) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let asked = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = from_near.read(&mut piece).await.unwrap_or(0);
            let said = *way.borrow();
            match said {
                Way::Says(_) => return Some(said),
                Way::Frozen => std::future::pending().await,
                _ if read == 0 || to_far.write_all(&piece[..read]).await.is_err() => return None,
                _ => {}
            }
        }
    };
    let answered = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = from_far.read(&mut piece).await.unwrap_or(0);
            let now = *way.borrow();
            match now {
                Way::Slow(late) => tokio::time::sleep(late).await,
                Way::Frozen => std::future::pending().await,
                Way::Open | Way::Says(_) => {}
            }
            if read == 0 || to_near.write_all(&piece[..read]).await.is_err() {
                return;
            }
        }
    };
    let ended = tokio::select! {
        said = asked => said,
        () = answered => None,
    };
    if let Some(Way::Says(bytes)) = ended {
        // A caller that hung up has nothing to hear.
        let _heard = to_near.write_all(bytes).await.is_ok();
    }
}
