//! A house with something in it: the echo agent deployed and running, a file, a message, keys, secrets.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    doors::{Call, Door},
    ensemble::Ensemble,
    gateway::{ADMIN, PATIENCE, TestHouse, schema},
};

/// How long to wait before asking again for what takes its time.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A house and what stands in it.
pub(crate) struct Stage {
    pub(crate) house: TestHouse,
    /// A key of the tenant `acme` with every permission.
    pub(crate) tenant: String,
    pub(crate) deployment_id: String,
}

/// The echo agent as a bundle: the same bytes every time.
pub(crate) fn bundle() -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all(".", Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents/echo")).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

/// The messages of an upload.
pub(crate) fn upload(version: &str, bundle: &[u8]) -> Vec<Value> {
    let mut messages = vec![json!({"agent_type": "echo", "version": version})];
    messages.extend(bundle.chunks(1_000).map(|chunk| json!({"file": STANDARD.encode(chunk)})));
    messages
}

impl Stage {
    pub(crate) async fn set() -> Stage {
        Stage::on(&[]).await
    }

    /// The same with these variables set.
    pub(crate) async fn on(variables: &[(&str, &str)]) -> Stage {
        let url = Ensemble::start().await.url();
        let own = [("PORTICO_LIMITS", "off"), ("PORTICO_ENSEMBLE_URL", url.as_str())];
        let house = TestHouse::with(&[&own[..], variables].concat()).await;
        let tenant = house.key("acme", portico::domain::keys::TENANT_PERMISSIONS).await;
        let method = schema().method("/podium.v1.DeploymentsService/UploadDeployment").unwrap();
        let call = Call { method, messages: upload("1.0.0", &bundle()), key: ADMIN, answers_max: 1 };
        let uploaded = Door::Grpc.call(&house, &call).await.ok();
        let deployment_id = uploaded[0]["deployment_id"].as_str().unwrap().to_owned();
        let stage = Stage { house, tenant, deployment_id };
        stage.instance("echo-1").await;
        stage
    }

    /// Starts an instance of the echo agent for the tenant and waits until it is ready.
    pub(crate) async fn instance(&self, id: &str) {
        let body = json!({
            "deployment_id": self.deployment_id, "agent_id": id,
            "config": {"model": "m", "temperature": 0.7, "ensemble_api_key": "ens_1"},
        });
        self.house.ask(&self.tenant, "POST", "/api/v1/instances").json(&body).await.expect(201);
        self.until(&format!("/api/v1/instances/{id}"), |instance| instance["status"] == "ready").await;
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
}
