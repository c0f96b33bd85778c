//! The life of a key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use portico::{
    backend::sealer::Keyring,
    base::{
        Caller, Code, Error, Retry, Secret,
        caller::{Proof, Role},
        clock::StillClock,
        health::Health,
        page::PageRequest,
        reason,
    },
    domain::keys::{
        self, KeyRole, Keys, LOOK_UPS_IN_FLIGHT_MAX, NewKey, Parts, Peppers, Resolved,
        grammar::{self, Kind},
    },
    port::{
        Answer,
        bus::Bus,
        records::{Query, Record, Records, Write},
    },
};

use tokio::{sync::Semaphore, time::timeout};

use super::{Ground, NOW, time_stands, upkeep::eventually};
use crate::support::valkey::{self, Maker};

const BOOTSTRAP: &str = "pod_admin_bootstrap-key-of-32-characters";
/// A second, as promised, and some for a busy machine whose disk is slow to keep what Valkey and the store write.
const REVOKED_WITHIN: Duration = Duration::from_secs(3);
/// While the bus is away, the keys in use are checked every five seconds; the rest is for a busy machine.
const UNHEARD_WITHIN: Duration = Duration::from_secs(15);
const ALL: PageRequest = PageRequest { limit: 100, after: None };

#[tokio::test]
async fn a_key_is_shown_once_and_resolves_to_its_tenant() {
    let (ground, keys, admin) = house().await;
    let (key, secret) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let caller = keys.resolve(secret.reveal()).await.unwrap().caller;
    assert_eq!((caller.tenant.as_str(), caller.role), ("acme", Role::Tenant));
    assert_eq!(caller.proof, Proof::Key(key.key_id.as_str().into()));
    assert!(caller.may("instances:write") && !caller.may("deployments:write"));
    assert!(secret.reveal().starts_with(&key.prefix));
    let stored = ground.records.get("keys", &key.prefix).await.unwrap().expect("is stored by its prefix");
    assert!(!stored.body.contains(&secret.reveal()[key.prefix.len()..]), "the key itself is not stored");
}

#[tokio::test]
async fn of_gateways_that_start_together_one_makes_the_first_key() {
    let (ground, here, admin) = house().await;
    let there = gateway(&ground, Arc::clone(&ground.records)).await;
    let cx = ground.call(&admin, &[]);
    // Both have found no key.
    let made = tokio::join!(here.create_first(&cx, new_key("a")), there.create_first(&cx, new_key("a")));
    let made: Vec<_> = [made.0.unwrap(), made.1.unwrap()].into_iter().flatten().collect();
    let [(key, secret)] = &made[..] else { panic!("{} first keys", made.len()) };
    assert!(there.resolve(secret.reveal()).await.is_ok() && here.resolve(secret.reveal()).await.is_ok());
    let (ids, _) = listed(&here, "a", true, &ALL).await;
    assert_eq!(ids, [key.key_id.as_str()]);
    assert_eq!(ground.trail().await, ["bootstrap keys.create done"]);
}

#[tokio::test]
async fn every_refusal_is_the_same() {
    let (ground, keys, admin) = house().await;
    let cx = ground.call(&admin, &[]);
    let (_, mut brief) = keys.create(&cx, new_key("acme")).await.unwrap();
    let (gone, revoked) = keys.create(&cx, new_key("acme")).await.unwrap();
    keys.revoke(&cx, &gone.key_id).await.unwrap();
    let expiring = NewKey { expires_at: Some(NOW.plus(Duration::from_secs(60))), ..new_key("acme") };
    let (_, expired) = keys.create(&cx, expiring).await.unwrap();
    keys.resolve(expired.reveal()).await.unwrap();
    ground.clock.advance(Duration::from_secs(60));
    let unknown = other_house_key().await;
    brief = Secret::new(&brief.reveal()[..brief.reveal().len() - 1]);
    let admin_like = format!("pod_admin_{}", &unknown.reveal()[4..]);
    for refused in [
        "",
        "pod_",
        BOOTSTRAP.trim_end_matches('s'),
        &admin_like,
        brief.reveal(),
        unknown.reveal(),
        revoked.reveal(),
        expired.reveal(),
    ] {
        let error = refusal(keys.resolve(refused).await);
        assert_eq!((error.code(), error.reason()), (Code::Unauthenticated, reason::UNAUTHORIZED), "{refused}");
        assert_eq!(error.message(), keys::unauthorized().message());
    }
}

#[tokio::test]
async fn revoking_ends_what_the_key_admitted_on_every_gateway() {
    let (ground, here, admin) = house().await;
    let there = gateway(&ground, Arc::clone(&ground.records)).await;
    let (key, secret) = here.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let streams = [here.resolve(secret.reveal()).await.unwrap(), there.resolve(secret.reveal()).await.unwrap()];
    here.revoke(&ground.call(&admin, &[]), &key.prefix).await.unwrap();
    assert!(streams[0].ended.is_cancelled(), "at once where it was revoked");
    assert_eq!(refusal(here.resolve(secret.reveal()).await).reason(), reason::UNAUTHORIZED);
    streams[1].ended.cancelled().await;
    assert_eq!(refusal(there.resolve(secret.reveal()).await).reason(), reason::UNAUTHORIZED);
    // A second time there is nothing to revoke; and a whole key by mistake is not repeated to anybody.
    for name in [&key.key_id, &key.prefix, secret.reveal()] {
        let error = here.revoke(&ground.call(&admin, &[]), name).await.unwrap_err();
        assert_eq!(error.reason(), reason::KEY_NOT_FOUND);
        assert!(!error.message().contains(secret.reveal()));
    }
}

#[tokio::test]
async fn a_revocation_whose_answer_was_lost_ends_streams_everywhere_when_it_is_repeated() {
    let (ground, there, admin) = house().await;
    let faulty = Faulty::over(&ground.records);
    let here = gateway(&ground, Arc::clone(&faulty) as Arc<dyn Records>).await;
    let cx = ground.call(&admin, &[]);
    let in_use = async |secret: &Secret| {
        [here.resolve(secret.reveal()).await.unwrap(), there.resolve(secret.reveal()).await.unwrap()]
    };
    // From the first revocation that both have heard of, neither looks at the store by itself.
    let (heard, heard_secret) = there.create(&cx, new_key("acme")).await.unwrap();
    let streams = in_use(&heard_secret).await;
    there.revoke(&cx, &heard.prefix).await.unwrap();
    for stream in streams {
        stream.ended.cancelled().await;
    }

    let (key, secret) = there.create(&cx, new_key("acme")).await.unwrap();
    let streams = in_use(&secret).await;
    faulty.mute.store(true, std::sync::atomic::Ordering::SeqCst);
    let lost = here.revoke(&cx, &key.prefix).await.unwrap_err();
    assert_eq!(lost.reason(), reason::RECORDS_UNAVAILABLE);
    assert!(!streams.iter().any(|stream| stream.ended.is_cancelled()));
    let again = here.revoke(&cx, &key.prefix).await.unwrap_err();
    assert_eq!(again.reason(), reason::KEY_NOT_FOUND);
    for stream in streams {
        timeout(REVOKED_WITHIN, stream.ended.cancelled()).await.expect("a stream that ends");
    }
}

#[tokio::test]
async fn revoking_is_heard_over_valkey_and_when_that_is_away_the_store_is_asked() {
    let mut server = Maker::Valkey.start(&[]);
    let (ground, _, admin) = house().await;
    let on_valkey = || gateway_on(&ground, Arc::clone(&ground.records), Arc::new(valkey::connect(&server).bus()));
    let (here, there) = (on_valkey().await, on_valkey().await);
    let cx = ground.call(&admin, &[]);
    let (key, secret) = here.create(&cx, new_key("acme")).await.unwrap();
    let (lasting, lasting_secret) = here.create(&cx, new_key("acme")).await.unwrap();
    let stream = there.resolve(secret.reveal()).await.unwrap();
    let lasting_stream = there.resolve(lasting_secret.reveal()).await.unwrap();
    here.revoke(&cx, &key.prefix).await.unwrap();
    timeout(REVOKED_WITHIN, stream.ended.cancelled()).await.expect("the other gateway hears of it");
    assert_eq!(refusal(there.resolve(secret.reveal()).await).reason(), reason::UNAUTHORIZED);

    server.kill();
    there.resolve(lasting_secret.reveal()).await.unwrap();
    here.revoke(&cx, &lasting.prefix).await.unwrap();
    timeout(UNHEARD_WITHIN, lasting_stream.ended.cancelled()).await.expect("the store is asked");
    assert_eq!(refusal(there.resolve(lasting_secret.reveal()).await).reason(), reason::UNAUTHORIZED);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_key_expires() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let expiring = NewKey { expires_at: Some(NOW.plus(Duration::from_secs(60))), ..new_key("acme") };
    let (_, secret) = keys.create(&ground.call(&admin, &[]), expiring).await.unwrap();
    let stream = keys.resolve(secret.reveal()).await.unwrap();
    ground.clock.advance(Duration::from_secs(59));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(stream.ended.cancelled().now_or_never(), None);
    ground.clock.advance(Duration::from_secs(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    stream.ended.cancelled().await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_is_not_the_fault_of_the_key() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let (_, used) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let (_, unused) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let faulty = Faulty::over(&ground.records);
    let keys = gateway(&ground, Arc::clone(&faulty) as Arc<dyn Records>).await;
    keys.resolve(used.reveal()).await.unwrap();
    faulty.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = refusal(keys.resolve(unused.reveal()).await);
    assert_eq!((error.code(), error.reason()), (Code::Unavailable, reason::AUTH_UNAVAILABLE));
    assert!(matches!(error.retry_hint(), Retry::After(_)));
    // What was seen lately is still admitted, for a while.
    tokio::time::advance(Duration::from_secs(30)).await;
    keys.resolve(used.reveal()).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(refusal(keys.resolve(used.reveal()).await).reason(), reason::AUTH_UNAVAILABLE);
    keys.resolve(BOOTSTRAP).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_question_to_the_store_is_not_dropped_with_its_caller() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let (_, secret) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let (slow, keys) = slow(&ground, Semaphore::new(0)).await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (keys, secret) = (keys.clone(), secret.clone());
            ground.tasks.spawn(async move { keys.resolve(secret.reveal()).await.map(|_| ()) })
        })
        .collect();
    while slow.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for call in calls {
        call.abort();
        assert!(call.await.is_err(), "the caller has gone");
    }
    // The question was asked once, is answered, and the next caller has the answer.
    slow.answers.add_permits(1);
    keys.resolve(secret.reveal()).await.unwrap();
    assert_eq!(slow.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn look_ups_beyond_their_room_are_refused_at_once_and_keys_in_use_are_served() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let (_, used) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    let (slow, keys) = slow(&ground, Semaphore::new(1)).await;
    keys.resolve(used.reveal()).await.unwrap();
    for _ in 0..LOOK_UPS_IN_FLIGHT_MAX {
        // Their callers do not wait for an answer.
        assert!(keys.resolve(grammar::generate(Kind::Tenant).reveal()).now_or_never().is_none());
    }
    let unknown = grammar::generate(Kind::Tenant);
    let refused = keys.resolve(unknown.reveal()).now_or_never().expect("an answer at once");
    assert_eq!(refusal(refused).reason(), reason::AUTH_UNAVAILABLE);
    keys.resolve(used.reveal()).await.unwrap();
    // What is not answered in time makes room.
    tokio::time::advance(Duration::from_secs(6)).await;
    keys.resolve(used.reveal()).now_or_never().expect("as it was lately").unwrap();
    slow.answers.add_permits(LOOK_UPS_IN_FLIGHT_MAX);
    let answered = async {
        while keys.resolve(unknown.reveal()).await.is_err_and(|error| error.reason() != reason::UNAUTHORIZED) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("room");
}

#[tokio::test]
async fn an_administrator_is_both_by_prefix_and_by_role() {
    let (ground, keys, admin) = house().await;
    let new = NewKey { role: KeyRole::Admin, ..new_key("operations") };
    let (key, secret) = keys.create(&ground.call(&admin, &[]), new).await.unwrap();
    assert!(secret.reveal().starts_with("pod_admin_"));
    let caller = keys.resolve(secret.reveal()).await.unwrap().caller;
    assert!(caller.is_admin() && caller.tenant.is_shared());
    // The role taken away in the store: the prefix alone grants nothing.
    let mut stored = ground.records.get("keys", &key.prefix).await.unwrap().unwrap();
    stored.body = stored.body.replace("\"admin\"", "\"tenant\"");
    let put = Write::Put { collection: "keys", record: stored, expect: portico::port::records::Expect::Anything };
    ground.records.commit(vec![put]).await.unwrap();
    let elsewhere = gateway(&ground, Arc::clone(&ground.records)).await;
    assert_eq!(elsewhere.resolve(secret.reveal()).await.unwrap().caller.role, Role::Tenant);
}

#[tokio::test]
async fn lists_show_newest_first_and_the_bootstrap_key_last() {
    let (ground, keys, admin) = house().await;
    let mut made = Vec::new();
    for tenant in ["acme", "other", "acme"] {
        ground.clock.advance(Duration::from_secs(1));
        made.push(keys.create(&ground.call(&admin, &[]), new_key(tenant)).await.unwrap().0.key_id);
    }
    let [a, b, c] = [0, 1, 2].map(|at| made[at].as_str());
    assert_eq!(listed(&keys, "", false, &ALL).await.0, [c, b, a, "bootstrap"]);
    keys.revoke(&ground.call(&admin, &[]), c).await.unwrap();
    assert_eq!(listed(&keys, "", false, &ALL).await.0, [b, a, "bootstrap"]);
    assert_eq!(listed(&keys, "acme", true, &ALL).await.0, [c, a]);
    assert_eq!(listed(&keys, "acme", false, &ALL).await.0, [a]);
    // Pages go on where the last one ended.
    let (first, next) = listed(&keys, "", true, &PageRequest { limit: 3, after: None }).await;
    assert_eq!(first, [c, b, a]);
    let (second, next) = listed(&keys, "", true, &PageRequest { limit: 3, after: next }).await;
    assert_eq!((second, next), (vec!["bootstrap".to_owned()], None));
}

#[tokio::test]
async fn a_new_key_keeps_to_the_rules() {
    let (ground, keys, admin) = house().await;
    let refused = [
        ("tenant_id", new_key("")),
        ("tenant_id", new_key("*")),
        ("tenant_id", new_key(&"a".repeat(65))),
        ("name", NewKey { name: "a".repeat(101), ..new_key("acme") }),
        ("permissions[1]", NewKey { permissions: vec!["logs:read".into(), "keys:write".into()], ..new_key("acme") }),
        ("expires_at", NewKey { expires_at: Some(NOW), ..new_key("acme") }),
    ];
    for (field, new) in refused {
        let error = keys.create(&ground.call(&admin, &[]), new).await.err().expect("breaks a rule");
        assert!(error.message().starts_with(&format!("{field}: ")), "{error}");
    }
    assert_eq!(
        keys.revoke(&ground.call(&admin, &[]), "bootstrap").await.unwrap_err().reason(),
        reason::CANNOT_REVOKE_BOOTSTRAP
    );
    assert_eq!(keys.revoke(&ground.call(&admin, &[]), "key_nobody").await.unwrap_err().reason(), reason::KEY_NOT_FOUND);
}

#[tokio::test]
async fn uses_and_changes_leave_traces() {
    let (ground, keys, admin) = house().await;
    let (key, secret) = keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap();
    keys.resolve(secret.reveal()).await.unwrap();
    let used = async || keys.list("acme", false, &ALL).await.unwrap().items[0].last_used_at;
    while used().await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(used().await, Some(NOW));
    keys.revoke(&ground.call(&admin, &[]), &key.key_id).await.unwrap();
    keys.revoke(&ground.call(&admin, &[]), &key.key_id).await.unwrap_err();
    let expected = ["bootstrap keys.create done", "bootstrap keys.revoke done", "bootstrap keys.revoke key_not_found"];
    assert_eq!(ground.trail().await, expected);
}

/// How many keys stand on each pepper, newest first.
async fn standing(keys: &Keys) -> Vec<u64> {
    keys.peppers().await.unwrap().iter().map(|pepper| pepper.keys).collect()
}

/// Uses a key until its gateway has looked it up anew, and the keys stand so.
async fn until_standing(keys: &Keys, used: &[&Secret], expected: &[u64]) {
    let moving = async {
        while standing(keys).await != expected {
            for key in used {
                keys.resolve(key.reveal()).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let moved = timeout(Duration::from_secs(30), moving).await;
    assert!(moved.is_ok(), "{:?}", keys.peppers().await);
}

#[tokio::test]
async fn a_pepper_is_replaced_while_keys_are_in_use_and_gateways_cope_that_have_not_heard_of_it() {
    let (ground, here, admin) = house().await;
    let there = gateway(&ground, Arc::clone(&ground.records)).await;
    let cx = ground.call(&admin, &[]);
    let (_, used) = here.create(&cx, new_key("acme")).await.unwrap();
    let (idle, unused) = here.create(&cx, new_key("acme")).await.unwrap();
    // One is in use on the other gateway, with a stream.
    let stream = there.resolve(used.reveal()).await.unwrap();
    assert_eq!(standing(&here).await, [2]);

    let made = here.rotate_pepper(&cx).await.unwrap();
    assert!(made.is_current && made.pepper_id.starts_with("pepper_"));
    let (_, fresh) = here.create(&cx, new_key("acme")).await.unwrap();
    assert_eq!(standing(&here).await, [1, 2]);
    // The other gateway meets a digest under a pepper that it does not know, and moved digests of keys that it knows.
    there.resolve(fresh.reveal()).await.unwrap();
    until_standing(&here, &[&used], &[2, 1]).await;
    there.resolve(used.reveal()).await.unwrap();
    let wrong = format!(
        "{}{}",
        &used.reveal()[..used.reveal().len() - 1],
        if used.reveal().ends_with('0') { '1' } else { '0' }
    );
    assert_eq!(refusal(there.resolve(&wrong).await).reason(), reason::UNAUTHORIZED);
    // A third one starts after all that, and knows every key by its own pepper.
    let late = gateway(&ground, Arc::clone(&ground.records)).await;
    for key in [&used, &unused, &fresh] {
        late.resolve(key.reveal()).await.unwrap();
    }
    until_standing(&late, &[&unused], &[3, 0]).await;
    there.resolve(unused.reveal()).await.unwrap();
    assert!(!stream.ended.is_cancelled(), "nobody was cut off");

    // What is revoked counts for nothing, and refusals are what they were.
    let admitted = late.resolve(unused.reveal()).await.unwrap();
    here.revoke(&cx, &idle.key_id).await.unwrap();
    assert_eq!(standing(&here).await, [2, 0]);
    admitted.ended.cancelled().await;
    assert_eq!(refusal(late.resolve(unused.reveal()).await).reason(), reason::UNAUTHORIZED);
    assert!(ground.trail().await.contains(&"bootstrap keys.rotate_pepper done".to_owned()));
}

#[tokio::test]
async fn an_unknown_pepper_is_asked_for_and_while_the_store_is_away_that_is_no_refusal() {
    let (ground, here, admin) = house().await;
    let faulty = Faulty::over(&ground.records);
    let there = gateway(&ground, Arc::clone(&faulty) as Arc<dyn Records>).await;
    let cx = ground.call(&admin, &[]);
    here.rotate_pepper(&cx).await.unwrap();
    let (_, fresh) = here.create(&cx, new_key("acme")).await.unwrap();
    faulty.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(refusal(there.resolve(fresh.reveal()).await).reason(), reason::AUTH_UNAVAILABLE);
    faulty.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    there.resolve(fresh.reveal()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pepper_that_no_key_needs_is_thrown_away_when_that_is_certain_and_no_other_one() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let cx = ground.call(&admin, &[]);
    let (idle, _) = keys.create(&cx, new_key("acme")).await.unwrap();
    keys.rotate_pepper(&cx).await.unwrap();
    let middle = keys.rotate_pepper(&cx).await.unwrap();
    let (_, fresh) = keys.create(&cx, new_key("acme")).await.unwrap();
    keys.rotate_pepper(&cx).await.unwrap();
    let looks = async |expected: &[u64]| {
        eventually(&format!("they stand as {expected:?}"), async || standing(&keys).await == expected).await;
    };
    looks(&[0, 1, 0, 1]).await;
    // Not before it is certain that nothing is on its way, whatever the clock on the wall says.
    ground.clock.advance(Duration::from_secs(3_600));
    tokio::time::advance(Duration::from_secs(269)).await;
    looks(&[0, 1, 0, 1]).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    looks(&[0, 1, 1]).await;
    // What nobody uses holds its pepper up until it is revoked.
    keys.revoke(&cx, &idle.key_id).await.unwrap();
    tokio::time::advance(Duration::from_secs(31)).await;
    looks(&[0, 1]).await;
    assert_eq!(keys.peppers().await.unwrap()[1].pepper_id, middle.pepper_id);
    keys.resolve(fresh.reveal()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_runs_ahead_throws_no_pepper_away_that_a_key_needs_when_it_is_set_right() {
    let _time_stands = time_stands();
    let (ground, keys, admin) = house().await;
    let cx = ground.call(&admin, &[]);
    let brief = NewKey { expires_at: Some(NOW.plus(Duration::from_secs(60))), ..new_key("acme") };
    let (_, brief) = keys.create(&cx, brief).await.unwrap();
    keys.rotate_pepper(&cx).await.unwrap();
    keys.rotate_pepper(&cx).await.unwrap();
    ground.clock.advance(Duration::from_secs(24 * 3_600));
    let is_gone = async || {
        tokio::time::advance(Duration::from_secs(301)).await;
        keys.peppers().await.unwrap().len() == 2
    };
    eventually("the one between is gone", is_gone).await;
    // A gateway whose clock is right.
    let right = Ground { clock: StillClock::at(NOW), records: Arc::clone(&ground.records), ..Ground::new() };
    gateway(&right, Arc::clone(&right.records)).await.resolve(brief.reveal()).await.unwrap();
}

async fn house() -> (Ground, Keys, Arc<Caller>) {
    let ground = Ground::new();
    let keys = gateway(&ground, Arc::clone(&ground.records)).await;
    let admin = keys.resolve(BOOTSTRAP).await.unwrap().caller;
    assert!(admin.is_admin());
    (ground, keys, admin)
}

async fn gateway(ground: &Ground, records: Arc<dyn Records>) -> Keys {
    gateway_on(ground, records, Arc::new(ground.bus.clone())).await
}

async fn gateway_on(ground: &Ground, records: Arc<dyn Records>, bus: Arc<dyn Bus>) -> Keys {
    let sealer = Arc::new(Keyring::parse(&Secret::new("07".repeat(32)), &[]).unwrap());
    let peppers = Peppers::open(&records, sealer, Arc::new(ground.clock.clone())).await.unwrap();
    let parts = Parts {
        records,
        bus,
        clock: Arc::new(ground.clock.clone()),
        audit: ground.audit.clone(),
        peppers,
        bootstrap: Some(Secret::new(BOOTSTRAP)),
    };
    Keys::new(parts, &ground.tasks).unwrap()
}

fn new_key(tenant: &str) -> NewKey {
    NewKey {
        tenant_id: tenant.to_owned(),
        name: "a label".to_owned(),
        permissions: Vec::new(),
        expires_at: None,
        role: KeyRole::Tenant,
        rate_limit_rpm: 0,
    }
}

/// A well-formed key that this house does not know.
async fn other_house_key() -> Secret {
    let (ground, keys, admin) = house().await;
    keys.create(&ground.call(&admin, &[]), new_key("acme")).await.unwrap().1
}

fn refusal(outcome: portico::base::Result<Resolved>) -> Error {
    outcome.err().expect("is refused")
}

async fn listed(keys: &Keys, tenant: &str, revoked_too: bool, page: &PageRequest) -> (Vec<String>, Option<String>) {
    let page = keys.list(tenant, revoked_too, page).await.unwrap();
    (page.items.into_iter().map(|key| key.key_id).collect(), page.next)
}

/// Another gateway over a store that reads as many keys as it is let.
async fn slow(ground: &Ground, answers: Semaphore) -> (Arc<Slow>, Keys) {
    let slow = Arc::new(Slow { inner: Arc::clone(&ground.records), asked: 0.into(), answers });
    (Arc::clone(&slow), gateway(ground, slow).await)
}

/// A store that reads a key when it is let.
struct Slow {
    inner: Arc<dyn Records>,
    asked: AtomicUsize,
    answers: Semaphore,
}

impl Records for Slow {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            if collection == "keys" {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.answers.acquire().await.unwrap().forget();
            }
            self.inner.get(collection, id).await
        })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.inner.list(query)
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        self.inner.commit(writes)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.inner.health()
    }
}

/// A store that stops to answer when told to, or does what it is asked and then says nothing.
struct Faulty {
    inner: Arc<dyn Records>,
    broken: std::sync::atomic::AtomicBool,
    mute: std::sync::atomic::AtomicBool,
}

impl Faulty {
    fn over(records: &Arc<dyn Records>) -> Arc<Faulty> {
        Arc::new(Faulty { inner: Arc::clone(records), broken: false.into(), mute: false.into() })
    }

    fn trouble(&self) -> portico::base::Result<()> {
        match self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            true => Err(Error::unavailable(reason::RECORDS_UNAVAILABLE, "out of reach", "pulled the plug")),
            false => Ok(()),
        }
    }
}

impl Records for Faulty {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            self.trouble()?;
            self.inner.get(collection, id).await
        })
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            self.trouble()?;
            self.inner.list(query).await
        })
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        Box::pin(async move {
            self.trouble()?;
            let versions = self.inner.commit(writes).await?;
            match self.mute.load(std::sync::atomic::Ordering::SeqCst) {
                true => Err(Error::unavailable(reason::RECORDS_UNAVAILABLE, "went away", "pulled the plug")),
                false => Ok(versions),
            }
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        self.inner.health()
    }
}
