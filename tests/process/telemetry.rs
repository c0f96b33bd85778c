//! What a gateway tells of itself: lines of the log, metrics, the audit.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message as Frame, client::IntoClientRequest},
};

use crate::support::{
    gateway::{ADMIN, PATIENCE},
    hosts::{ToldHost, ready},
    postgres,
    process::{JSON, Process, upload},
};

#[tokio::test]
async fn structured_json_access_log_has_one_line_for_every_call() {
    let process = Process::start("log = { format = 'json' }\n");
    let made = process.ask("POST", "/api/v1/keys", &[JSON], json!({"tenant_id": "acme"}).to_string()).await.json();
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    for (path, id) in [("/api/v1/config", "req-granted"), ("/api/v1/keys", "req-refused")] {
        process.ask("GET", path, &[("authorization", &bearer), ("x-request-id", id)], "").await;
        process.logs(id).await;
    }
    let strays = [
        ("GET", "/api/v1/nowhere", "req-nowhere", "not_found"),
        ("DELETE", "/api/v1/config", "req-verb", "method_not_allowed"),
        ("POST", "/docs", "req-page", "method_not_allowed"),
        ("POST", "/podium.v1.KeysService/CreateKey", "req-type", "unsupported_media_type"),
        ("GET", "/agent/echo", "req-socket", "upgrade_required"),
    ];
    for (verb, path, id, _) in strays {
        process.ask(verb, path, &[("x-request-id", id), ("content-type", "text/plain")], "").await;
        process.logs(id).await;
    }
    let log = process.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    for (id, method, code, reason) in [
        ("req-granted", "/podium.v1.ConfigService/GetConfig", "ok", ""),
        ("req-refused", "/podium.v1.KeysService/ListKeys", "permission_denied", "admin_required"),
    ] {
        let of_it: Vec<_> = lines.iter().filter(|line| line["request.id"] == id).collect();
        let [line] = &of_it[..] else { panic!("not one line: {of_it:?}") };
        assert_eq!((&line["call.method"], &line["call.code"]), (&method.into(), &code.into()), "{line}");
        assert_eq!((&line["call.reason"], &line["call.door"]), (&reason.into(), &"rest".into()), "{line}");
        assert_eq!((&line["caller.tenant"], &line["caller.key"]), (&"acme".into(), &made["key_id"]), "{line}");
        assert!(line["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{line}");
        assert!(line["call.micros"].is_u64() && line["call.bytes_out"].is_u64(), "{line}");
        assert_eq!((&line["level"], &line["peer.address"]), (&"INFO".into(), &"127.0.0.1".into()), "{line}");
        assert_ne!(line["call.bytes_out"], 0, "{line}");
    }
    for (_, _, id, reason) in strays {
        let of_it: Vec<_> = lines.iter().filter(|line| line["request.id"] == id).collect();
        let [line] = &of_it[..] else { panic!("not one line: {of_it:?}") };
        assert_eq!((&line["call.reason"], &line["peer.address"]), (&reason.into(), &"127.0.0.1".into()), "{line}");
    }
}

#[tokio::test]
async fn structured_json_access_log_names_the_coordinator_that_answered() {
    let full = ToldHost::called("full", Box::new(|_| Some((503, String::new())))).await;
    let free = ToldHost::called("free", ready()).await;
    let process = Process::start(&format!(
        "limits = 'off'\nlog = {{ format = 'json' }}\nfleet = 'coordinator:http://{},http://{}'\n",
        full.address, free.address
    ));
    process.reaches(2).await;
    let (header, form) = upload("1.0.0");
    process.ask("POST", "/api/v1/deployments", &[header], form).await;
    let line = async |id: &str| {
        process.logs(id).await;
        let log = process.log();
        let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON"));
        lines.find(|line| line["request.id"] == id).unwrap()
    };
    for (verb, path, body, host) in [
        ("POST", "/api/v1/instances", r#"{"agent_type": "echo", "agent_id": "mine"}"#, json!("free")),
        ("GET", "/api/v1/instances/mine", "", json!("free")),
        ("POST", "/api/v1/instances/mine/messages", r#"{"text": "hello"}"#, json!("free")),
        ("GET", "/api/v1/instances/mine/logs", "", json!("free")),
        ("GET", "/api/v1/instances/mine/files", "", json!("free")),
        ("GET", "/api/v1/keys", "", Value::Null),
    ] {
        let id = format!("{verb}:{path}:");
        process.ask(verb, path, &[JSON, ("x-request-id", &id)], body).await;
        let line = line(&id).await;
        assert_eq!(line["host.id"], host, "{line}");
    }

    let mut request = format!("ws://{}/agent/mine", process.address()).into_client_request().unwrap();
    for (name, value) in [("authorization", format!("Bearer {ADMIN}")), ("x-request-id", "tunnel".to_owned())] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(process.address()).await.unwrap();
    let far = async { free.dialled().await.accept().await };
    let (near, far) = tokio::join!(client_async(request, stream), far);
    drop((near.unwrap(), far));
    assert_eq!(line("tunnel").await["host.id"], "free");
}

#[tokio::test]
async fn access_log_says_why_a_call_failed_and_no_word_of_what_was_sent() {
    let pasted = "pod_pasted-where-an-id-belongs";
    let process = Process::start("log = { format = 'json' }\n");
    for (verb, path, body, id, reason) in [
        ("GET", format!("/api/v1/instances/{pasted}"), json!({}), "req-path", "instance_not_found"),
        ("POST", "/api/v1/keys".to_owned(), json!({"tenant_id": "a", "role": pasted}), "req-body", "validation_failed"),
        ("GET", format!("/api/v1/keys?limit={pasted}"), json!({}), "req-query", "validation_failed"),
    ] {
        process.ask(verb, &path, &[JSON, ("x-request-id", id)], body.to_string()).await;
        process.logs(id).await;
        let log = process.log();
        let line: Value = serde_json::from_str(log.lines().find(|line| line.contains(id)).unwrap()).unwrap();
        assert_eq!(line["call.reason"], reason, "{line}");
    }
    // What went wrong of ours is told.
    let form = ("content-type", "multipart/form-data");
    process.ask("POST", "/api/v1/deployments", &[form, ("x-request-id", "req-form")], "").await;
    process.logs("the body is not well-formed multipart/form-data: it names no boundary").await;
    assert!(!process.log().contains(pasted), "{}", process.log());
}

#[tokio::test]
async fn metrics_are_written_as_the_scraper_accepts_them() {
    let process = Process::start("");
    let scrape = async |accept: &str| {
        let answer = process.ask("GET", "/metrics", &[("accept", accept)], "").await;
        let media = answer.headers["content-type"].to_str().unwrap().to_owned();
        (media, String::from_utf8(answer.body.to_vec()).unwrap())
    };
    let (media, open) = scrape("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3").await;
    assert_eq!(media, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.contains("\n# TYPE portico_frames counter\n") && open.ends_with("\n# EOF\n"), "{open}");

    for accept in ["*/*", "text/plain;version=0.0.4", "application/openmetrics-text;q=0, text/plain"] {
        let (media, classic) = scrape(accept).await;
        assert_eq!(media, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        let mut types = std::collections::HashMap::new();
        for line in classic.lines() {
            match line.strip_prefix("# ").map(|said| said.split(' ').collect::<Vec<_>>()) {
                Some(said) if said[0] == "TYPE" => {
                    assert!(["counter", "gauge", "histogram"].contains(&said[2]), "{line}");
                    assert_eq!(said[2] == "counter", said[1].ends_with("_total"), "{line}");
                    assert!(types.insert(said[1].to_owned(), said[2].to_owned()).is_none(), "told twice: {line}");
                }
                Some(said) => assert_eq!(said[0], "HELP", "{line}"),
                None => {
                    let name = line.split(['{', ' ']).next().unwrap();
                    let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
                    let is_part = parts.is_some_and(|name| types.get(name).is_some_and(|kind| kind == "histogram"));
                    assert!(is_part || types.contains_key(name), "{line} has no type");
                }
            }
        }
        assert_eq!(types["portico_build_info"], "gauge");
    }
}

#[tokio::test]
async fn metrics_tell_of_calls_sockets_placements_and_parts() {
    let process = Process::start("limits = 'off'\n");
    process.echo("mine").await;
    process.ask("GET", "/api/v1/keys", &[("authorization", "Bearer pod_wrong")], "").await;
    let mut request = format!("ws://{}/agent/mine", process.address()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {ADMIN}").parse().unwrap());
    let stream = TcpStream::connect(process.address()).await.unwrap();
    let (mut socket, _) = client_async(request, stream).await.unwrap();
    let scrape = async || String::from_utf8(process.ask("GET", "/metrics", &[], "").await.body.to_vec()).unwrap();
    assert!(scrape().await.contains("portico_sockets_open 1\n"));
    socket.send(Frame::binary(vec![1, 2, 3])).await.unwrap();
    while !matches!(socket.next().await, Some(Ok(Frame::Binary(_)))) {}
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}

    let wanted = [
        r#"portico_calls_total{method="/podium.v1.DeploymentsService/UploadDeployment",door="rest",code="ok"} 1"#,
        r#"portico_refusals_total{reason="unauthorized"} 1"#,
        r#"portico_call_duration_seconds_count{method="/podium.v1.DeploymentsService/UploadDeployment",door="rest"} 1"#,
        r#"portico_bodies_bytes_total{door="rest",direction="in"}"#,
        "portico_calls_in_flight ",
        "portico_sockets_open 0",
        r#"portico_frames_total{direction="in"} 1"#,
        r#"portico_frames_total{direction="out"} 1"#,
        r#"portico_frame_bytes_total{direction="in"} 3"#,
        r#"portico_stalls_total{side="caller"}"#,
        r#"portico_stall_seconds_total{side="handler"}"#,
        r#"portico_placement_attempts_total{outcome="placed"} 1"#,
        r#"portico_hosts{state="open"} 1"#,
        r#"portico_host_fill_ratios{of="fullest"}"#,
        r#"portico_uploads_total{outcome="stored"} 1"#,
        "portico_upload_bytes_total ",
        "portico_upload_duration_seconds_count 1",
        r#"portico_port_duration_seconds_count{port="blobs","#,
        r#"portico_part_up{part="records"} 1"#,
        r#"portico_part_probe_seconds{part="blobs"}"#,
        r#"portico_part_up{part="registry"} 1"#,
    ];
    let told = async {
        loop {
            let metrics = scrape().await;
            let missing: Vec<_> = wanted.iter().filter(|line| !metrics.contains(**line)).collect();
            if missing.is_empty() {
                return;
            }
            // The socket's record closes a moment after the farewell.
            if !missing.iter().all(|line| line.contains("socket")) {
                panic!("{missing:?} are missing in\n{metrics}");
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("every metric");
}

#[tokio::test]
async fn audit_stream_has_keys_secrets_config_deployments_and_refusals() {
    let records = postgres::database();
    let process = Process::start(&format!("limits = 'off'\nrecords = '{}'\n", records.reveal()));
    let made = process.ask("POST", "/api/v1/keys", &[JSON], json!({"tenant_id": "acme"}).to_string()).await.json();
    let (header, form) = upload("1.0.0");
    process.ask("POST", "/api/v1/deployments", &[header], form).await;
    let key_path = format!("/api/v1/keys/{}", made["key_id"].as_str().unwrap());
    for (verb, path, body) in [
        ("PUT", "/api/v1/secrets/echo", r#"{"A": "1"}"#),
        ("GET", "/api/v1/secrets/echo", ""),
        ("PUT", "/api/v1/config", r#"{"defaults": {"model": "m"}}"#),
        ("PUT", "/api/v1/config", r#"{"nonsense": 1}"#),
        ("POST", "/api/v1/instances", r#"{"agent_type": "echo", "agent_id": "mine"}"#),
        ("DELETE", "/api/v1/instances/mine", ""),
        ("DELETE", &key_path, ""),
    ] {
        process.ask(verb, path, &[JSON, ("x-request-id", "req-audited")], body).await;
    }
    process.ask("GET", "/api/v1/keys", &[("authorization", "Bearer pod_wrong")], "").await;

    let trail = "SELECT body::json->>'actor', body::json->>'action', body::json->>'outcome'
                 FROM portico_records WHERE collection = 'audit'";
    let expected = [
        "bootstrap|keys.create|done",
        "bootstrap|deployment.upload|done",
        "bootstrap|secrets.set|done",
        "bootstrap|secrets.reveal|done",
        "bootstrap|settings.update|done",
        "bootstrap|settings.update|validation_failed",
        "bootstrap|instance.create|done",
        "bootstrap|instance.delete|done",
        "bootstrap|keys.revoke|done",
        "|/podium.v1.KeysService/ListKeys|unauthorized",
    ];
    let noted = async {
        loop {
            let trail = postgres::sql(&records, trail);
            let missing: Vec<_> =
                expected.iter().filter(|line| !trail.lines().any(|noted| noted.ends_with(**line))).collect();
            if missing.is_empty() {
                return trail;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let trail = tokio::time::timeout(PATIENCE, noted).await;
    let trail = trail.unwrap_or_else(|_| panic!("{}", postgres::sql(&records, trail_of_all())));
    assert!(!trail.contains(ADMIN), "{trail}");
    let requests = "SELECT count(*) FROM portico_records
                    WHERE collection = 'audit' AND body::json->>'request_id' = 'req-audited'";
    assert_eq!(postgres::sql(&records, requests), "7\n");
}

fn trail_of_all() -> &'static str {
    "SELECT body FROM portico_records WHERE collection = 'audit'"
}
