//! `POST /api/v1/deployments`, and the listings beside it.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use serde_json::json;

use crate::support::{
    doors::{Call, Door},
    gateway::{ADMIN, Answer, TestHouse, schema},
    stage::{self, bundle},
};

const PATH: &str = "/api/v1/deployments";

/// A field of a form.
pub(crate) type Field<'a> = (&'static str, &'a [u8]);

/// Uploads these fields as a form.
pub(crate) async fn upload(house: &TestHouse, key: &str, fields: &[Field<'_>]) -> Answer {
    house.ask(key, "POST", PATH).bytes("multipart/form-data; boundary=b", form(fields)).await
}

/// The form of these fields, with the boundary `b`.
pub(crate) fn form(fields: &[Field<'_>]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, content) in fields {
        let file = if *name == "file" { "; filename=\"x\"" } else { "" };
        form.extend(format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").into_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--b--\r\n");
    form
}

pub(crate) fn fields<'a>(version: &'a str, file: &'a [u8]) -> [Field<'a>; 3] {
    [("agent_type", b"echo"), ("version", version.as_bytes()), ("file", file)]
}

/// A bundle of one file.
pub(crate) fn packed(content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "agent.json", content).unwrap();
    archive.into_inner().unwrap().finish().unwrap()
}

/// Bytes that do not get smaller.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = std::iter::from_fn(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((state >> 56) as u8)
    });
    next.take(size).collect()
}

#[tokio::test]
async fn same_version_same_bytes_is_200_in_any_order_of_the_fields() {
    let house = TestHouse::start().await;
    let answer = upload(&house, ADMIN, &fields("1.0.0", &bundle())).await;
    let made = answer.expect(201);
    let checksum = made["checksum"].as_str().unwrap();
    assert!(checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(made["deployment_id"], format!("echo:1.0.0@{}", &checksum[..8]));
    assert_eq!((&made["agent_type"], &made["version"]), (&json!("echo"), &json!("1.0.0")));
    assert_eq!(made["size_bytes"], bundle().len());
    let location = answer.header("location").to_owned();

    // A retry is answered as before, in any order of the fields.
    let mut reversed = fields("1.0.0", &[]).to_vec();
    let bytes = bundle();
    reversed[2].1 = &bytes;
    reversed.reverse();
    let again = upload(&house, ADMIN, &reversed).await.expect(200);
    assert_eq!(again["deployment_id"], made["deployment_id"]);

    let shown = house.ask(ADMIN, "GET", &location).send().await.expect(200);
    assert_eq!(shown["checksum"], made["checksum"]);
    upload(&house, ADMIN, &fields("1.1.0", &bundle())).await.expect(201);
    let latest = house.ask(ADMIN, "GET", &format!("{PATH}?agent_type=echo&latest=true")).send().await.expect(200);
    assert_eq!(latest["deployments"].as_array().unwrap().len(), 1);
    assert_eq!(latest["deployments"][0]["version"], "1.1.0");
    house.close().await;
}

#[tokio::test]
async fn same_version_other_bytes_is_409_and_names_what_is_there() {
    let house = TestHouse::start().await;
    let made = upload(&house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
    let conflict = upload(&house, ADMIN, &fields("1.0.0", &packed(b"{}"))).await;
    assert_eq!(conflict.refusal(), (409, "version_conflict".to_owned()));
    let told = &conflict.json()["error"];
    assert_eq!(told["details"]["existing_checksum"], made["checksum"], "{told}");
    assert!(told["message"].as_str().unwrap().contains("choose the next"), "{told}");
    house.close().await;
}

#[tokio::test]
async fn a_bundle_that_nobody_can_run_is_taken_with_the_reason_and_starts_nothing() {
    let house = TestHouse::start().await;
    let made = upload(&house, ADMIN, &fields("1.0.0", &packed(b"{}"))).await.expect(201);
    let warning = made["warnings"][0].as_str().unwrap();
    assert!(warning.contains("agent.json: missing field `command`"), "{warning}");
    let create = async |body| house.ask(ADMIN, "POST", "/api/v1/instances").json(&body).await;
    let refused = create(json!({"deployment_id": made["deployment_id"]})).await;
    assert_eq!(refused.refusal(), (422, "invalid_bundle".to_owned()));
    let refused = create(json!({"deployment_id": made["deployment_id"], "agent_type": "other"})).await;
    assert_eq!(refused.refusal(), (422, "validation_failed".to_owned()));
    house.close().await;
}

#[tokio::test]
async fn not_gzip_not_tar_truncated_trailing_junk_are_400_by_name() {
    let house = TestHouse::with(&[("PORTICO_LIMITS", "off"), ("PORTICO_UPLOADS_BUNDLE_BYTES_MAX", "64KiB")]).await;
    let (good, large) = (bundle(), packed(&noise(128 << 10)));
    let mut no_tar = GzEncoder::new(Vec::new(), Compression::fast());
    no_tar.write_all(&noise(2_048)).unwrap();
    let no_tar = no_tar.finish().unwrap();
    let junk_behind = [&good[..], b"junk"].concat();
    let cases: &[(&[Field], u16, &str)] = &[
        (&fields("1.0.0", b"plain text"), 400, "not_gzip"),
        (&fields("1.0.0", &no_tar), 400, "not_tar"),
        (&fields("1.0.0", &good[..good.len() / 2]), 400, "corrupt_gzip"),
        (&fields("1.0.0", &junk_behind), 400, "corrupt_gzip"),
        (&fields("1.0.0", b""), 400, "empty_bundle"),
        (&fields("1.0.0", &large), 413, "bundle_too_large"),
        (&fields("v1", &good), 422, "invalid_version"),
        (&[("agent_type", b"a/b"), ("version", b"1.0.0"), ("file", &good)], 422, "invalid_agent_type"),
        (&[("agent_type", b"echo"), ("file", &good)], 422, "missing_field"),
        (
            &[("version", b"1.0.0"), ("version", b"1.0.0"), ("agent_type", b"echo"), ("file", &good)],
            400,
            "duplicate_field",
        ),
    ];
    for (fields, status, code) in cases {
        assert_eq!(upload(&house, ADMIN, fields).await.refusal(), (*status, (*code).to_owned()));
    }
    let method = schema().method("/podium.v1.DeploymentsService/UploadDeployment").unwrap();
    for door in [Door::Grpc, Door::GrpcWeb, Door::ConnectProto, Door::ConnectJson] {
        let call = Call { method, messages: stage::upload("1.0.0", &large), key: ADMIN, answers_max: 1 };
        assert_eq!(door.call(&house, &call).await.code, "resource_exhausted", "{door:?}");
    }
    let json = house.ask(ADMIN, "POST", PATH).json(&json!({})).await;
    assert_eq!(json.refusal(), (415, "unsupported_media_type".to_owned()));
    let tenant = house.key("acme", &[]).await;
    let refusal = upload(&house, &tenant, &fields("1.0.0", &good)).await.refusal();
    assert_eq!(refusal, (403, "permission_denied".to_owned()));
    let listed = house.ask(ADMIN, "GET", PATH).send().await.expect(200);
    assert_eq!(listed["deployments"], json!([]));
    house.close().await;
}
