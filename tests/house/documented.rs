//! What is written of the page is so: every route is served, and every case that can fail has a test that says so.

use std::collections::HashMap;

use crate::support::{
    doors::socket::Socket,
    gateway::{ADMIN, TestHouse},
    source,
};

/// The routes as the page prints them, word for word, and a path with what it leaves out filled in.
const PODIUM: [(&str, &str); 14] = [
    ("POST /api/v1/deployments", "/api/v1/deployments"),
    ("POST /api/v1/instances", "/api/v1/instances"),
    ("GET /api/v1/instances/", "/api/v1/instances/missing"),
    ("DELETE /api/v1/instances/", "/api/v1/instances/missing"),
    ("POST /api/v1/keys", "/api/v1/keys"),
    ("GET /api/v1/keys", "/api/v1/keys"),
    ("DELETE /api/v1/keys/", "/api/v1/keys/missing"),
    ("PUT /api/v1/secrets/", "/api/v1/secrets/missing"),
    ("GET /api/v1/secrets/", "/api/v1/secrets/missing"),
    ("GET /api/v1/config", "/api/v1/config"),
    ("PUT /api/v1/config", "/api/v1/config"),
    ("GET /api/v1/config/models", "/api/v1/config/models"),
    ("GET /health", "/health"),
    ("WS /agent/", "/agent/missing"),
];

#[tokio::test]
async fn every_route_of_the_podium_page_is_served() {
    let house = TestHouse::start().await;
    for (published, path) in PODIUM {
        let (verb, _) = published.split_once(' ').unwrap();
        // Who asks for a route that exists is asked for a key first; who asks for another one is told that there is none.
        let (anonymous, status, code) = if verb == "WS" {
            let (anonymous, _) = Socket::open(&house, path, "").await.err().unwrap();
            let (status, body) = Socket::open(&house, path, ADMIN).await.err().unwrap();
            (anonymous.as_u16(), status.as_u16(), body)
        } else {
            let anonymous = house.ask("", verb, path).send().await.status.as_u16();
            let answer = house.ask(ADMIN, verb, path).send().await;
            (anonymous, answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
        };
        assert_eq!(anonymous, if path == "/health" { 200 } else { 401 }, "{published}");
        assert!(!matches!(status, 405 | 426 | 501), "{published}: {status} {code}");
        assert!(!code.contains(r#""code":"not_found""#), "{published}: {code}");
    }
}

/// The heading of the tables that say what fails how.
const FAILURES: &str = "## What fails, and how";

/// The cases of failure, word for word; what is in brackets explains.
const CASES: [&str; 64] = [
    "no coordinator registered",
    "all full",
    "chosen host dead, lease not yet expired",
    "host dies during create",
    "host dies with live sockets",
    "host restarts, instance lost",
    "stale load numbers, thundering herd",
    "host returns garbage / HTML / huge body",
    "coordinator URL in Valkey points to an odd place (SSRF via poisoned registry)",
    "placement record lost (Valkey flush)",
    "clock skew",
    "draining host",
    "Valkey down at start",
    "Valkey down later",
    "Valkey slow",
    "Valkey read-only replica and failover",
    "Valkey evicted keys (maxmemory)",
    "S3 fails before/during upload",
    "S3 ok, registry write fails",
    "gateway killed mid-upload",
    "same version, same bytes",
    "same version, other bytes",
    "two racing uploads of one version",
    "different tenants, same agent type",
    "8-hex prefix collision",
    "huge bundle",
    "slow-loris upload",
    "client disconnect",
    "not gzip / not tar / truncated / trailing junk",
    "traversal, links out of root, devices",
    "decompression bomb",
    "disk full on spool",
    "MinIO without conditional write",
    "coordinator downloads other bytes than uploaded",
    "unknown deployment",
    "hash in id is not stored hash",
    "deployment owned by another tenant",
    "instance id guessed by another tenant",
    "duplicate create retry",
    "crash between placement record and coordinator call",
    "secret leaks",
    "wrong SECRETS_KEY after redeploy",
    "stored secrets missing for a type",
    "upstream closes cleanly",
    "slow client",
    "giant frame",
    "instance deleted while attached",
    "key revoked while attached",
    "gateway deploy",
    "half-open TCP",
    "client sends before upstream is ready",
    "HTTP/2 client",
    "proxies stripping Upgrade",
    "constant-time compares",
    "header read timeout 10 s",
    "max headers 64 KiB",
    "per-route body caps",
    "panic",
    "structured JSON access log",
    "metrics",
    "spans with traceparent",
    "audit stream",
    "OpenAPI file generated from the code",
    "reproducible end-to-end tests",
];

#[test]
fn every_case_of_failure_has_a_test_whose_name_says_it() {
    let page = source::read("docs/surfaces/podium.md");
    let (_, section) = page.split_once(FAILURES).expect("the page says what fails how");
    let section = section.split("\n## ").next().unwrap();
    let rows: HashMap<&str, &str> = section.lines().filter_map(row).collect();
    let files: HashMap<String, String> = source::all().into_iter().map(|file| (file.path, file.text)).collect();
    let mut wrong: Vec<String> =
        CASES.iter().filter(|case| !rows.contains_key(**case)).map(|case| format!("{case}: has no row")).collect();
    for (case, proofs) in rows {
        let said = name_of(case);
        let proofs: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        if proofs.is_empty() {
            wrong.push(format!("{case}: names no test"));
        }
        for proof in proofs {
            let (module, name) = proof.rsplit_once("::").unwrap_or(("", proof));
            if !name.contains(&said) {
                wrong.push(format!("{proof} does not say {said}"));
            }
            let file = files.get(&format!("tests/{}.rs", module.replace("::", "/")));
            if !file.is_some_and(|text| is_test(text, name)) {
                wrong.push(format!("{proof} is no test"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The case of a row, and what proves it.
fn row(line: &str) -> Option<(&str, &str)> {
    let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let (case, rest) = cells.split_once(" | ")?;
    let (_, proofs) = rest.rsplit_once(" | ")?;
    (case != "Case").then_some((case, proofs))
}

/// How a test says a case: its words, without what is in brackets.
fn name_of(case: &str) -> String {
    let words = case.split(" (").next().unwrap_or_default().to_lowercase();
    words.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// Whether this is the text of a module with a test of this name.
fn is_test(text: &str, name: &str) -> bool {
    let declared = format!("fn {name}(");
    let mut before = text.lines().rev().skip_while(|line| !line.contains(&declared)).skip(1);
    before.next().is_some_and(|line| line.starts_with("#[tokio::test") || line.starts_with("#[test]"))
}
