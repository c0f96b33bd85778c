//! What is there at the end, held against what was acknowledged.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Cluster, HOSTS};
use crate::{
    process::load::{
        calls,
        ledger::{Fate, Ledger, told},
        worker::{Ask, Worker},
    },
    support::{gateway::PATIENCE, installation::TOKEN, process},
};

/// How often is asked again for what takes its time.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Most items of one list.
const PAGE: usize = 200;

/// Asks for everything that was acknowledged, and for nothing else.
pub(super) async fn hold_against(ledger: &std::sync::Arc<Ledger>, cluster: &Cluster) {
    let mut worker = Worker::new(0, ledger, &cluster.balancer);
    keys(&mut worker).await;
    settings_and_secrets(&mut worker).await;
    deployments(&mut worker).await;
    instances(&mut worker, cluster).await;
    messages(&mut worker).await;
    let book = ledger.book();
    assert!(book.failures.is_empty(), "{}", told(&book.failures));
    for server in cluster.gateways.iter().chain(&cluster.hosts) {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

async fn one(worker: &mut Worker, name: &str, message: Value) -> Value {
    worker.surely("look", None, &Ask::of(name, message)).await.messages.remove(0)
}

async fn all(worker: &mut Worker, name: &str, items: &str, mut message: Value) -> Vec<Value> {
    let mut found = Vec::new();
    message["limit"] = json!(PAGE);
    loop {
        let mut page = one(worker, name, message.clone()).await;
        found.append(page[items].as_array_mut().unwrap_or(&mut Vec::new()));
        match page["next_cursor"].as_str() {
            Some(next) if !next.is_empty() => message["cursor"] = json!(next),
            _ => return found,
        }
    }
}

async fn keys(worker: &mut Worker) {
    let found = all(worker, "KeysService/ListKeys", "keys", json!({"tenant_id": "load"})).await;
    let count = |name: &String| found.iter().filter(|key| key["name"] == name.as_str()).count();
    let book = worker.ledger.book();
    for (name, fate) in &book.keys {
        let is_right = matches!((fate, count(name)), (Fate::Done, 1) | (Fate::Undone, 0) | (Fate::Unknown, 0 | 1));
        assert!(is_right, "key {name}: {fate:?}, and there are {}", count(name));
    }
    assert!(found.len() <= book.keys.len() && book.keys.values().any(|fate| *fate == Fate::Done));
}

async fn settings_and_secrets(worker: &mut Worker) {
    let (settings, secrets) = {
        let book = worker.ledger.book();
        (book.settings.clone(), book.secrets.clone())
    };
    for (name, number) in settings {
        let config = one(worker, "ConfigService/GetConfig", json!({})).await;
        assert_eq!(config["config"]["defaults"][&name], json!(number), "{name}");
    }
    for (name, number) in secrets {
        let asked = json!({"agent_type": name, "tenant_id": "load", "reveal": true});
        let secrets = one(worker, "SecretsService/GetSecrets", asked).await;
        assert_eq!(secrets["secrets"]["number"], json!(number.to_string()), "{name}");
    }
}

async fn deployments(worker: &mut Worker) {
    let acknowledged = worker.ledger.book().deployments.clone();
    for (deployment, checksum) in &acknowledged {
        let found = one(worker, "DeploymentsService/GetDeployment", json!({"deployment_id": deployment})).await;
        assert_eq!(found["deployment"]["checksum"], checksum.as_str(), "{deployment}");
    }
    // What was stored is what was uploaded: a host verifies the digest before it runs it.
    let last = acknowledged.keys().next_back().unwrap().clone();
    calls::create(worker, "the-last", json!({"deployment_id": last})).await;
}

/// Every acknowledged instance is there, and hosts run exactly those that live.
async fn instances(worker: &mut Worker, cluster: &Cluster) {
    let found = all(worker, "InstancesService/ListInstances", "instances", json!({})).await;
    let listed: BTreeSet<&str> = found.iter().map(|it| it["instance_id"].as_str().unwrap()).collect();
    let acknowledged = worker.ledger.book().instances.clone();
    let kept: BTreeSet<&str> =
        acknowledged.iter().filter(|(_, made)| !made.is_deleted).map(|(id, _)| id.as_str()).collect();
    assert_eq!(listed, kept, "what was acknowledged, deletions too, and nothing else");

    let lives = worker.ledger.lives();
    for (server, host) in cluster.hosts.iter().zip(HOSTS) {
        let life = lives.get(host).copied().unwrap_or(0);
        let here = || acknowledged.iter().filter(|(_, made)| made.host == host && !made.is_deleted);
        let of_life = |life| here().filter(move |(_, made)| made.life == life).map(|(id, _)| id.clone());
        let (expected, uncertain): (BTreeSet<String>, BTreeSet<String>) =
            (of_life(Some(life)).collect(), of_life(None).collect());
        let seen = Mutex::new(BTreeSet::new());
        let agree = async {
            loop {
                let status = process::ask(server.address(), "/admin/status", ("x-podium-internal-token", TOKEN)).await;
                let agents = status["agents"].as_array().unwrap();
                let running: BTreeSet<String> = agents
                    .iter()
                    .filter(|agent| !["terminated", "failed"].contains(&agent["status"].as_str().unwrap()))
                    .map(|agent| agent["agent_id"].as_str().unwrap().to_owned())
                    .filter(|id| !uncertain.contains(id))
                    .collect();
                if running == expected {
                    return;
                }
                *seen.lock().unwrap() = running;
                sleep(ASK_AGAIN).await;
            }
        };
        let in_time = timeout(PATIENCE, agree).await.is_ok();
        assert!(in_time, "{host} runs {seen:?}, and acknowledged was {expected:?}");
    }
}

/// What was said to those that live was heard once and in order.
async fn messages(worker: &mut Worker) {
    let said = worker.ledger.book().messages.clone();
    for (instance, said) in said {
        let made = worker.ledger.book().instances[&instance].clone();
        let life = worker.ledger.lives().get(&made.host).copied().unwrap_or(0);
        if made.life != Some(life) || made.is_deleted {
            continue;
        }
        let asked = json!({"instance_id": instance, "limit": 1_000});
        let mut heard = Vec::new();
        loop {
            let mut asked = asked.clone();
            asked["offset"] = json!(heard.len());
            let page = one(worker, "InstancesService/ListMessages", asked).await;
            let page = page["messages"].as_array().cloned().unwrap_or_default();
            if page.is_empty() {
                break;
            }
            heard.extend(page);
        }
        let heard: Vec<&str> =
            heard.iter().filter(|it| it["role"] == "user").map(|it| it["text"].as_str().unwrap()).collect();
        let mut said = said.iter().filter(|(text, fate)| *fate == Fate::Done || heard.contains(&text.as_str()));
        for text in &heard {
            assert_eq!(Some(*text), said.next().map(|(text, _)| text.as_str()), "{instance}");
        }
        assert_eq!(said.next(), None, "{instance}: {heard:?}");
    }
}
