//! Uploads onto S3 and PostgreSQL: what callers see when the store fails on the way, and what is left of it.

use serde_json::json;

use super::deployments::{fields, noise, packed, upload};
use crate::support::{
    between::{Between, Fate},
    gateway::{ADMIN, PATIENCE, TestHouse},
    minio, postgres,
    server::Server,
    stage::bundle,
};

const PATH: &str = "/api/v1/deployments";
/// More than two parts of an upload.
const LARGE_BYTES: usize = 20 << 20;

/// A gateway that keeps bundles in a real store, with somebody between the two.
struct House {
    store: Server,
    between: Between,
    house: TestHouse,
}

impl House {
    async fn with(more: &[(&str, &str)]) -> House {
        let store = minio::minio();
        let between = Between::start(store.address()).await;
        let blobs = format!("s3://{}?endpoint=http://{}", minio::BUCKET, between.address);
        let own = [
            ("PORTICO_LIMITS", "off"),
            ("PORTICO_BLOBS", blobs.as_str()),
            ("PORTICO_S3_ACCESS_KEY_ID", minio::USER),
            ("PORTICO_S3_SECRET_ACCESS_KEY", minio::PASSWORD),
        ];
        let house = TestHouse::with(&[&own[..], more].concat()).await;
        House { store, between, house }
    }

    /// Uploads this bundle; answers what was refused.
    async fn refused(&self, version: &str, file: &[u8]) -> (u16, String) {
        upload(&self.house, ADMIN, &fields(version, file)).await.refusal()
    }

    async fn versions(&self) -> usize {
        let listed = self.house.ask(ADMIN, "GET", PATH).send().await.expect(200);
        listed["deployments"].as_array().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_fails_before_during_upload_and_nothing_is_left_of_it() {
    let house = House::with(&[]).await;
    let (small, large) = (bundle(), packed(&noise(LARGE_BYTES)));
    for (status, code, told, reason) in [
        (500, "InternalError", 503, "storage_unavailable"),
        (503, "SlowDown", 503, "storage_unavailable"),
        (403, "AccessDenied", 502, "storage_error"),
    ] {
        house.between.rule(move |_| Fate::Fails(status, code));
        let answer = upload(&house.house, ADMIN, &fields("1.0.0", &small)).await;
        assert_eq!(answer.refusal(), (told, reason.to_owned()));
        assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    }
    house.between.rule(|_| Fate::Passes);
    house.store.freeze();
    assert_eq!(house.refused("1.0.0", &small).await, (504, "storage_timeout".to_owned()));
    house.store.thaw();

    // In the middle: the first part arrives, the second does not.
    let is_part = |query: &str| query.contains("partNumber=2");
    house.between.rule(move |head| match head.uri.query() {
        Some(query) if is_part(query) => Fate::Fails(500, "InternalError"),
        _ => Fate::Passes,
    });
    assert_eq!(house.refused("1.0.0", &large).await, (503, "storage_unavailable".to_owned()));
    let aborted = async {
        let is_abort = |head: &http::request::Parts| {
            head.method == http::Method::DELETE && head.uri.query().is_some_and(|query| query.contains("uploadId"))
        };
        while house.between.noted(is_abort) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, aborted).await.expect("the upload is aborted");
    assert_eq!(house.versions().await, 0);

    // The name is free, whatever comes next.
    house.between.rule(|_| Fate::Passes);
    upload(&house.house, ADMIN, &fields("1.0.0", &large)).await.expect(201);
    assert_eq!(house.versions().await, 1);
    house.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_ok_registry_write_fails_and_the_same_upload_again_heals_it() {
    let records = postgres::database();
    let house = House::with(&[("PORTICO_RECORDS", records.reveal())]).await;
    // A disk that is full at the very moment in which the deployment is written down.
    postgres::sql(
        &records,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.collection = 'deployments' THEN RAISE EXCEPTION 'as told' USING ERRCODE = '53100'; END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER full_disk BEFORE INSERT ON portico_records FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    let puts = |house: &House| house.between.noted(|head| head.method == http::Method::PUT);
    house.between.rule(|_| Fate::Passes);
    let answer = upload(&house.house, ADMIN, &fields("1.0.0", &bundle())).await;
    assert_eq!(answer.refusal(), (503, "records_unavailable".to_owned()));
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    assert_eq!((puts(&house), house.versions().await), (1, 0), "the object is there, the record is not");

    postgres::sql(&records, "DROP TRIGGER full_disk ON portico_records");
    upload(&house.house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
    assert_eq!(puts(&house), 1, "what is there is not stored again");
    upload(&house.house, ADMIN, &fields("1.0.0", &bundle())).await.expect(200);
    assert_eq!(house.versions().await, 1);
    house.house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_without_conditional_write_keeps_versions_unchanged_all_the_same() {
    let house = House::with(&[]).await;
    let has_condition = |head: &http::request::Parts| head.headers.contains_key("if-none-match");
    house.between.rule(move |head| match has_condition(head) {
        true => Fate::Fails(501, "NotImplemented"),
        false => Fate::Passes,
    });
    let large = packed(&noise(LARGE_BYTES));
    upload(&house.house, ADMIN, &fields("1.0.0", &bundle())).await.expect(201);
    upload(&house.house, ADMIN, &fields("1.1.0", &large)).await.expect(201);
    assert_eq!(house.between.noted(has_condition), 1, "it is told once, and then no condition is sent");
    for (version, file) in [("1.0.0", &bundle()), ("1.1.0", &large)] {
        upload(&house.house, ADMIN, &fields(version, file)).await.expect(200);
        assert_eq!(house.refused(version, &packed(b"{}")).await, (409, "version_conflict".to_owned()));
    }
    let (one, other) = (packed(br#"{"a": 1}"#), packed(br#"{"a": 2}"#));
    let (one_fields, other_fields) = (fields("2.0.0", &one), fields("2.0.0", &other));
    let (one, other) =
        tokio::join!(upload(&house.house, ADMIN, &one_fields), upload(&house.house, ADMIN, &other_fields));
    let mut statuses = [one.status.as_u16(), other.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{one:?} {other:?}");
    let won = if one.status == 201 { one } else { other };
    let stored = house.house.ask(ADMIN, "GET", won.header("location")).send().await.expect(200);
    assert_eq!(stored["checksum"], won.json()["checksum"], "{}", json!(stored));
    house.house.close().await;
}
