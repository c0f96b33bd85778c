//! Moving an installation from embedded stores onto PostgreSQL and S3, and back.

use std::{
    fs,
    future::poll_fn,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use portico::{
    base::Code,
    config::{Config, Sources},
    domain::keys::TENANT_PERMISSIONS,
    gateway::migration::{Migration, Moved},
};
use serde_json::json;

use crate::podium::deployments::{fields, upload};
use crate::support::{
    doors::{Call, Door},
    gateway::{ADMIN, TestHouse, schema},
    minio, postgres, stage,
};

type Variables = Vec<(&'static str, String)>;

/// What is the same wherever the stores are.
fn of_both_sides() -> Variables {
    let text = str::to_owned;
    vec![
        ("PORTICO_LIMITS", text("off")),
        ("PORTICO_SECRETS_KEY", "0b".repeat(32)),
        ("PORTICO_S3_ACCESS_KEY_ID", text(minio::USER)),
        ("PORTICO_S3_SECRET_ACCESS_KEY", text(minio::PASSWORD)),
    ]
}

fn embedded(folder: &Path) -> Variables {
    let url = |scheme: &str, name: &str| format!("{scheme}:{}", folder.join(name).display());
    [of_both_sides(), vec![("PORTICO_RECORDS", url("sqlite", "records")), ("PORTICO_BLOBS", url("file", "blobs"))]]
        .concat()
}

fn config(variables: &Variables) -> Config {
    Sources::new().environment(variables.iter().cloned()).load().unwrap().config
}

async fn house(variables: &Variables) -> TestHouse {
    TestHouse::with(&variables.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>()).await
}

async fn deploy(house: &TestHouse, version: &str) {
    let method = schema().method("/podium.v1.DeploymentsService/UploadDeployment").unwrap();
    let call = Call { method, messages: stage::upload(version, &stage::bundle()), key: ADMIN, answers_max: 1 };
    Door::Grpc.call(house, &call).await.ok();
}

/// What callers see of what is kept.
async fn seen(house: &TestHouse, tenant: &str) -> Vec<String> {
    let mut seen = Vec::new();
    for (key, path) in [
        (ADMIN, "/api/v1/deployments"),
        (tenant, "/api/v1/deployments"),
        (ADMIN, "/api/v1/secrets/echo?tenant_id=acme"),
        (tenant, "/api/v1/config"),
    ] {
        let answer = house.ask(key, "GET", path).send().await;
        answer.expect(200);
        seen.push(String::from_utf8(answer.body.to_vec()).unwrap());
    }
    seen
}

async fn migrate(from: &Variables, to: &Variables, is_replacing: bool) -> portico::base::Result<Moved> {
    let migration = Migration::open(&config(from), &config(to), is_replacing).await?;
    let moved = migration.run(|_| {}).await;
    migration.close().await;
    moved
}

/// Begins to move and is cut off after the second bundle, as by a signal.
async fn begin_to_migrate(from: &Variables, to: &Variables) {
    let migration = Migration::open(&config(from), &config(to), false).await.unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&told);
    let mut running = Box::pin(migration.run(move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
    }));
    let cut_off = poll_fn(|cx| match running.as_mut().poll(cx) {
        Poll::Pending if told.load(Ordering::SeqCst) >= 2 => Poll::Ready(true),
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => Poll::Ready(false),
    });
    assert!(cut_off.await, "it ended before it could be cut off");
    drop(running);
    migration.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_moves_onto_postgres_and_s3_and_back_though_it_is_interrupted() {
    let (home, back, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), minio::minio());
    let (here, again) = (embedded(home.path()), embedded(back.path()));
    let blobs = format!("s3://{}/moved?endpoint=http://{}", minio::BUCKET, store.address());
    let database = postgres::database().reveal().to_owned();
    let there = [of_both_sides(), vec![("PORTICO_RECORDS", database), ("PORTICO_BLOBS", blobs)]].concat();

    let before = house(&here).await;
    let tenant = before.key("acme", TENANT_PERMISSIONS).await;
    for version in ["1.0.0", "1.1.0", "2.0.0"] {
        deploy(&before, version).await;
    }
    let secrets = json!({"API_KEY": "s3cret"});
    before.ask(&tenant, "PUT", "/api/v1/secrets/echo").json(&secrets).await.expect(200);
    let shown = seen(&before, &tenant).await;
    before.close().await;

    begin_to_migrate(&here, &there).await;
    let moved = migrate(&here, &there, false).await.unwrap();
    assert!(moved.blobs_there >= 2 && moved.blobs + moved.blobs_there == 3 && moved.records > 5, "{moved:?}");
    let idle = migrate(&here, &there, false).await.unwrap();
    assert_eq!((idle.blobs, idle.records, idle.records_there), (0, 0, moved.records + moved.records_there));

    let after = house(&there).await;
    assert_eq!(seen(&after, &tenant).await, shown);
    deploy(&after, "3.0.0").await;
    let shown = seen(&after, &tenant).await;
    after.close().await;

    let moved = migrate(&there, &again, false).await.unwrap();
    assert_eq!(moved.blobs, 4);
    let returned = house(&again).await;
    assert_eq!(seen(&returned, &tenant).await, shown);
    returned.close().await;
    let bundle = "blobs/dev/deployments/echo/1.1.0/echo-1.1.0.tar.gz";
    assert_eq!(fs::read(back.path().join(bundle)).unwrap(), fs::read(home.path().join(bundle)).unwrap());

    // What has moved on since gives way only when that is asked for.
    let refused = migrate(&there, &here, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    migrate(&there, &here, true).await.unwrap();
    let at_home = house(&here).await;
    assert_eq!(seen(&at_home, &tenant).await, shown);
    at_home.close().await;
}

#[tokio::test]
async fn replacing_takes_nothing_away_before_what_comes_instead_has_arrived_whole() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (embedded(source.path()), embedded(target.path()));
    let key = "blobs/dev/deployments/echo/1.0.0/echo-1.0.0.tar.gz";
    for (side, mark) in [(&from, 1), (&to, 2)] {
        let house = house(side).await;
        let mut bundle = stage::bundle();
        // When it was packed, which gzip says and nobody minds.
        bundle[4] = mark;
        upload(&house, ADMIN, &fields("1.0.0", &bundle)).await.expect(201);
        house.close().await;
    }
    let (damaged, kept) = (fs::read(source.path().join(key)).unwrap(), fs::read(target.path().join(key)).unwrap());
    let mut broken = damaged.clone();
    broken[20] ^= 1;
    fs::write(source.path().join(key), &broken).unwrap();
    assert_eq!(migrate(&from, &to, true).await.unwrap_err().code(), Code::DataLoss);
    assert_eq!(fs::read(target.path().join(key)).unwrap(), kept, "the target keeps what it had");
    fs::write(source.path().join(key), &damaged).unwrap();
    migrate(&from, &to, true).await.unwrap();
    assert_eq!(fs::read(target.path().join(key)).unwrap(), damaged);
}
