//! What an operator sees of Valkey before and while a gateway starts: refusals, warnings, and what `portico check` says.

use std::process::{Command, Output};

use crate::support::{minio, postgres, process::Process, valkey::Maker};

fn portico(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portico")).args(arguments).env_clear().output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `docs/surfaces/podium.md`, "Valkey down at start".
#[test]
fn valkey_down_at_start_and_required_gateway_and_host_end_at_once_and_say_why() {
    let mut server = Maker::Redis.start(&[]);
    server.kill();
    let url = format!("valkey://portico:hunter2@{}", server.address());
    for command in ["serve", "coordinator"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let output = Command::new(env!("CARGO_BIN_EXE_portico"))
            .args([command, "--listen", "127.0.0.1:0", "--data", &data])
            .env_clear()
            .env("VALKEY_URL", &url)
            .env("REQUIRE_VALKEY", "true")
            .output()
            .unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot start: Valkey is out of reach, and require_valkey is on: "), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// `docs/surfaces/podium.md`, "Valkey evicted keys".
#[tokio::test]
async fn valkey_evicted_keys_a_policy_that_evicts_is_warned_of_at_start() {
    for (policy, warns) in [("allkeys-lru", true), ("noeviction", false)] {
        let server = Maker::Valkey.start(&["--maxmemory", "64mb", "--maxmemory-policy", policy]);
        let process = Process::start(&format!("registry = 'valkey://{0}'\nbus = 'valkey://{0}'\n", server.address()));
        if warns {
            process.logs("set maxmemory-policy to noeviction").await;
        } else {
            assert_eq!(process.ask("GET", "/health", &[], "").await.status, 200);
            assert!(!process.log().contains("maxmemory-policy"));
        }
    }
}

#[test]
fn check_says_what_is_wrong_with_a_url_where_it_is_written_and_asks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portico.toml");
    let check = |text: &str, more: &[&str]| {
        std::fs::write(&file, text).unwrap();
        portico(&[&["check", "--config", file.to_str().unwrap()], more].concat())
    };
    let wrong =
        check("limits = 'off'\nregistry = 'valkey+sentinel://:hunter2@a,b'\nbus = 'valkeys://h?ca=/nowhere'\n", &[]);
    let text = said(&wrong);
    assert_eq!(wrong.status.code(), Some(1), "{text}");
    for part in ["2 problems", "portico.toml:2: registry", "does not name the primary", "portico.toml:3: bus"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let pem = folder.path().join("no.pem");
    std::fs::write(&pem, "no PEM").unwrap();
    let useless =
        check(&format!("tls = {{ certificate = '{0}', key = '{0}' }}\nfleet = 'coordinator:'\n", pem.display()), &[]);
    let text = said(&useless);
    assert_eq!(useless.status.code(), Some(1), "{text}");
    for part in ["2 problems", "tls.certificate", "cannot be used", "no host can ever be found"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let away = check("registry = 'valkey://127.0.0.1:1'\n", &[]);
    assert!(away.status.success(), "{}", said(&away));
}

#[test]
fn check_connects_to_every_store_when_it_is_told_to() {
    let (valkey, minio) = (Maker::Valkey.start(&[]), minio::minio());
    let database = postgres::database();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let blobs = format!("s3://{}?endpoint=http://{}", minio::BUCKET, minio.address());
    let check = |records: &str, valkey: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_portico"))
            .args(["check", "--connect", "--data", &data])
            .env_clear()
            .envs([("PORTICO_RECORDS", records), ("PORTICO_BLOBS", &blobs), ("VALKEY_URL", valkey)])
            .envs([("PORTICO_S3_ACCESS_KEY_ID", minio::USER), ("PORTICO_S3_SECRET_ACCESS_KEY", minio::PASSWORD)])
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = check(database.reveal(), &format!("redis://{}", valkey.address()));
    assert_eq!(code, Some(0), "{text}");
    for store in ["records", "blobs", "registry", "bus"] {
        assert!(text.contains(&format!("\n{store:8}  within reach")), "{store}: {text}");
    }
    let (code, text) = check("postgres://portico:hunter2@127.0.0.1:1/none", "redis://:hunter2@127.0.0.1:1");
    assert_eq!(code, Some(1), "{text}");
    for store in ["records", "registry", "bus"] {
        assert!(text.contains(&format!("\n{store:8}  out of reach")), "{store}: {text}");
    }
    assert!(text.contains("3 stores are out of reach") && !text.contains("hunter2"), "{text}");
    assert!(!folder.path().join("records.sqlite").exists(), "nothing is made");
}
