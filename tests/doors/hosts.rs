//! Every method of a host, through every door it has, with its example; and none of them, but the one for strangers, without
//! the token.

use std::{net::SocketAddr, path::Path, time::Duration};

use http::Request;
use portico::{
    backend::disk::Disk,
    config::Sources,
    edge::{Body, Edge},
    gateway::{Coordinator, Stop},
    port::blobs::Blobs,
    schema::{Access, Method},
};
use serde_json::{Value, json};

use super::matrix::like;
use crate::support::{
    doors::{Behind, Call, Door, Told},
    example,
    gateway::{PATIENCE, peer},
    stage::bundle,
};

/// Examples tell of this deployment; the host has its own.
const DEPLOYMENT: &str = "echo:1.0.0@2b795103";
const ASK_AGAIN: Duration = Duration::from_millis(50);

struct Host {
    coordinator: Coordinator,
    /// Of the echo agent in the host's store.
    checksum: String,
    _folder: tempfile::TempDir,
}

impl Behind for Host {
    fn edge(&self) -> &Edge {
        self.coordinator.edge()
    }

    fn address(&self) -> SocketAddr {
        self.coordinator.address()
    }
}

impl Host {
    /// A host that lets in who knows the token; everybody on this machine when it is empty.
    async fn start(token: &str) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let checksum = stored(&folder.path().join("blobs")).await;
        let config = Sources::new()
            .set("test", "listen", "127.0.0.1:0")
            .set("test", "data", folder.path().join("host").to_str().unwrap())
            .set("test", "blobs", format!("file:{}", folder.path().join("blobs").display()))
            .set("test", "fleet.id", "host-1");
        let config = if token.is_empty() { config } else { config.set("test", "fleet.token", token) };
        let coordinator = Coordinator::start(config.load().unwrap().config).await.unwrap();
        Host { coordinator, checksum, _folder: folder }
    }

    /// Says a message by a method of this name, through a door that every method has.
    async fn say(&self, name: &str, message: Value) -> Told {
        let method = example::coordinator().find(|method| method.name == name).unwrap();
        Door::ConnectProto.call(self, &Call { method, messages: vec![message], key: "", answers_max: 1 }).await
    }

    /// Starts an instance of the echo agent, as the example has it but for its id.
    async fn instance(&self, id: &str) {
        let method = example::coordinator().find(|method| method.name == "CreateInstance").unwrap();
        let mut request = self.staged(&example::of(method).request);
        request["agent_id"] = id.into();
        self.say("CreateInstance", request).await.ok();
        self.say("GetInfo", json!({"agent_id": id, "wait_ms": 30_000})).await.ok();
    }

    /// A request with the bundle of this host in it.
    fn staged(&self, request: &Value) -> Value {
        let deployment = format!("echo:1.0.0@{}", &self.checksum[..8]);
        let mut request: Value = serde_json::from_str(&request.to_string().replace(DEPLOYMENT, &deployment)).unwrap();
        if request["checksum"].is_string() {
            request["checksum"] = format!("sha256:{}", self.checksum).into();
            request["source"] = "blobs:///echo".into();
        }
        request
    }
}

/// Puts the echo agent into a store.
async fn stored(folder: &Path) -> String {
    let blobs = Disk::open(folder).unwrap();
    let mut staging = blobs.stage(None).await.unwrap();
    staging.write(bundle().into()).await.unwrap();
    let staged = staging.seal().await.unwrap();
    staged.commit("echo", Default::default()).await.unwrap();
    staged.digest().to_string()
}

/// What the examples speak of.
async fn prepare(host: &Host) {
    host.instance("echo-1").await;
    let file = json!({"agent_id": "echo-1", "path": "notes/hello.txt", "content": "aGVsbG8K"});
    host.say("WriteFile", file).await.ok();
    host.say("SendMessage", json!({"agent_id": "echo-1", "text": "hello"})).await.ok();
    let answered = async {
        while host.say("ListMessages", json!({"agent_id": "echo-1"})).await.ok()[0]["messages"]
            .as_array()
            .unwrap()
            .len()
            < 2
        {
            tokio::time::sleep(ASK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the agent answers");
}

/// The example's request, with a thing of its own where the call uses one up.
async fn request(host: &Host, method: &Method, at: usize) -> Value {
    let mut request = host.staged(&example::of(method).request);
    match method.name {
        "CreateInstance" => request["agent_id"] = format!("echo-begins-{at}").into(),
        "DeleteInstance" => {
            let id = format!("echo-ends-{at}");
            host.instance(&id).await;
            request["agent_id"] = id.into();
        }
        _ => {}
    }
    request
}

#[tokio::test]
async fn every_method_of_a_host_answers_its_example_through_every_door() {
    let host = Host::start("").await;
    prepare(&host).await;
    let mut wrong = Vec::new();
    for method in example::coordinator() {
        for (at, door) in Door::of(method).into_iter().enumerate() {
            let messages = vec![request(&host, method, at).await];
            let call = Call { method, messages, key: "", answers_max: 1 };
            let told = door.call(&host, &call).await;
            if let Err(problem) = like(&example::of(method).response, door, &call, &told) {
                wrong.push(format!("{} by {door:?}: {problem}", method.path));
            }
        }
    }
    host.coordinator.drain(Stop::AtOnce).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn every_method_of_a_host_but_its_health_is_for_those_who_know_the_token() {
    let host = Host::start("both-know-it").await;
    for method in example::coordinator() {
        for door in Door::of(method) {
            let call = Call { method, messages: vec![json!({})], key: "", answers_max: 1 };
            let code = door.call(&host, &call).await.code;
            let expected = if method.access == Access::Public { "ok" } else { "unauthenticated" };
            assert_eq!(code, expected, "{} by {door:?}", method.path);
        }
    }
    host.coordinator.drain(Stop::AtOnce).await;
}

#[tokio::test]
async fn without_a_token_a_host_hears_no_page_in_a_browser_of_its_machine() {
    let host = Host::start("").await;
    host.instance("echo-1").await;
    let status = async |verb: &str, target: &str, headers: &[(&str, &str)]| {
        let request = headers
            .iter()
            .fold(Request::builder().method(verb).uri(target), |request, &(name, value)| request.header(name, value));
        host.edge().call(request.body(Body::empty()).unwrap(), peer()).await.status().as_u16()
    };
    let (here, file) = (("host", "localhost:9090"), "/agent/echo-1/files/left-by-a-page");
    let socket = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13")];
    assert_eq!(status("POST", file, &[here]).await, 201);
    assert_eq!(status("GET", "http://127.0.0.1:9090/admin/status", &[]).await, 200, "as HTTP/2 has it");
    for strange in [
        // A page that asks for this machine says so; one whose name was led here asks for that name.
        &[here, ("origin", "https://hostile.example")][..],
        &[here, ("origin", "null")],
        &[("host", "hostile.example:9090")],
    ] {
        assert_eq!(status("POST", file, strange).await, 401, "{strange:?}");
        assert_eq!(status("GET", "/admin/status", strange).await, 401, "{strange:?}");
        assert_eq!(status("GET", "/agent/echo-1", &[strange, &socket].concat()).await, 401, "{strange:?}");
        assert_eq!(status("GET", "/health", strange).await, 200, "{strange:?}");
    }
    assert_eq!(status("GET", "http://hostile.example:9090/admin/status", &[]).await, 401, "as HTTP/2 has it");
    host.coordinator.drain(Stop::AtOnce).await;
}
