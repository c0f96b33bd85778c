//! The mixed load: what each worker does, over and over.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, write::GzEncoder};
use portico::base::id;
use serde_json::{Value, json};

use super::{
    ledger::{Fate, How, Made},
    worker::{Ask, Worker, pause},
};
/// Instances that a maker keeps before it deletes the oldest.
const KEPT: usize = 2;
/// Deleting what an earlier attempt may have deleted.
pub(in crate::process) const AGAIN: &str = "delete again";
/// Random bytes in a bundle: large enough that uploads are always in flight.
const BUNDLE_BYTES: usize = 300 << 10;

/// Reads everything that can be read without an instance, through every door.
pub(in crate::process) async fn read(mut worker: Worker) {
    let reads = [
        ("KeysService/ListKeys", json!({"limit": 5})),
        ("ConfigService/GetConfig", json!({})),
        ("InstancesService/ListInstances", json!({"limit": 5})),
        ("DeploymentsService/ListDeployments", json!({"agent_type": "echo", "limit": 5})),
    ];
    loop {
        for (name, message) in &reads {
            // What fails is noted, and there is nothing to make up for.
            let _noted = worker.ask("read", None, &Ask::of(name, message.clone())).await.is_ok();
        }
        if !worker.again().await {
            return;
        }
    }
}

/// Reads what a gateway knows by itself.
pub(in crate::process) async fn read_settings(mut worker: Worker) {
    loop {
        let _noted = worker.ask("settings", None, &Ask::of("ConfigService/GetConfig", json!({}))).await.is_ok();
        if !worker.again().await {
            return;
        }
    }
}

/// Makes API keys, which nothing makes idempotent.
pub(in crate::process) async fn make_keys(mut worker: Worker) {
    for number in 0.. {
        let name = format!("{}-{number}", worker.number);
        let ask = Ask::of("KeysService/CreateKey", json!({"tenant_id": "load", "name": name}));
        let fate = once(&mut worker, "key", None, &ask).await;
        worker.ledger.book().keys.insert(name, fate);
        if !worker.again().await {
            return;
        }
    }
}

/// Changes settings and secrets of its own.
pub(in crate::process) async fn change(mut worker: Worker) {
    let name = format!("load_{}", worker.number);
    for number in 1_u64.. {
        let patch = json!({"patch": {"defaults": {&name: number}}});
        worker.surely("setting", None, &Ask::of("ConfigService/UpdateConfig", patch)).await;
        worker.ledger.book().settings.insert(name.clone(), number);
        let secrets = json!({"agent_type": name, "secrets": {"number": number.to_string()}, "tenant_id": "load"});
        worker.surely("secret", None, &Ask::of("SecretsService/SetSecrets", secrets)).await;
        worker.ledger.book().secrets.insert(name.clone(), number);
        if !worker.again().await {
            return;
        }
    }
}

/// Uploads one version after the other.
pub(in crate::process) async fn upload_bundles(mut worker: Worker) {
    let agent_type = format!("load-{}", worker.number);
    for number in 1.. {
        let (version, bundle) = (format!("{number}.0.0"), bundle());
        let ask = upload(&agent_type, &version, &bundle);
        loop {
            match worker.ask("upload", None, &ask).await {
                Ok(told) => {
                    let text = |name: &str| told.messages[0][name].as_str().unwrap().to_owned();
                    worker.ledger.book().deployments.insert(text("deployment_id"), text("checksum"));
                    break;
                }
                // Its first attempt was cut, and its name is held for a while.
                Err(How::Refused(refusal)) if refusal.reason == "upload_in_progress" => break,
                Err(how) => pause(&how).await,
            }
        }
        if !worker.again().await {
            return;
        }
    }
}

/// An upload.
pub(in crate::process) fn upload(agent_type: &str, version: &str, bundle: &[u8]) -> Ask<'static> {
    let named = json!({"agent_type": agent_type, "version": version});
    let messages = vec![named, json!({"file": STANDARD.encode(bundle)})];
    Ask { messages, ..Ask::of("DeploymentsService/UploadDeployment", Value::Null) }
}

/// Makes and deletes instances: half of them by an idempotency key, half under an id of its own.
pub(in crate::process) async fn make_instances(mut worker: Worker) {
    let mut kept: Vec<(String, String)> = Vec::new();
    for number in 0_usize.. {
        let name = format!("made-{}-{number}", worker.number);
        let made = if number.is_multiple_of(2) {
            create(&mut worker, &name, json!({"agent_type": "echo"})).await
        } else {
            create(&mut worker, "", json!({"agent_type": "echo", "agent_id": name})).await
        };
        kept.push(made);
        if kept.len() > KEPT {
            let (instance, host) = kept.remove(0);
            delete(&mut worker, &instance, &host).await;
        }
        if !worker.again().await {
            return;
        }
    }
}

/// Makes an instance, however often it takes. Answers its id and its host's.
pub(in crate::process) async fn create(worker: &mut Worker, idempotency_key: &str, body: Value) -> (String, String) {
    let mut ask = Ask::of("InstancesService/CreateInstance", body);
    if !idempotency_key.is_empty() {
        ask = ask.with("idempotency-key", idempotency_key);
    }
    let before = worker.ledger.lives();
    let told = worker.surely("create", None, &ask).await;
    let text = |name: &str| told.messages[0][name].as_str().unwrap().to_owned();
    let (instance, host) = (text("instance_id"), text("coordinator_id"));
    let (before, after) = (before.get(&host).copied(), worker.ledger.lives().get(&host).copied());
    let life = (before == after).then_some(after.unwrap_or(0));
    let made = Made { host: host.clone(), is_deleted: false, life };
    worker.ledger.book().instances.insert(instance.clone(), made);
    (instance, host)
}

/// Deletes an instance, however often it takes. That it is not there is what was wanted.
pub(in crate::process) async fn delete(worker: &mut Worker, instance: &str, host: &str) {
    let ask = Ask::of("InstancesService/DeleteInstance", json!({"instance_id": instance, "grace_ms": 1_000}));
    let mut work = "delete";
    while let Err(how) = worker.ask(work, Some(host), &ask).await {
        // The attempt before had deleted it, and its answer was lost.
        if work == AGAIN && matches!(&how, How::Refused(refusal) if refusal.reason == "instance_not_found") {
            break;
        }
        work = AGAIN;
        pause(&how).await;
    }
    worker.ledger.book().instances.get_mut(instance).unwrap().is_deleted = true;
}

/// Does something that would be done twice if it were repeated, and repeats it only when nothing was done.
pub(in crate::process) async fn once(
    worker: &mut Worker,
    work: &'static str,
    host: Option<&str>,
    ask: &Ask<'_>,
) -> Fate {
    loop {
        match worker.ask(work, host, ask).await {
            Ok(_) => return Fate::Done,
            Err(How::Refused(refusal)) if refusal.may_repeat => {
                if worker.ledger.is_over() {
                    return Fate::Undone;
                }
                pause(&How::Refused(refusal)).await;
            }
            Err(How::Refused(refusal)) if refusal.reason == "instance_terminated" => return Fate::Undone,
            Err(_) => return Fate::Unknown,
        }
    }
}

/// The echo agent with random bytes beside it.
fn bundle() -> Vec<u8> {
    let mut noise = vec![0; BUNDLE_BYTES];
    id::fill(&mut noise);
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    archive.mode(tar::HeaderMode::Deterministic);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/agents/echo");
    archive.append_dir_all(".", folder).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "noise", noise.as_slice()).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}
