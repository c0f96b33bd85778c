//! A line to a server over which its answers come late.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use portico::base::tasks::Tasks;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// A line that delays what the server says.
pub(crate) struct SlowLine {
    pub(crate) address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    tasks: Tasks,
}

impl SlowLine {
    /// A line that is quick at first.
    pub(crate) async fn to(to: SocketAddr) -> SlowLine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = SlowLine { address, delay_ms: Arc::default(), tasks: Tasks::new() };
        let (tasks, delay_ms) = (line.tasks.clone(), Arc::clone(&line.delay_ms));
        let _ends_with_the_runtime = line.tasks.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let _ends_by_itself = tasks.spawn(carry(near, to, Arc::clone(&delay_ms)));
            }
        });
        line
    }

    /// From now on every answer is this late.
    pub(crate) fn delay(&self, by: Duration) {
        self.delay_ms.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

async fn carry(mut near: TcpStream, to: SocketAddr, delay_ms: Arc<AtomicU64>) {
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    let back = async {
        let mut said = vec![0; 64 << 10];
        loop {
            let length = from_far.read(&mut said).await?;
            sleep(Duration::from_millis(delay_ms.load(Ordering::SeqCst))).await;
            to_near.write_all(&said[..length]).await?;
            if length == 0 {
                return std::io::Result::Ok(());
            }
        }
    };
    // Whoever hangs up first ends both ways.
    tokio::select! {
        _ = back => {}
        _ = copy(&mut from_near, &mut to_far) => {}
    }
}
