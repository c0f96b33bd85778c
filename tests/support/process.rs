//! A gateway or a host as operators run it: a process of its own, with a file, signals and an exit code.
//!
//! A newcomer's usual mistake is to use it where a house in this process would do. It is for what only a process has:
//! signals, memory, the end.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{
    http1::{SendRequest, handshake},
    http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{
    gateway::{ADMIN, PATIENCE},
    stage::bundle,
};

/// How often is asked again for what takes its time.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A running `portico serve` or `portico coordinator`.
pub(crate) struct Process {
    what: &'static str,
    child: Child,
    address: SocketAddr,
    folder: TempDir,
    /// What stands before the program on its command line.
    before: Vec<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Process {
    /// Starts a gateway with this configuration file; what every test needs stands in front of it.
    pub(crate) fn start(file: &str) -> Process {
        Process::begin("serve", tempfile::tempdir().unwrap(), file, Vec::new())
    }

    /// Starts a host.
    pub(crate) fn start_host(file: &str) -> Process {
        Process::begin("coordinator", tempfile::tempdir().unwrap(), file, Vec::new())
    }

    /// Starts a gateway with files beside the configuration, which it names by `{folder}`.
    pub(crate) fn start_in(folder: TempDir, file: &str) -> Process {
        Process::begin("serve", folder, file, Vec::new())
    }

    /// Starts a gateway with a file system of so many KiB at `{folder}/small`, which nobody else sees.
    pub(crate) fn start_with_a_small_disk(kib: u32, file: &str) -> Process {
        Process::start_with_a_disk_at("small", kib, file)
    }

    /// Starts a gateway that sees a disk of its own at this place below its folder.
    pub(crate) fn start_with_a_disk_at(place: &str, kib: u32, file: &str) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join(place);
        fs::create_dir_all(&place).unwrap();
        Process::begin("serve", folder, file, small_disk(&place, kib))
    }

    fn begin(what: &'static str, folder: TempDir, file: &str, before: Vec<String>) -> Process {
        write_file(folder.path(), file);
        let (child, address) = spawn(what, folder.path(), &before);
        Process { what, child, address, folder, before }
    }

    /// Kills it, as a crash does, and starts it again in its folder.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.address) = spawn(self.what, self.folder.path(), &self.before);
    }

    /// Kills it. Another start in its folder does not come about: answers why, as it is told on the terminal and in the log.
    pub(crate) fn refuses_to_restart(&mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let ended = command(self.what, self.folder.path(), &self.before).stderr(Stdio::piped()).output().unwrap();
        assert!(!ended.status.success(), "it ended well: {ended:?}");
        String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration file anew.
    pub(crate) fn configure(&self, file: &str) {
        write_file(self.folder.path(), file);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let waited = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.expect("an end in time")
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it has logged this.
    pub(crate) async fn logs(&self, text: &str) {
        let waited = async {
            while !self.log().contains(text) {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waited).await;
        assert!(in_time.is_ok(), "it never logged {text:?}:\n{}", self.log());
    }

    /// The most memory that it has really used so far: what was given back counts too.
    pub(crate) fn resident_bytes_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    }

    /// An HTTP/1.1 connection.
    pub(crate) async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        // Ends with the connection, at the latest with the runtime of the test.
        drop(portico::base::tasks::Tasks::new().spawn(connection));
        sender
    }

    /// An HTTP/2 connection.
    pub(crate) async fn connect_http2(&self) -> http2::SendRequest<Full<Bytes>> {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        // Ends with the connection, at the latest with the runtime of the test.
        drop(portico::base::tasks::Tasks::new().spawn(connection));
        sender
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, verb: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Said {
        read(send(&mut self.connect().await, verb, path, headers, body.into()).await).await
    }

    /// Waits until it can reach this many hosts. One that the test plays says nothing while the test waits for the start.
    pub(crate) async fn reaches(&self, hosts: u64) {
        let reached = async {
            while self.ask("GET", "/health", &[], "").await.json()["checks"]["coordinators"]["healthy"] != hosts {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("hosts within reach");
    }

    /// Deploys the echo agent, starts an instance of it and waits until it is ready.
    pub(crate) async fn echo(&self, id: &str) {
        let (headers, form) = upload("1.0.0");
        let made = self.ask("POST", "/api/v1/deployments", &[headers], form).await;
        assert_eq!(made.status, 201, "{made:?}");
        let body = json!({"agent_type": "echo", "agent_id": id}).to_string();
        let made = self.ask("POST", "/api/v1/instances", &[JSON], body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let ready = async {
            while self.ask("GET", &format!("/api/v1/instances/{id}"), &[], "").await.json()["status"] != "ready" {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.expect("a ready instance");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.child.kill().is_ok();
        let _reaped = self.child.wait().is_ok();
    }
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// Begins a request as the administrator. What comes back may never end.
pub(crate) async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    verb: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> http::Response<hyper::body::Incoming> {
    let mut request = Request::builder().method(verb).uri(path).header(header::HOST, "gateway");
    if headers.iter().all(|(name, _)| *name != "authorization") {
        request = request.header(header::AUTHORIZATION, format!("Bearer {ADMIN}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = sender.send_request(request.body(Full::new(body)).unwrap());
    tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap()
}

/// Makes a call over HTTP/2 as the administrator. Trailers are among the headers of what is said.
pub(crate) async fn call(
    sender: &http2::SendRequest<Full<Bytes>>,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Said {
    let mut request = Request::post(format!("http://gateway{path}"));
    request = request.header(header::AUTHORIZATION, format!("Bearer {ADMIN}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut sender = sender.clone();
    let sent = sender.send_request(request.body(Full::new(body)).unwrap());
    let answer = tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time").unwrap();
    let (mut head, body) = answer.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an end in time").unwrap();
    head.headers.extend(body.trailers().cloned().unwrap_or_default());
    Said { status: head.status, headers: head.headers, body: body.to_bytes() }
}

/// Asks a process by GET with one more header, and reads the answer as JSON; nothing when it does not answer.
pub(crate) async fn ask(address: SocketAddr, path: &str, header: (&str, &str)) -> Value {
    serde_json::from_slice(&get(address, path, header).await).unwrap_or(Value::Null)
}

/// The metrics of a process; empty when it does not answer.
pub(crate) async fn metrics(address: SocketAddr) -> String {
    String::from_utf8(get(address, "/metrics", ("accept", "*/*")).await.into()).unwrap()
}

async fn get(address: SocketAddr, path: &str, (name, value): (&str, &str)) -> Bytes {
    let value = if name == "authorization" { format!("Bearer {value}") } else { value.to_owned() };
    let asked = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        drop(portico::base::tasks::Tasks::new().spawn(connection));
        let request = Request::get(path).header(header::HOST, "process").header(name, value);
        let answer = sender.send_request(request.body(Full::new(Bytes::new())).unwrap()).await.ok()?;
        answer.into_body().collect().await.ok().map(|body| body.to_bytes())
    };
    asked.await.unwrap_or_default()
}

/// Reads an answer to its end.
pub(crate) async fn read(response: http::Response<hyper::body::Incoming>) -> Said {
    let (head, body) = response.into_parts();
    let body = tokio::time::timeout(PATIENCE, body.collect()).await.expect("an end in time").unwrap().to_bytes();
    Said { status: head.status, headers: head.headers, body }
}

/// The header of a form.
pub(crate) const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=b");

/// The upload of the echo agent as a form.
pub(crate) fn upload(version: &str) -> ((&'static str, &'static str), Bytes) {
    let mut form = Vec::new();
    for (name, value) in [("agent_type", "echo"), ("version", version)] {
        form.extend(format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    form.extend(b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b.tar.gz\"\r\n\r\n");
    form.extend(bundle());
    form.extend(b"\r\n--b--\r\n");
    (FORM, form.into())
}

/// Starts it and waits until it says where it listens.
fn spawn(what: &str, folder: &Path, before: &[String]) -> (Child, SocketAddr) {
    let mut command = command(what, folder, before);
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut banner = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    banner.read_line(&mut line).unwrap();
    let address = line.split_whitespace().find_map(|word| word.trim_end_matches(',').parse().ok());
    let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
    (child, address.unwrap_or_else(|| panic!("it did not start: {line}\n{}", log())))
}

/// `portico`, told to do this by the configuration in this folder, not begun yet.
pub(crate) fn command(what: &str, folder: &Path, before: &[String]) -> Command {
    let program = env!("CARGO_BIN_EXE_portico");
    let mut command = match before {
        [] => Command::new(program),
        [first, more @ ..] => {
            let mut command = Command::new(first);
            command.args(more).arg(program);
            command
        }
    };
    command.args([what, "--config"]).arg(folder.join("portico.toml")).env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// What runs a program with a file system of its own over this folder. Whoever is not root becomes it for that alone.
pub(crate) fn small_disk(folder: &Path, kib: u32) -> Vec<String> {
    let mount = r#"mount -t tmpfs -o size="$1"k small "$2" && chmod 777 "$2" && shift 2 && exec "$@""#;
    let mut before = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        before.push("--map-root-user");
    }
    before.extend(["sh", "-c", mount, "sh"]);
    let mut before: Vec<String> = before.into_iter().map(str::to_owned).collect();
    before.extend([kib.to_string(), folder.display().to_string()]);
    before
}

fn write_file(folder: &Path, file: &str) {
    let path: PathBuf = folder.join("portico.toml");
    let own = format!("listen = '127.0.0.1:0'\ndata = '{}'\nadmin_key = '{ADMIN}'\n", folder.join("data").display());
    fs::write(path, own + &file.replace("{folder}", &folder.display().to_string())).unwrap();
}
