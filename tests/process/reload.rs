//! A configuration that changes while the process runs.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::process::Signal;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{
    certificates::{authority, issue},
    doors::socket::Socket,
    gateway::{ADMIN, PATIENCE},
    process::{Process, read, send},
};

/// How long to wait before asking again for what takes its time.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const REREAD: &str = "the configuration was read again";

#[tokio::test]
async fn limits_origins_and_the_log_change_on_sighup_and_no_connection_is_dropped() {
    let process = Process::start("[rate]\nrequests_per_minute = 600\nburst = 100\n");
    let mut connection = process.connect().await;
    let origin = [("origin", "https://app.example")];
    let before = read(send(&mut connection, "GET", "/api/v1/keys", &origin, Bytes::new()).await).await;
    assert_eq!(before.header("access-control-allow-origin"), "");
    assert!(before.header("ratelimit-policy").contains("q=600"), "{before:?}");

    process.configure(
        "environment = 'staging'\n[rate]\nrequests_per_minute = 700\n[cors]\norigins = ['https://app.example']\n[log]\nlevel = 'error'\n",
    );
    process.signal(Signal::HUP);
    // The level is part of it: what is told at `info` is not told any more, what needs a restart neither.
    let changed = async {
        loop {
            let after = read(send(&mut connection, "GET", "/api/v1/keys", &origin, Bytes::new()).await).await;
            if after.header("access-control-allow-origin") == "https://app.example" {
                return after;
            }
        }
    };
    let after = tokio::time::timeout(PATIENCE, changed).await.expect("a change");
    assert!(after.header("ratelimit-policy").contains("q=700"), "{after:?}");
    let lines = |process: &Process| process.log().matches("ListKeys").count();
    let quiet = lines(&process);

    process.configure("environment = 'staging'\n[rate]\nrequests_per_minute = 700\n[log]\nlevel = 'info'\n");
    process.signal(Signal::HUP);
    process.logs(REREAD).await;
    process.logs("a changed setting is in force setting=\"log.level\"").await;
    assert!(!process.log().contains("setting=\"environment\""), "told at `warn`, when only errors were logged");
    read(send(&mut connection, "GET", "/api/v1/keys", &[], Bytes::new()).await).await;
    let told = async {
        while lines(&process) == quiet {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("calls are logged again");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_what_is_wrong_leaves_the_old_in_force() {
    let process = Process::start("[rate]\nrequests_per_minute = 600\n");
    process.configure("environment = 'staging'\n[rate]\nrequests_per_minute = 601\n");
    process.signal(Signal::HUP);
    process.logs(REREAD).await;
    process.logs("a changed setting needs a restart setting=\"environment\"").await;
    process.logs("a changed setting is in force setting=\"rate.requests_per_minute\"").await;

    process.configure("[rate]\nrequests_per_minute = 'many'\nburst = -1\n[log]\nlevel = 'loud'\n");
    process.signal(Signal::HUP);
    for setting in ["rate.requests_per_minute", "rate.burst", "log.level"] {
        process.logs(&format!("setting={setting:?} cause=")).await;
    }
    let answer = process.ask("GET", "/api/v1/keys", &[], "").await;
    assert!(answer.header("ratelimit-policy").contains("q=601"), "{answer:?}");
}

#[tokio::test]
async fn new_certificates_serve_new_connections_while_old_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(&folder);
    let file = "[tls]\ncertificate = '{folder}/cert.pem'\nkey = '{folder}/key.pem'\n";
    let process = Process::start_in(folder, file);
    let mut old = connect(&process, &first).await.expect("the first certificate");
    assert_eq!(read(send(&mut old, "GET", "/health", &[], Bytes::new()).await).await.status, 200);

    let second = make(process.folder());
    process.signal(Signal::HUP);
    process.logs(REREAD).await;
    assert!(connect(&process, &first).await.is_err(), "the old certificate is not shown any more");
    let mut new = connect(&process, &second).await.expect("the second certificate");
    for connection in [&mut old, &mut new] {
        assert_eq!(read(send(connection, "GET", "/health", &[], Bytes::new()).await).await.status, 200);
    }

    fs::write(process.folder().join("key.pem"), "not a key").unwrap();
    process.signal(Signal::HUP);
    process.logs("the old configuration stays in force").await;
    assert!(connect(&process, &second).await.is_ok());
}

/// What gateway and host prove themselves by: of two authorities, and nothing of use.
struct Papers(TempDir);

impl Papers {
    fn new() -> Papers {
        let papers = Papers(tempfile::tempdir().unwrap());
        for kind in ["old", "new", "none"] {
            let folder = papers.0.path().join(kind);
            fs::create_dir(&folder).unwrap();
            authority(&folder, "authority");
            issue(&folder, "authority", "host", "IP:127.0.0.1");
            issue(&folder, "authority", "gateway", "DNS:gateway.internal");
        }
        fs::write(papers.0.path().join("none/authority.pem"), "no certificate").unwrap();
        papers.give("host", "old");
        papers.give("gateway", "old");
        papers
    }

    /// Gives these to one of the two, all at once, as orchestrators do with what they mount.
    fn give(&self, to: &str, kind: &str) {
        let (link, new) = (self.0.path().join(format!("of-{to}")), self.0.path().join("of-next"));
        std::os::unix::fs::symlink(kind, &new).unwrap();
        fs::rename(new, link).unwrap();
    }

    /// The path of one of the files that this one has.
    fn path(&self, of: &str, name: &str) -> String {
        self.0.path().join(format!("of-{of}/{name}")).display().to_string()
    }

    /// The settings under which this one finds its files.
    fn settings(&self, of: &str, authority: &str) -> String {
        let path = |name: &str| self.path(of, name);
        let (certificate, key) = (path(&format!("{of}.pem")), path(&format!("{of}.key")));
        format!("certificate = '{certificate}'\nkey = '{key}'\n{authority} = '{}'\n", path("authority.pem"))
    }
}

#[tokio::test]
async fn gateway_and_host_change_certificates_and_authority_while_a_tunnel_between_them_lives_on() {
    let (papers, folder) = (Papers::new(), tempfile::tempdir().unwrap());
    let blobs = format!("blobs = 'file:{}'", folder.path().join("data/blobs").display());
    let host = Process::start_host(&format!("{blobs}\n[tls]\n{}", papers.settings("host", "client_ca")));
    let fleet =
        format!("[fleet]\nurl = 'coordinator:https://{}'\n{}", host.address(), papers.settings("gateway", "ca"));
    let gateway = Process::start_in(folder, &fleet);
    gateway.echo("echo-1").await;
    let opened = async || Socket::at(gateway.address(), "/agent/echo-1", ADMIN).await;
    let mut tunnel = opened().await.unwrap();
    tunnel.echo("before").await;

    // What cannot be used leaves the old in use.
    papers.give("gateway", "none");
    gateway.signal(Signal::HUP);
    gateway.logs("the old configuration stays in force error=\"fleet.ca cannot be used").await;
    opened().await.unwrap().echo("old").await;

    // Who believes the old authority alone does not believe the host any more.
    papers.give("host", "new");
    host.signal(Signal::HUP);
    host.logs(REREAD).await;
    let (status, refusal) = opened().await.err().expect("a refusal");
    assert!(status == 503 && refusal.contains("coordinator_unavailable"), "{status} {refusal}");
    tunnel.echo("between").await;

    papers.give("gateway", "new");
    gateway.signal(Signal::HUP);
    gateway.logs(REREAD).await;
    let again = async {
        // A host that was refused again and again is left alone for a while.
        loop {
            match opened().await {
                Ok(socket) => return socket,
                Err(_) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    };
    let mut new = tokio::time::timeout(PATIENCE, again).await.expect("a new tunnel");
    for tunnel in [&mut tunnel, &mut new] {
        tunnel.echo("after").await;
    }
    assert_eq!(gateway.ask("GET", "/api/v1/instances/echo-1/logs", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_host_takes_over_what_changes_names_what_needs_a_restart_and_keeps_the_old_where_something_is_wrong() {
    let host = Process::start_host("");
    host.configure("environment = 'staging'\n[log]\nlevel = 'debug'\n[drain]\nseconds = 26\n");
    host.signal(Signal::HUP);
    host.logs(REREAD).await;
    host.logs("a changed setting is in force setting=\"log.level\"").await;
    host.logs("a changed setting is in force setting=\"drain.seconds\"").await;
    host.logs("a changed setting needs a restart setting=\"environment\"").await;
    host.configure("[log]\nlevel = 'loud'\n");
    host.signal(Signal::HUP);
    host.logs("setting=\"log.level\" cause=").await;
}

fn certificate(folder: &TempDir) -> CertificateDer<'static> {
    make(folder.path())
}

/// A fresh key and a certificate of its own for `localhost`.
fn make(folder: &Path) -> CertificateDer<'static> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(folder.join("key.pem"))
        .arg("-out")
        .arg(folder.join("cert.pem"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap()
}

/// A connection that trusts this certificate alone.
async fn connect(
    process: &Process,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<hyper::client::conn::http1::SendRequest<http_body_util::Full<Bytes>>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(process.address()).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    drop(portico::base::tasks::Tasks::new().spawn(connection));
    Ok(sender)
}
