//! A gateway with hosts of its own: real ones behind lines that can be cut, and one that says what it is told to.
//!
//! *Knows:* the coordinator API. *Does not know:* what is tested.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use portico::{
    base::tasks::Tasks,
    config::{Config, Sources},
    gateway::{Coordinator, Stop},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{
    doors::{Call, Door},
    gateway::{ADMIN, Answer, PATIENCE, TestHouse, schema},
    line::Line,
    stage::{bundle, upload},
};

/// What gateway and hosts know.
const TOKEN: &str = "both-know-it";
/// How long to wait before asking again for what takes its time.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A gateway and its hosts.
pub(crate) struct Cluster {
    pub(crate) house: TestHouse,
    /// A key of the tenant `acme` with every permission.
    pub(crate) tenant: String,
    pub(crate) deployment_id: String,
    pub(crate) hosts: Vec<RealHost>,
    folder: TempDir,
}

/// A host and the line to it.
pub(crate) struct RealHost {
    pub(crate) coordinator: Coordinator,
    pub(crate) line: Line,
    config: Config,
}

/// What a cluster is like, where it is not like every other.
#[derive(Default)]
pub(crate) struct Plan<'a> {
    /// How many hosts it has.
    pub(crate) hosts: usize,
    /// Where others are, that have been started already.
    pub(crate) others: &'a [SocketAddr],
    /// Most instances on a host; two when it is zero.
    pub(crate) instances_max: u32,
    /// The URL of the blob store, and who may use it; a folder without one.
    pub(crate) blobs: Option<(&'a str, [&'a str; 2])>,
}

impl Cluster {
    /// A gateway over this many hosts, for two instances each, and over those at these addresses.
    pub(crate) async fn start(hosts: usize, others: &[SocketAddr]) -> Cluster {
        Cluster::of(Plan { hosts, others, ..Plan::default() }).await
    }

    pub(crate) async fn of(plan: Plan<'_>) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let near = format!("file:{}", folder.path().join("blobs").display());
        let (blobs, [user, password]) = plan.blobs.unwrap_or((&near, ["nobody", "nothing"]));
        let instances_max = if plan.instances_max == 0 { 2 } else { plan.instances_max };
        let mut real = Vec::new();
        for at in 0..plan.hosts {
            let config = Sources::new()
                .set("test", "listen", "127.0.0.1:0")
                .set("test", "data", folder.path().join(format!("host-{at}")).to_str().unwrap())
                .set("test", "blobs", blobs)
                .set("test", "s3.access_key_id", user)
                .set("test", "s3.secret_access_key", password)
                .set("test", "fleet.token", TOKEN)
                .set("test", "fleet.id", format!("host-{at}"))
                .set("test", "fleet.instances_max", instances_max.to_string())
                .set("test", "drain.seconds", "60")
                .set("test", "drain.grace_seconds", "30");
            let config = config.load().unwrap().config;
            let coordinator = Coordinator::start(config.clone()).await.unwrap();
            let line = Line::to(coordinator.address()).await;
            real.push(RealHost { coordinator, line, config });
        }
        let addresses = real.iter().map(|host| host.line.address).chain(plan.others.iter().copied());
        let urls: Vec<String> = addresses.map(|address| format!("http://{address}")).collect();
        let fleet = format!("coordinator:{}", urls.join(","));
        let variables = [
            ("PORTICO_LIMITS", "off"),
            ("PORTICO_BLOBS", blobs),
            ("PORTICO_S3_ACCESS_KEY_ID", user),
            ("PORTICO_S3_SECRET_ACCESS_KEY", password),
            ("PORTICO_FLEET", fleet.as_str()),
            ("COORDINATOR_TOKEN", TOKEN),
        ];
        let house = TestHouse::with(&variables).await;
        let tenant = house.key("acme", portico::domain::keys::TENANT_PERMISSIONS).await;
        let mut cluster = Cluster { house, tenant, deployment_id: String::new(), hosts: real, folder };
        cluster.deployment_id = cluster.upload("1.0.0").await;
        cluster
    }

    /// Where its bundles lie.
    pub(crate) fn blobs(&self) -> std::path::PathBuf {
        self.folder.path().join("blobs")
    }

    /// Uploads the echo agent under this version, and answers its deployment id. Other versions have other bytes.
    pub(crate) async fn upload(&self, version: &str) -> String {
        let method = schema().method("/podium.v1.DeploymentsService/UploadDeployment").unwrap();
        let mut bundle = bundle();
        // When it was packed, which gzip says and nobody minds.
        bundle[4] = version.as_bytes()[0];
        let call = Call { method, messages: upload(version, &bundle), key: ADMIN, answers_max: 1 };
        let uploaded = Door::Grpc.call(&self.house, &call).await.ok();
        uploaded[0]["deployment_id"].as_str().unwrap().to_owned()
    }

    /// Starts an instance of the echo agent.
    pub(crate) async fn create(&self, id: &str) -> Answer {
        self.create_of(&self.deployment_id, id).await
    }

    /// Starts an instance of this deployment.
    pub(crate) async fn create_of(&self, deployment_id: &str, id: &str) -> Answer {
        let body = json!({"deployment_id": deployment_id, "agent_id": id});
        self.house.ask(&self.tenant, "POST", "/api/v1/instances").json(&body).await
    }

    /// Asks until the answer is as it shall be.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let ask = async {
            loop {
                let answer = self.house.ask(&self.tenant, "GET", path).send().await.expect(200);
                if is_so(&answer) {
                    return answer;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| panic!("{path} does not become what it shall"))
    }

    /// The host of this id.
    pub(crate) fn host(&mut self, id: &str) -> &mut RealHost {
        self.hosts.iter_mut().find(|host| host.coordinator.id() == id).unwrap()
    }

    /// Ends in order.
    pub(crate) async fn close(self) {
        self.house.close().await;
        for host in self.hosts {
            host.coordinator.drain(Stop::AtOnce).await;
        }
    }
}

impl RealHost {
    /// The same host after an end with all that it ran, and another start behind the same line.
    pub(crate) async fn restarted(self) -> RealHost {
        let RealHost { coordinator, mut line, config } = self;
        line.cut().await;
        coordinator.drain(Stop::AtOnce).await;
        let coordinator = Coordinator::start(config.clone()).await.unwrap();
        line.leads(coordinator.address());
        line.join().await;
        RealHost { coordinator, line, config }
    }

    /// The ids of what runs there, asked without the line.
    pub(crate) async fn agents(&self) -> Vec<String> {
        let request = http::Request::get("/admin/status").header("x-podium-internal-token", TOKEN);
        let request = request.body(portico::edge::Body::empty()).unwrap();
        let answer = self.coordinator.edge().call(request, super::gateway::peer()).await;
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap();
        status["agents"].as_array().unwrap().iter().map(|it| it["agent_id"].as_str().unwrap().to_owned()).collect()
    }
}

/// A host that announces itself in the registry at this URL, with bundles from there and its own things in this folder.
pub(crate) async fn announcing(registry: &str, blobs: &str, folder: &std::path::Path) -> Coordinator {
    let config = Sources::new()
        .set("test", "listen", "127.0.0.1:0")
        .set("test", "data", folder.to_str().unwrap())
        .set("test", "registry", registry)
        .set("test", "blobs", blobs);
    Coordinator::start(config.load().unwrap().config).await.unwrap()
}

/// The status of an answer that never comes.
pub(crate) const HANGS: u16 = 0;
/// The status of a handshake that the test answers.
const DIALS: u16 = 101;

/// What a told host answers to a request line such as `POST /instances`; nothing breaks the connection off.
pub(crate) type Script = dyn Fn(&str) -> Option<(u16, String)> + Send + Sync;

/// A host that says what it is told to, and otherwise that it has room. Who opens a socket waits until it is accepted.
pub(crate) struct ToldHost {
    pub(crate) address: SocketAddr,
    told: Arc<ToTell>,
    dialled: tokio::sync::Mutex<mpsc::UnboundedReceiver<Dialled>>,
}

/// What a told host tells, and what it was asked.
struct ToTell {
    id: String,
    script: Box<Script>,
    asked: Mutex<Vec<String>>,
    sockets: mpsc::UnboundedSender<Dialled>,
}

/// A handshake that waits for its answer.
pub(crate) struct Dialled {
    head: String,
    stream: TcpStream,
}

impl Dialled {
    /// Answers it.
    pub(crate) async fn accept(mut self) -> WebSocketStream<TcpStream> {
        let key = self.head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
        });
        let accept = derive_accept_key(key.expect("a handshake").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Told\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
        );
        self.stream.write_all(answer.as_bytes()).await.unwrap();
        WebSocketStream::from_raw_socket(self.stream, Role::Server, None).await
    }
}

/// A host where every instance is ready at once.
pub(crate) fn ready() -> Box<Script> {
    Box::new(|head| {
        Some(match head {
            head if head.to_lowercase().contains("upgrade: websocket") => (DIALS, String::new()),
            head if head.starts_with("DELETE") => (204, String::new()),
            _ => (200, r#"{"status": "ready"}"#.to_owned()),
        })
    })
}

impl ToldHost {
    pub(crate) async fn start(script: Box<Script>) -> ToldHost {
        ToldHost::called("told", script).await
    }

    /// The same under another id.
    pub(crate) async fn called(id: &str, script: Box<Script>) -> ToldHost {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sockets, dialled) = mpsc::unbounded_channel();
        let told = Arc::new(ToTell { id: id.to_owned(), script, asked: Mutex::default(), sockets });
        let (tasks, telling) = (Tasks::new(), Arc::clone(&told));
        let serving = tasks.clone();
        let _ends_with_the_runtime = tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ends_by_itself = serving.spawn(tell(stream, Arc::clone(&telling)));
            }
        });
        ToldHost { address, told, dialled: tokio::sync::Mutex::new(dialled) }
    }

    /// The next socket that somebody opens.
    pub(crate) async fn dialled(&self) -> Dialled {
        let mut dialled = self.dialled.lock().await;
        tokio::time::timeout(PATIENCE, dialled.recv()).await.expect("a socket in time").unwrap()
    }

    /// The heads of requests that began like this.
    pub(crate) fn asked(&self, beginning: &str) -> Vec<String> {
        self.told.asked.lock().unwrap().iter().filter(|head| head.starts_with(beginning)).cloned().collect()
    }
}

async fn tell(mut stream: TcpStream, told: Arc<ToTell>) {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    while read.len() - end < length.unwrap_or(0) {
        if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
            return;
        }
    }
    told.asked.lock().unwrap().push(head.clone());
    let said = match head.starts_with("GET /admin/status") {
        true => Some((200, json!({"coordinator_id": told.id, "max_agents": 1_000_000}).to_string())),
        false => (told.script)(&head),
    };
    if let Some((DIALS, _)) = said {
        // A test that has ended listens to none.
        let _heard = told.sockets.send(Dialled { head, stream }).is_ok();
        return;
    }
    if let Some((HANGS, _)) = said {
        // Until whoever asked has gone.
        let _gone = stream.read_buf(&mut read).await.is_ok();
        return;
    }
    if let Some((status, body)) = said {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        // A caller that hung up is the test's business.
        let _sent = stream.write_all(answer.as_bytes()).await.is_ok();
    }
}
