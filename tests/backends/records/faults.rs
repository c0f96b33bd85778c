//! What becomes of calls when PostgreSQL itself is in trouble. Each test has a server of its own.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use portico::{
    backend::postgres::Postgres,
    base::{Code, Retry, Secret, clock::StillClock, health::State, reason, tasks::Tasks},
    port::records::{Expect, Records},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{NOW, put, record, spawn};
use crate::support::{
    postgres::{psql, sql, start, start_with_a_small_disk, start_with_tls, url},
    server::Server,
};

/// How soon what has returned is used: at once, on a machine that may be busy.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);
/// The bound on every call, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(9);

async fn connect(server: &Server) -> (Postgres, Tasks) {
    let tasks = Tasks::new();
    let records = Postgres::connect(&url(server, "postgres"), Arc::new(StillClock::at(NOW)), &tasks).await.unwrap();
    (records, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_met_with_503_and_used_again_within_a_second_of_its_return() {
    let mut server = start();
    let (records, tasks) = connect(&server).await;
    // Several connections, all of which will be dead.
    let kept = put("kept", &record("one", "", &[]), Expect::Anything);
    for _ in 0..4 {
        let (one, two) = tokio::join!(records.commit(vec![kept.clone()]), records.get("kept", "one"));
        one.unwrap();
        two.unwrap();
    }
    server.kill();
    // A backend lives on for a moment after its postmaster, and does what it is asked.
    let mut version = 4;
    let refused = loop {
        match records.commit(vec![kept.clone()]).await {
            Ok(_) => version += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.code(), refused.reason()), (Code::Unavailable, reason::RECORDS_UNAVAILABLE));
    assert!(matches!(refused.retry_hint(), Retry::After(_)), "{:?}", refused.retry_hint());
    assert_eq!(records.health().await.unwrap().state, State::Down);
    server.restart();
    let back = Instant::now();
    assert_eq!(records.get("kept", "one").await.unwrap().map(|record| record.version), Some(version));
    assert_eq!(records.commit(vec![kept]).await.unwrap(), [version + 1]);
    assert!(back.elapsed() < RETURN_PATIENCE, "{:?}", back.elapsed());
    assert_eq!(records.health().await.unwrap().state, State::Ok);
    tasks.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_holds_nobody_longer_than_the_bound() {
    let server = start();
    let (records, tasks) = connect(&server).await;
    let kept = put("kept", &record("one", "", &[]), Expect::Anything);
    records.commit(vec![kept.clone()]).await.unwrap();
    // A frozen server is its postmaster and every backend; a frozen postmaster alone goes on answering.
    let proxy = Proxy::start(&server).await;
    let through = proxy.records(&server).await;
    through.get("kept", "one").await.unwrap();
    proxy.freeze(true);
    let began = Instant::now();
    assert_eq!(through.health().await.unwrap().state, State::Down);
    let (read, written) = tokio::join!(through.get("kept", "one"), through.commit(vec![kept.clone()]));
    for refused in [read.unwrap_err(), written.unwrap_err()] {
        assert_eq!(refused.reason(), reason::RECORDS_UNAVAILABLE);
        assert!(matches!(refused.retry_hint(), Retry::After(_)), "{:?}", refused.retry_hint());
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    proxy.freeze(false);
    let back = Instant::now();
    through.commit(vec![kept]).await.unwrap();
    assert!(back.elapsed() < RETURN_PATIENCE, "{:?}", back.elapsed());
    tasks.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_lost_during_commit_says_that_it_may_have_happened() {
    let server = start();
    let (_records, tasks) = connect(&server).await;
    let proxy = Proxy::start(&server).await;
    let through = proxy.records(&server).await;
    through.get("kept", "one").await.unwrap();
    proxy.cut_at(b"COMMIT");
    let lost = through.commit(vec![put("kept", &record("one", "", &[]), Expect::Absent)]).await.unwrap_err();
    assert_eq!((lost.reason(), lost.retry_hint()), (reason::RECORDS_UNAVAILABLE, Retry::MayRepeat));
    // Before COMMIT nothing has happened, and the call starts over by itself.
    proxy.cut_at(b"INSERT INTO portico_records");
    let two = put("kept", &record("two", "", &[]), Expect::Absent);
    assert_eq!(through.commit(vec![two]).await.unwrap(), [1]);
    tasks.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_still_reads_and_says_so() {
    let server = start();
    let (records, tasks) = connect(&server).await;
    let kept = put("kept", &record("one", "", &[]), Expect::Anything);
    records.commit(vec![kept.clone()]).await.unwrap();
    let port = server.address().port();
    assert!(psql(port, "postgres", "ALTER SYSTEM SET default_transaction_read_only = on"));
    assert!(psql(port, "postgres", "SELECT pg_reload_conf()"));
    let patience = Instant::now() + PATIENCE;
    let refused = loop {
        match records.commit(vec![kept.clone()]).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < patience, "the server does not become read-only"),
        }
    };
    assert_eq!(refused.message(), "the record store takes no writes");
    assert!(matches!(refused.retry_hint(), Retry::After(_)));
    assert!(records.get("kept", "one").await.unwrap().is_some());
    assert_eq!(records.health().await.unwrap().state, State::Down);
    tasks.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_answers_for_itself_and_keeps_the_connection() {
    let server = start();
    let (records, tasks) = connect(&server).await;
    let kept = put("kept", &record("one", "", &[]), Expect::Anything);
    records.commit(vec![kept.clone()]).await.unwrap();
    // Somebody holds the table for longer than a statement may take.
    let port = server.address().port();
    let holding = std::thread::spawn(move || {
        psql(port, "postgres", "BEGIN; LOCK TABLE portico_records IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(6)")
    });
    let patience = Instant::now() + PATIENCE;
    let slow = loop {
        match records.commit(vec![kept.clone()]).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < patience, "the table is not locked"),
        }
    };
    assert_eq!(slow.message(), "the record store is too slow");
    assert!(matches!(slow.retry_hint(), Retry::After(_)));
    holding.join().unwrap();
    records.commit(vec![kept]).await.unwrap();
    tasks.close();
}

#[tokio::test]
async fn a_wrong_password_or_database_is_told_at_once_and_without_the_password() {
    let server = start();
    let clock = Arc::new(StillClock::at(NOW));
    let began = Instant::now();
    let wrong = Postgres::connect(&url(&server, "nowhere"), clock, &Tasks::new()).await.err().unwrap();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    assert!(wrong.report().contains("nowhere") && !wrong.report().contains("hunter2"), "{}", wrong.report());
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_says_so_until_there_is_room() {
    if !rustix::process::geteuid().is_root() {
        // PostgreSQL does not run as root, and a file system of its own needs root here.
        return eprintln!("left out: a small disk for PostgreSQL needs root");
    }
    let server = start_with_a_small_disk(8 << 10);
    let (records, tasks) = connect(&server).await;
    let kept = put("kept", &record("one", "", &[]), Expect::Anything);
    records.commit(vec![kept]).await.unwrap();
    let (port, small) = (server.address().port(), server.folder().join("small"));
    // The log of the server stays on a disk with room: one that cannot write that is a killed server.
    assert!(psql(port, "postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", small.display())));
    assert!(psql(port, "postgres", "ALTER TABLE portico_records SET TABLESPACE small"));
    assert!(psql(port, "postgres", "CREATE TABLE filler (bytes text) TABLESPACE small"));
    assert!(psql(port, "postgres", "ALTER TABLE filler ALTER COLUMN bytes SET STORAGE EXTERNAL"));
    let fill = "INSERT INTO filler SELECT repeat('x', 100000) FROM generate_series(1, 2)";
    while psql(port, "postgres", fill) {}

    let mut large = record("large", "", &[]);
    // What does not get smaller, so that it cannot find room in what is left.
    large.body = (0..40_000).map(|_| portico::base::id::random("", 20)).collect();
    let refused = records.commit(vec![put("kept", &large, Expect::Anything)]).await.unwrap_err();
    assert_eq!(refused.reason(), reason::RECORDS_UNAVAILABLE);
    assert_eq!(refused.message(), "the disk of the record store is full", "{}", refused.report());
    assert!(matches!(refused.retry_hint(), Retry::After(_)));
    assert!(records.get("kept", "one").await.unwrap().is_some(), "reading goes on");
    assert!(psql(port, "postgres", "DROP TABLE filler"));
    records.commit(vec![put("kept", &large, Expect::Anything)]).await.unwrap();
    tasks.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_by_its_authority_and_its_name_and_otherwise_refused_at_once() {
    let files = tempfile::tempdir().unwrap();
    issue(files.path());
    let server = start_with_tls(files.path());
    let port = server.address().port();
    let connect = async |host: &str, authority: &str| {
        let authority = files.path().join(authority);
        let mode = format!("sslmode=verify-full&sslrootcert={}", authority.display());
        let url = Secret::new(format!("postgres://portico:hunter2@{host}:{port}/postgres?{mode}"));
        let tasks = Tasks::new();
        let records = Postgres::connect(&url, Arc::new(StillClock::at(NOW)), &tasks).await;
        records.map(|records| (records, tasks))
    };
    let (records, tasks) = connect("localhost", "ours.pem").await.unwrap();
    let kept = put("kept", &record("one", "", &[]), Expect::Absent);
    records.commit(vec![kept]).await.unwrap();
    let direct = url(&server, "postgres");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'portico'";
    assert_eq!(sql(&direct, encrypted), "t\n");
    tasks.close();

    // Another authority, and a name that is not in the certificate. Waiting would help neither.
    for (host, authority) in [("localhost", "theirs.pem"), ("127.0.0.1", "ours.pem")] {
        let began = Instant::now();
        let refused = connect(host, authority).await.map(|_| ()).unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::FailedPrecondition, reason::RECORDS_UNAVAILABLE));
        assert!(!refused.report().contains("hunter2"), "{}", refused.report());
        assert!(began.elapsed() < PATIENCE, "{host} {authority}: {:?}", began.elapsed());
    }
}

/// Two authorities, and a certificate for `localhost` by one of them.
fn issue(folder: &Path) {
    let script = "set -e
        for name in ours theirs; do
          openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj \"/CN=$name\" \
            -addext basicConstraints=critical,CA:TRUE -keyout $name.key -out $name.pem
        done
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost' >server.ext
        openssl x509 -req -in server.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -extfile server.ext -out server.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Between Portico and PostgreSQL: stands still, or cuts the connection over which these bytes are sent.
struct Proxy {
    port: u16,
    rule: Arc<Rule>,
}

#[derive(Default)]
struct Rule {
    is_frozen: AtomicBool,
    thawed: tokio::sync::Notify,
    cut_at: std::sync::Mutex<Option<&'static [u8]>>,
}

impl Proxy {
    async fn start(server: &Server) -> Proxy {
        let (listener, rule) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(Rule::default()));
        let (port, target) = (listener.local_addr().unwrap().port(), server.address());
        let serving = Arc::clone(&rule);
        drop(spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.unwrap();
                drop(spawn(carry(near, far, Arc::clone(&serving))));
            }
        }));
        Proxy { port, rule }
    }

    async fn records(&self, server: &Server) -> Postgres {
        let direct = url(server, "postgres");
        let url = direct.reveal().replace(&server.address().port().to_string(), &self.port.to_string());
        let clock = Arc::new(StillClock::at(NOW));
        Postgres::connect(&portico::base::Secret::new(url), clock, &Tasks::new()).await.unwrap()
    }

    fn freeze(&self, is_frozen: bool) {
        self.rule.is_frozen.store(is_frozen, Ordering::SeqCst);
        self.rule.thawed.notify_waiters();
    }

    /// Once.
    fn cut_at(&self, bytes: &'static [u8]) {
        *self.rule.cut_at.lock().unwrap() = Some(bytes);
    }
}

async fn carry(mut near: TcpStream, mut far: TcpStream, rule: Arc<Rule>) {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let (read, from_near) = tokio::select! {
            read = near.read(&mut up) => (read, true),
            read = far.read(&mut down) => (read, false),
        };
        let Ok(read @ 1..) = read else { return };
        loop {
            let thawed = rule.thawed.notified();
            if !rule.is_frozen.load(Ordering::SeqCst) {
                break;
            }
            thawed.await;
        }
        if from_near {
            let mut cut_at = rule.cut_at.lock().unwrap();
            if cut_at.is_some_and(|bytes| up[..read].windows(bytes.len()).any(|window| window == bytes)) {
                *cut_at = None;
                return;
            }
        }
        let (into, bytes) = if from_near { (&mut far, &up) } else { (&mut near, &down) };
        if into.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
