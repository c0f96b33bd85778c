//! Deployments: what becomes of an upload, whatever happens on the way.

mod bundle;
mod claims;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use portico::{
    backend::disk::Disk,
    base::{
        Caller, Code, Context, Error, IdentityId, Incoming, Reason, Result, TenantId,
        caller::{Proof, Role},
        error::Detail,
        page::PageRequest,
        reason,
        tasks::Tasks,
    },
    domain::deployments::{self, Config, Deployment, Deployments, Filter, Hosts, Piece, Uploaded, Wanted},
    port::{
        Answer,
        blobs::{Blobs, Metadata},
    },
};
use tokio::sync::{Notify, mpsc};

use self::bundle::{Living, bundle, chunks};
use super::Ground;

/// Deployments over real stores.
struct House {
    ground: Ground,
    deployments: Deployments,
    blobs: Disk,
    tasks: Tasks,
    _data: tempfile::TempDir,
}

impl House {
    async fn new() -> House {
        House::with(Config::default(), None).await
    }

    async fn with(config: Config, hosts: Option<Arc<dyn Hosts>>) -> House {
        House::over(config, hosts, |disk| Arc::new(disk.clone())).await
    }

    /// The same with somebody between it and the disk.
    async fn over(config: Config, hosts: Option<Arc<dyn Hosts>>, blobs: impl FnOnce(&Disk) -> Arc<dyn Blobs>) -> House {
        let data = tempfile::tempdir().unwrap();
        let (ground, tasks) = (Ground::new(), Tasks::new());
        let disk = Disk::open(data.path()).unwrap();
        let stands_on = deployments::Ground {
            records: Arc::clone(&ground.records),
            blobs: blobs(&disk),
            hosts,
            settings: ground.settings().await,
            audit: ground.audit.clone(),
            tasks: tasks.clone(),
        };
        House { deployments: Deployments::new(stands_on, config), ground, blobs: disk, tasks, _data: data }
    }

    fn call(&self, who: &str) -> Context {
        let tenant = if who == "admin" { TenantId::shared() } else { TenantId::new(who) };
        let role = if who == "admin" { Role::Admin } else { Role::Tenant };
        let proof = Proof::Key("key_1".into());
        let caller = Caller { identity: IdentityId::new(who), tenant, role, permissions: Arc::from([]), proof };
        self.ground.call(&caller, &[])
    }

    async fn upload(&self, who: &str, agent_type: &str, version: &str, file: &Bytes) -> Result<Uploaded> {
        let pieces = vec![said(agent_type, ""), said("", version), file_piece(file)];
        self.deployments.upload(&self.call(who), stream_of(pieces)).await
    }

    async fn resolve(&self, who: &str, wanted: Wanted<'_>) -> Result<Deployment> {
        self.deployments.resolve(&self.call(who), wanted).await
    }

    /// The ids of a list, page by page, each page in brackets.
    async fn list(&self, who: &str, filter: Filter<'_>, limit: usize) -> String {
        let (mut page, mut text) = (PageRequest { limit, after: None }, String::new());
        loop {
            let listed = self.deployments.list(&self.call(who), filter, &page).await.unwrap();
            let names: Vec<_> = listed.items.iter().map(|one| format!("{}:{}", one.agent_type, one.version)).collect();
            text += &format!("[{}]", names.join(" "));
            match listed.next {
                Some(next) => page.after = Some(next),
                None => return text,
            }
        }
    }
}

fn said(agent_type: &str, version: &str) -> Piece {
    Piece { agent_type: agent_type.to_owned(), version: version.to_owned(), file: Bytes::new() }
}

fn file_piece(file: &Bytes) -> Piece {
    Piece { file: file.clone(), ..Piece::default() }
}

fn stream_of(pieces: Vec<Piece>) -> Incoming<Piece> {
    Box::pin(stream::iter(pieces.into_iter().map(Ok)))
}

/// An upload that goes on when the test says so.
fn steps() -> (mpsc::Sender<Piece>, Incoming<Piece>) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) }).boxed())
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T>, expected: Reason) -> Error {
    let error = outcome.expect_err("is refused");
    assert_eq!(error.reason(), expected, "{error:?}");
    error
}

fn fact(error: &Error, wanted: &str) -> String {
    let found = error.details().iter().find_map(|detail| match detail {
        Detail::Fact { name, value } if *name == wanted => Some(value.clone()),
        _ => None,
    });
    found.expect("the error has this fact")
}

#[tokio::test]
async fn a_bundle_is_taken_in_whatever_the_order_of_its_fields() {
    let house = House::new().await;
    let file = bundle("{}");
    let (head, tail) = (file.slice(..9), file.slice(9..));
    let orders = [
        vec![Piece { agent_type: "echo".to_owned(), version: "1.0.0".to_owned(), file: file.clone() }],
        vec![file_piece(&head), said("", "1.0.1"), file_piece(&tail), said("echo", "")],
        vec![said("echo", "1.0.2"), file_piece(&head), file_piece(&Bytes::new()), file_piece(&tail)],
    ];
    for (number, order) in orders.into_iter().enumerate() {
        let uploaded = house.deployments.upload(&house.call("ann"), stream_of(order)).await.unwrap();
        let deployment = uploaded.deployment;
        assert!(!uploaded.existing);
        assert_eq!(uploaded.warnings.len(), 1, "no host has it yet");
        assert_eq!(deployment.size_bytes, file.len() as u64);
        let key = format!("dev/deployments/echo/1.0.{number}/echo-1.0.{number}.tar.gz");
        let head = house.blobs.head(&key).await.unwrap().expect("the bundle lies under the published key");
        assert_eq!((head.digest.to_string(), head.metadata["tenant"].as_str()), (deployment.checksum.clone(), "ann"));
        assert_eq!(deployment.deployment_id(), format!("echo:1.0.{number}@{}", &deployment.checksum[..8]));
        let read: Vec<Bytes> = house.deployments.bundle(&deployment).await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), file);
    }
    assert_eq!(house.ground.trail().await, ["ann deployment.upload done"; 3]);
}

#[tokio::test]
async fn a_version_never_changes() {
    let house = House::new().await;
    let first = house.upload("ann", "echo", "1.0.0", &bundle("one")).await.unwrap().deployment;
    let again = house.upload("ann", "echo", "1.0.0", &bundle("one")).await.unwrap();
    assert!(again.existing);
    assert_eq!(again.deployment, first);
    let conflict = refused(house.upload("ann", "echo", "1.0.0", &bundle("two")).await, reason::VERSION_CONFLICT);
    assert_eq!(conflict.code(), Code::AlreadyExists);
    assert_eq!(fact(&conflict, "existing_checksum"), first.checksum);
    assert_eq!(fact(&conflict, "existing_deployment_id"), first.deployment_id());
}

#[tokio::test]
async fn fields_are_required_once_and_checked() {
    let house = House::new().await;
    let file = file_piece(&bundle("{}"));
    let upload = async |pieces: Vec<Piece>| house.deployments.upload(&house.call("ann"), stream_of(pieces)).await;
    let missing = refused(upload(vec![]).await, reason::MISSING_FIELD);
    assert_eq!(missing.details().len(), 3);
    refused(upload(vec![said("echo", "1.0.0")]).await, reason::MISSING_FIELD);
    refused(upload(vec![said("echo", ""), file.clone()]).await, reason::MISSING_FIELD);
    refused(upload(vec![said("echo", "1.0.0"), Piece::default()]).await, reason::EMPTY_BUNDLE);
    refused(upload(vec![said("echo", ""), said("echo", "")]).await, reason::DUPLICATE_FIELD);
    refused(upload(vec![said("a/b", "1.0.0")]).await, reason::INVALID_AGENT_TYPE);
    refused(upload(vec![said("echo", "v1.0.0")]).await, reason::INVALID_VERSION);
    let junk = file_piece(&Bytes::from_static(b"PK\x03\x04"));
    refused(upload(vec![said("echo", "1.0.0"), junk]).await, reason::NOT_GZIP);
    // Whatever was refused, the name is free at once.
    upload(vec![said("echo", "1.0.0"), file]).await.unwrap();
}

#[tokio::test]
async fn too_many_bytes_are_refused_as_they_arrive() {
    let house = House::with(Config { bundle_bytes_max: 1 << 20, ..Config::default() }, None).await;
    let endless = chunks(4_000, &Living::default()).map(|chunk| Ok(file_piece(&chunk)));
    let pieces = stream::iter([Ok(said("echo", "1.0.0"))].into_iter().chain(endless)).boxed();
    refused(house.deployments.upload(&house.call("ann"), pieces).await, reason::BUNDLE_TOO_LARGE);
}

#[tokio::test]
async fn of_two_uploads_of_one_version_exactly_one_wins() {
    let house = House::new().await;
    // The second hears at once, before it has sent its file.
    let (first, arriving) = steps();
    let cx = house.call("ann");
    let running = house.deployments.upload(&cx, arriving);
    let ((), ()) = tokio::join!(
        async {
            let uploaded = running.await.unwrap();
            assert!(!uploaded.existing);
        },
        async {
            first.send(said("echo", "1.0.0")).await.unwrap();
            // The channel holds one piece: when it takes another, the first has been worked on.
            first.send(file_piece(&Bytes::new())).await.unwrap();
            first.send(file_piece(&bundle("one"))).await.unwrap();
            let (_open, second) = steps();
            let pieces = stream::iter([Ok(said("echo", "1.0.0"))]).chain(second).boxed();
            refused(house.deployments.upload(&cx, pieces).await, reason::UPLOAD_IN_PROGRESS);
            drop(first);
        },
    );
    // Both learn the name last, with everything else in place.
    let race = async |content: &str| {
        let pieces = vec![file_piece(&bundle(content)), said("echo", "2.0.0")];
        house.deployments.upload(&cx, stream_of(pieces)).await
    };
    let outcomes = tokio::join!(race("one"), race("two"), race("three"));
    let outcomes = [outcomes.0, outcomes.1, outcomes.2];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let stored = house.resolve("ann", Wanted::Latest("echo")).await.unwrap();
    let won = outcomes.into_iter().find_map(Result::ok).unwrap().deployment;
    assert_eq!(stored, won);
    assert_eq!(house.blobs.head(&won.blob_key).await.unwrap().unwrap().digest.to_string(), won.checksum);
}

#[tokio::test]
async fn an_abandoned_upload_leaves_nothing() {
    let house = House::new().await;
    let (sender, arriving) = steps();
    let cx = house.call("ann");
    {
        let mut running = Box::pin(house.deployments.upload(&cx, arriving));
        let sending = async {
            sender.send(said("echo", "1.0.0")).await.unwrap();
            sender.send(file_piece(&bundle("one").slice(..9))).await.unwrap();
            sender.send(file_piece(&Bytes::new())).await.unwrap();
            sender.send(file_piece(&Bytes::new())).await.unwrap();
        };
        tokio::select! {
            outcome = &mut running => panic!("the upload is not at its end: {outcome:?}"),
            () = sending => {}
        }
        assert!(running.now_or_never().is_none());
    }
    assert_eq!(house.tasks.wait(Duration::from_secs(10)).await, 0, "the claim is given free");
    assert!(house.blobs.list("dev/", None, 9).await.unwrap().is_empty());
    house.upload("ann", "echo", "1.0.0", &bundle("two")).await.unwrap();
}

#[tokio::test]
async fn gateway_killed_mid_upload_blocks_its_name_for_a_minute_at_most() {
    let house = House::new().await;
    let (sender, arriving) = steps();
    let cx = house.call("ann");
    let mut running = Box::pin(house.deployments.upload(&cx, arriving));
    let sending = async {
        sender.send(said("echo", "1.0.0")).await.unwrap();
        sender.send(file_piece(&Bytes::new())).await.unwrap();
        sender.send(file_piece(&Bytes::new())).await.unwrap();
    };
    tokio::select! {
        outcome = &mut running => panic!("the upload is not at its end: {outcome:?}"),
        () = sending => {}
    }
    refused(house.upload("ann", "echo", "1.0.0", &bundle("two")).await, reason::UPLOAD_IN_PROGRESS);
    house.ground.clock.advance(Duration::from_secs(61));
    let second = house.upload("ann", "echo", "1.0.0", &bundle("two")).await.unwrap();
    // Should the first be alive after all, it finds what the second has stored.
    let late = async move {
        // Nobody may be listening any more.
        sender.send(file_piece(&bundle("one"))).await.unwrap_or_default();
    };
    let (outcome, ()) = tokio::join!(running, late);
    assert!(outcome.is_err(), "{outcome:?}");
    assert_eq!(house.resolve("ann", Wanted::Latest("echo")).await.unwrap(), second.deployment);
}

#[tokio::test(start_paused = true)]
async fn a_silent_upload_ends() {
    let house = House::new().await;
    let outcome = house.deployments.upload(&house.call("ann"), Box::pin(stream::pending())).await;
    assert_eq!(refused(outcome, reason::UPLOAD_TIMEOUT).code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_bundle_without_a_record_is_healed_or_replaced() {
    let house = House::new().await;
    for (version, left) in [("1.0.0", bundle("same")), ("1.0.1", bundle("other"))] {
        let mut staging = house.blobs.stage(None).await.unwrap();
        staging.write(left).await.unwrap();
        let key = format!("dev/deployments/echo/{version}/echo-{version}.tar.gz");
        staging.seal().await.unwrap().commit(&key, Metadata::new()).await.unwrap();
        let uploaded = house.upload("ann", "echo", version, &bundle("same")).await.unwrap();
        assert!(!uploaded.existing);
        assert_eq!(house.blobs.head(&key).await.unwrap().unwrap().digest.to_string(), uploaded.deployment.checksum);
    }
}

#[tokio::test]
async fn an_agent_type_belongs_to_whoever_used_it_first() {
    let house = House::new().await;
    let ann = house.upload("ann", "echo", "1.0.0", &bundle("ann")).await.unwrap().deployment;
    let shared = house.upload("admin", "chat", "1.0.0", &bundle("all")).await.unwrap().deployment;
    assert_eq!((ann.tenant_id.as_str(), shared.tenant_id.as_str()), ("ann", "*"));
    for (who, agent_type) in [("bob", "echo"), ("ann", "chat")] {
        let outcome = house.upload(who, agent_type, "2.0.0", &bundle("mine")).await;
        assert_eq!(refused(outcome, reason::AGENT_TYPE_OWNED).code(), Code::PermissionDenied);
    }
    let by_admin = house.upload("admin", "echo", "2.0.0", &bundle("for ann")).await.unwrap().deployment;
    assert_eq!(by_admin.tenant_id, "ann", "an administrator acts for the owner");

    let id = ann.deployment_id();
    assert_eq!(house.resolve("ann", Wanted::Id(&id)).await.unwrap(), ann);
    assert_eq!(house.resolve("admin", Wanted::Id(&id)).await.unwrap(), ann);
    assert_eq!(house.resolve("ann", Wanted::Latest("echo")).await.unwrap(), by_admin);
    assert_eq!(house.resolve("bob", Wanted::Latest("chat")).await.unwrap(), shared);
    for wanted in [Wanted::Id(&id), Wanted::Latest("echo"), Wanted::Id("echo:1.0.0@local"), Wanted::Latest("none")] {
        refused(house.resolve("bob", wanted).await, reason::DEPLOYMENT_NOT_FOUND);
    }
    assert_eq!(house.resolve("ann", Wanted::Id("echo:1.0.0@local")).await.unwrap(), ann);
    let whole = format!("echo:1.0.0@{}", ann.checksum);
    assert_eq!(house.resolve("ann", Wanted::Id(&whole)).await.unwrap(), ann);
    let other = house.resolve("ann", Wanted::Id("echo:1.0.0@00000000")).await;
    assert_eq!(refused(other, reason::DEPLOYMENT_HASH_MISMATCH).code(), Code::FailedPrecondition);
    refused(house.resolve("bob", Wanted::Id("echo:1.0.0@00000000")).await, reason::DEPLOYMENT_NOT_FOUND);
    refused(house.resolve("ann", Wanted::Id("echo")).await, reason::INVALID_DEPLOYMENT_ID);
}

#[tokio::test]
async fn lists_show_what_the_caller_may_use_newest_first() {
    let house = House::new().await;
    for (who, agent_type, version) in [
        ("ann", "a", "1.0.0"),
        ("admin", "s", "1.0.0"),
        ("bob", "b", "1.0.0"),
        ("ann", "a", "2.0.0"),
        ("admin", "s", "2.0.0"),
    ] {
        house.upload(who, agent_type, version, &bundle("x")).await.unwrap();
        house.ground.clock.advance(Duration::from_millis(1));
    }
    let all = Filter::default();
    assert_eq!(house.list("admin", all, 9).await, "[s:2.0.0 a:2.0.0 b:1.0.0 s:1.0.0 a:1.0.0]");
    assert_eq!(house.list("ann", all, 9).await, "[s:2.0.0 a:2.0.0 s:1.0.0 a:1.0.0]");
    assert_eq!(house.list("ann", all, 3).await, "[s:2.0.0 a:2.0.0 s:1.0.0][a:1.0.0]");
    assert_eq!(house.list("bob", all, 1).await, "[s:2.0.0][b:1.0.0][s:1.0.0][]");
    let latest = Filter { latest: true, ..all };
    assert_eq!(house.list("ann", latest, 9).await, "[s:2.0.0 a:2.0.0]");
    let of_a = Filter { agent_type: Some("a"), ..all };
    assert_eq!(house.list("ann", of_a, 9).await, "[a:2.0.0 a:1.0.0]");
    assert_eq!(house.list("bob", of_a, 9).await, "[]");
    assert_eq!(house.list("ann", Filter { latest: true, ..of_a }, 9).await, "[a:2.0.0]");
}

/// A host that can be out of reach.
struct Host {
    is_away: Arc<AtomicBool>,
}

impl Hosts for Host {
    fn deploy<'a>(&'a self, _deployment: &'a Deployment) -> Answer<'a, Option<String>> {
        let away = self.is_away.load(Ordering::SeqCst);
        let away = away.then(|| Error::unavailable(reason::COORDINATOR_UNAVAILABLE, "away", "refused"));
        Box::pin(async move { away.map_or(Ok(Some("host-1".to_owned())), Err) })
    }
}

#[tokio::test]
async fn that_no_host_takes_a_deployment_is_no_failure_and_the_next_upload_tries_again() {
    let is_away = Arc::new(AtomicBool::new(true));
    let house = House::with(Config::default(), Some(Arc::new(Host { is_away: Arc::clone(&is_away) }))).await;
    let alone = house.upload("ann", "echo", "1.0.0", &bundle("x")).await.unwrap();
    assert_eq!((alone.deployment.coordinator_id, alone.warnings.len()), (None, 1));
    is_away.store(false, Ordering::SeqCst);
    let placed = house.upload("ann", "echo", "1.0.0", &bundle("x")).await.unwrap();
    assert!(placed.existing && placed.warnings.is_empty());
    assert_eq!(placed.deployment.coordinator_id.as_deref(), Some("host-1"));
    assert_eq!(house.resolve("ann", Wanted::Latest("echo")).await.unwrap(), placed.deployment);
}

/// A host that takes a deployment and never says so.
struct Silent(Arc<Notify>);

impl Hosts for Silent {
    fn deploy<'a>(&'a self, _deployment: &'a Deployment) -> Answer<'a, Option<String>> {
        self.0.notify_one();
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn what_is_stored_is_on_the_trail_before_a_host_is_waited_for() {
    let asked = Arc::new(Notify::new());
    let house = House::with(Config::default(), Some(Arc::new(Silent(Arc::clone(&asked))))).await;
    let file = bundle("x");
    tokio::select! {
        outcome = house.upload("ann", "echo", "1.0.0", &file) => panic!("no host answers: {outcome:?}"),
        () = asked.notified() => {}
    }
    assert!(house.resolve("ann", Wanted::Latest("echo")).await.is_ok(), "it is stored");
    assert_eq!(house.ground.trail().await, ["ann deployment.upload done"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_takes_little_memory() {
    let house = House::new().await;
    let living = Living::default();
    let pieces = chunks(200, &living).map(|chunk| Ok(file_piece(&chunk)));
    let pieces = stream::iter([Ok(said("large", "1.0.0"))].into_iter().chain(pieces)).boxed();
    let uploaded = house.deployments.upload(&house.call("ann"), pieces).await.unwrap();
    assert!(uploaded.deployment.size_bytes > 200 << 20);
    assert!(living.most() <= 8 << 20, "{} bytes were held at once", living.most());
}
