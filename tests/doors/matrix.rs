//! Every method, through every door it has, with its example: the answer has the example's shape.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portico::schema::{Access, Method};
use serde_json::{Value, json};

use crate::support::{
    doors::{Call, Door, Told},
    example,
    gateway::ADMIN,
    minio, postgres,
    stage::{Stage, bundle},
    valkey::Maker,
};

/// Examples tell of this deployment and this key; the stage has its own.
const DEPLOYMENT: &str = "echo:1.0.0@2b795103";
const KEY: &str = "key_5h2m8q4t";

#[tokio::test]
async fn reproducible_end_to_end_tests_pass_embedded_by_every_door() {
    walk(&Stage::set().await, |_| true).await;
}

#[tokio::test]
async fn reproducible_end_to_end_tests_pass_on_production_parts() {
    let (store, valkey) = (minio::minio(), Maker::Valkey.start(&[]));
    let (records, shared) = (postgres::database(), format!("valkey://{}", valkey.address()));
    let blobs = format!("s3://{}?endpoint=http://{}", minio::BUCKET, store.address());
    let variables = [
        ("PORTICO_RECORDS", records.reveal()),
        ("PORTICO_REGISTRY", &*shared),
        ("PORTICO_BUS", &*shared),
        ("PORTICO_BLOBS", &*blobs),
        ("PORTICO_S3_ACCESS_KEY_ID", minio::USER),
        ("PORTICO_S3_SECRET_ACCESS_KEY", minio::PASSWORD),
    ];
    // The doors do not know what is behind them; one of each kind will do.
    walk(&Stage::on(&variables).await, |door| !matches!(door, Door::ConnectProto | Door::GrpcWeb | Door::GrpcWebText))
        .await;
}

/// Every method with its example, through these of its doors.
async fn walk(stage: &Stage, is_wanted: impl Fn(Door) -> bool) {
    prepare(stage).await;
    let mut wrong = Vec::new();
    for method in example::podium() {
        let example = example::of(method);
        for (at, door) in Door::of(method).into_iter().enumerate().filter(|(_, door)| is_wanted(*door)) {
            let request = staged(stage, method, at, &example.request).await;
            let call = Call { method, messages: vec![request], key: caller(stage, method), answers_max: 1 };
            let told = door.call(&stage.house, &call).await;
            if let Err(problem) = like(&example.response, door, &call, &told) {
                wrong.push(format!("{} by {door:?}: {problem}", method.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whose key an example is sent with.
pub(super) fn caller<'s>(stage: &'s Stage, method: &Method) -> &'s str {
    // The stage's deployment is the administrator's, and so is the name of its agent type.
    let for_admin = method.access == Access::Admin || method.name == "UploadDeployment";
    if for_admin { ADMIN } else { &stage.tenant }
}

/// Whether what was told is like the example of an answer.
pub(super) fn like(example: &Value, door: Door, call: &Call<'_>, told: &Told) -> Result<(), String> {
    let method = call.method;
    if told.code != "ok" {
        return Err(format!("{} {} {}", told.code, told.status, told.text));
    }
    let rest = &method.rest;
    if door == Door::Rest && ![rest.success, rest.existing].contains(&told.status.as_u16()) {
        return Err(told.status.to_string());
    }
    let answer = told.messages.first().ok_or("no message")?;
    // A download comes in pieces; the first may only say what it is.
    if rest.raw.is_some() && method.shape.streams_out() {
        return Ok(());
    }
    let mut expected = example.clone();
    if let (Door::Rest, Some(_), Value::Object(members)) = (door, rest.raw, &mut expected) {
        // What is not the body itself stays behind.
        members.retain(|name, _| answer.get(name).is_some());
    }
    resembles("", &expected, answer, &call.messages[0]).map_err(|problem| format!("{problem}\n  {answer}"))
}

/// What the examples speak of.
pub(super) async fn prepare(stage: &Stage) {
    let (house, tenant) = (&stage.house, stage.tenant.as_str());
    let path = "/api/v1/instances/echo-1/files/notes/hello.txt";
    house.ask(tenant, "POST", path).bytes("application/octet-stream", "hello\n").await.expect(201);
    let said = json!({"text": "hello"});
    house.ask(tenant, "POST", "/api/v1/instances/echo-1/messages").json(&said).await.expect(202);
    let answered = |it: &Value| it["messages"].as_array().is_some_and(|messages| messages.len() >= 2);
    stage.until("/api/v1/instances/echo-1/messages", answered).await;
    house
        .ask(tenant, "PUT", "/api/v1/secrets/echo")
        .json(&json!({"ensemble_api_key": "ens_example"}))
        .await
        .expect(200);
    let patch = json!({
        "limits": {"max_instances_per_tenant": 50}, "defaults": {"model": "m", "temperature": 0.7, "max_tokens": 64_000},
        "agent_types": {"echo": {"temperature": 0.2}}, "features": {"follow_logs": true},
    });
    house.ask(ADMIN, "PUT", "/api/v1/config").json(&patch).await.expect(200);
    house.ask(ADMIN, "POST", "/api/v1/peppers").json(&json!({})).await.expect(201);
}

/// The example's request with the ids of the stage, and with a thing of its own where the call uses one up.
pub(super) async fn staged(stage: &Stage, method: &Method, at: usize, request: &Value) -> Value {
    let text = request.to_string().replace(DEPLOYMENT, &stage.deployment_id);
    let mut request: Value = serde_json::from_str(&text).unwrap();
    match method.name {
        "UploadDeployment" => request["file"] = STANDARD.encode(bundle()).into(),
        "DeleteInstance" => {
            let id = format!("echo-ends-{at}");
            stage.instance(&id).await;
            request["instance_id"] = id.into();
        }
        "RevokeKey" => {
            assert_eq!(request["key_id"], KEY);
            let made = stage.house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": "acme"})).await;
            request["key_id"] = made.expect(201)["key_id"].clone();
        }
        _ => {}
    }
    request
}

/// Whether an answer has the members and types of an example, says something wherever the example does, and repeats what
/// the example repeats from its request.
fn resembles(at: &str, example: &Value, answer: &Value, request: &Value) -> Result<(), String> {
    match (example, answer) {
        (Value::Null, _) | (Value::Bool(_), Value::Bool(_)) | (Value::Number(_), Value::Number(_)) => Ok(()),
        (Value::String(_), Value::String(text)) if text.is_empty() && example != "" => Err(format!("{at} is empty")),
        (Value::String(text), Value::String(answered)) => match request_has(request, text) && text != answered {
            true => Err(format!("{at} is {answered:?}, not {text:?}")),
            false => Ok(()),
        },
        (Value::Array(examples), Value::Array(answers)) => match (examples.first(), answers.first()) {
            (Some(_), None) => Err(format!("{at} has no element")),
            // A list may hold other things too, but one of them is like the example.
            (Some(example), _) => {
                let at = format!("{at}[]");
                let mut problems = answers.iter().map(|answer| resembles(&at, example, answer, request));
                if answers.iter().any(|answer| resembles(&at, example, answer, request).is_ok()) {
                    return Ok(());
                }
                problems.next().unwrap_or(Ok(()))
            }
            (None, _) => Ok(()),
        },
        (Value::Object(examples), Value::Object(answers)) => {
            for (name, example) in examples {
                let at = format!("{at}.{name}");
                let answer = answers.get(name).ok_or_else(|| format!("{at} is missing"))?;
                resembles(&at, example, answer, request)?;
            }
            Ok(())
        }
        _ => Err(format!("{at} is {answer}, not like {example}")),
    }
}

fn request_has(request: &Value, text: &str) -> bool {
    match request {
        Value::String(sent) => sent == text,
        Value::Array(elements) => elements.iter().any(|it| request_has(it, text)),
        Value::Object(members) => members.values().any(|it| request_has(it, text)),
        _ => false,
    }
}
