//! Secrets of agent types: sealed, bounded, given out in two places alone.

use std::sync::Arc;

use portico::{
    backend::sealer::Keyring,
    base::{
        Caller, IdentityId, Secret, TenantId,
        caller::{Proof, Role},
        reason,
    },
    domain::{
        keys::Peppers,
        secrets::{Change, Mode, Resealed, Secrets, Values},
    },
    port::sealer::Sealer,
};

use super::{Ground, NOW};

#[tokio::test]
async fn values_come_out_to_administrators_and_instances_alone() {
    let ground = Ground::new();
    let secrets = secrets(&ground, ring(1, &[]));
    let cx = ground.call(&tenant("acme"), &[]);
    let listing = secrets.set(&cx, "coder", "", change(&[("B", Some("two")), ("A", Some("one"))])).await.unwrap();
    assert_eq!((listing.names, listing.version, listing.updated_at), (vec!["A".to_owned(), "B".to_owned()], 1, NOW));
    assert_eq!(revealed(&secrets.opened(&TenantId::new("acme"), "coder").await.unwrap()), "A=one B=two");
    assert_eq!(revealed(&secrets.opened(&TenantId::new("other"), "coder").await.unwrap()), "");

    let admin = ground.call(&admin(), &[]);
    let (_, values) = secrets.get(&admin, "coder", "acme", true).await.unwrap();
    assert_eq!(revealed(&values.unwrap()), "A=one B=two");
    assert!(secrets.get(&admin, "coder", "acme", false).await.unwrap().1.is_none());
    let error = secrets.get(&admin, "coder", "other", true).await.unwrap_err();
    assert_eq!(error.reason(), reason::SECRETS_NOT_FOUND);
    let error = secrets.set(&cx, "coder", "other", change(&[])).await.unwrap_err();
    assert_eq!(error.reason(), reason::ADMIN_REQUIRED);

    let stored = ground.records.get("secrets", "acme/coder").await.unwrap().unwrap();
    assert!(!stored.body.contains("one") && !stored.body.contains("two"), "what is stored is sealed");
}

#[tokio::test]
async fn shared_secrets_lie_under_those_of_the_tenant() {
    let ground = Ground::new();
    let secrets = secrets(&ground, ring(1, &[]));
    let values = change(&[("A", Some("shared")), ("B", Some("shared"))]);
    secrets.set(&ground.call(&admin(), &[]), "coder", "", values).await.unwrap();
    secrets.set(&ground.call(&tenant("acme"), &[]), "coder", "", change(&[("A", Some("own"))])).await.unwrap();
    let acme = TenantId::new("acme");
    assert_eq!(revealed(&secrets.opened(&acme, "coder").await.unwrap()), "A=own");
    assert_eq!(revealed(&secrets.opened_over_shared(&acme, "coder").await.unwrap()), "A=own B=shared");
}

#[tokio::test]
async fn a_change_replaces_or_merges_and_counts_versions() {
    let ground = Ground::new();
    let secrets = secrets(&ground, ring(1, &[]));
    let acme = tenant("acme");
    let cx = ground.call(&acme, &[]);
    secrets.set(&cx, "coder", "", change(&[("A", Some("1")), ("B", Some("1"))])).await.unwrap();
    let merge = Change { mode: Mode::Merge, ..change(&[("A", None), ("C", Some("2"))]) };
    assert_eq!(secrets.set(&cx, "coder", "", merge).await.unwrap().names, ["B", "C"]);
    let stale = ground.call(&acme, &[("if-match", "\"1\"")]);
    let error = secrets.set(&stale, "coder", "", change(&[])).await.unwrap_err();
    assert_eq!(error.reason(), reason::VERSION_MISMATCH);
    let current = ground.call(&acme, &[("if-match", "\"2\"")]);
    let listing = secrets.set(&current, "coder", "", change(&[("D", Some("3"))])).await.unwrap();
    assert_eq!((listing.names, listing.version), (vec!["D".to_owned()], 3));
    let absent = ground.call(&acme, &[("if-match", "*")]);
    assert_eq!(secrets.set(&absent, "new", "", change(&[])).await.unwrap_err().reason(), reason::VERSION_MISMATCH);
}

#[tokio::test]
async fn bounds_hold_for_what_would_be_stored() {
    let ground = Ground::new();
    let secrets = secrets(&ground, ring(1, &[]));
    let cx = ground.call(&tenant("acme"), &[]);
    let large = "x".repeat(32 << 10);
    let set = async |agent: &str, change| secrets.set(&cx, agent, "", change).await.map_err(|error| error.reason());
    assert!(set("coder", change(&[("A", Some(&large))])).await.is_ok());
    assert_eq!(set("coder", change(&[("A", Some(&format!("{large}x")))])).await, Err(reason::VALIDATION_FAILED));
    for name in ["", "1A", "A B", "Ä", &"A".repeat(129)] {
        assert_eq!(set("coder", change(&[(name, Some("x"))])).await, Err(reason::VALIDATION_FAILED), "{name}");
    }
    for agent in ["", "-a", "a/b", "a:b", &"a".repeat(64)] {
        assert_eq!(set(agent, change(&[("A", Some("x"))])).await, Err(reason::INVALID_AGENT_TYPE), "{agent}");
    }
    let names: Vec<_> = (0..9).map(|at| format!("N{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        let merge = Change { mode: Mode::Merge, ..change(&[(name, Some(&large))]) };
        let expected = if at < 7 { Ok(()) } else { Err(reason::VALIDATION_FAILED) };
        assert_eq!(set("merged", merge).await.map(|_| ()), expected, "256 KiB together, names included: {name}");
    }
}

#[tokio::test]
async fn a_new_key_opens_old_secrets_and_seals_what_is_written() {
    let ground = Ground::new();
    let cx = ground.call(&tenant("acme"), &[]);
    secrets(&ground, ring(1, &[])).set(&cx, "coder", "", change(&[("A", Some("1"))])).await.unwrap();
    let rotated = secrets(&ground, ring(2, &[1]));
    let merge = Change { mode: Mode::Merge, ..change(&[("B", Some("2"))]) };
    rotated.set(&cx, "coder", "", merge).await.unwrap();
    let new = secrets(&ground, ring(2, &[]));
    assert_eq!(revealed(&new.opened(&TenantId::new("acme"), "coder").await.unwrap()), "A=1 B=2");
    let error = secrets(&ground, ring(1, &[])).opened(&TenantId::new("acme"), "coder").await.unwrap_err();
    assert_eq!(error.reason(), reason::SECRETS_UNDECRYPTABLE);
}

#[tokio::test]
async fn a_walk_moves_everything_to_the_new_key_and_says_what_it_could_not_move() {
    const AGENTS: u64 = 150; // More than two pages.
    let ground = Ground::new();
    let cx = ground.call(&tenant("acme"), &[]);
    let old = secrets(&ground, ring(1, &[]));
    for at in 0..AGENTS {
        old.set(&cx, &format!("agent-{at}"), "", change(&[("A", Some("1"))])).await.unwrap();
    }
    secrets(&ground, ring(3, &[])).set(&cx, "foreign", "", change(&[("A", Some("1"))])).await.unwrap();
    let rotating = secrets(&ground, ring(2, &[1]));
    rotating.set(&cx, "agent-0", "", change(&[("A", Some("1"))])).await.unwrap();

    assert_eq!(rotating.reseal().await.unwrap(), Resealed { moved: AGENTS - 1, current: 1, left: 1 });
    assert_eq!(rotating.reseal().await.unwrap(), Resealed { moved: 0, current: AGENTS, left: 1 });

    let new = secrets(&ground, ring(2, &[]));
    for at in 0..AGENTS {
        assert_eq!(revealed(&new.opened(&TenantId::new("acme"), &format!("agent-{at}")).await.unwrap()), "A=1");
    }
}

#[tokio::test]
async fn the_house_does_not_open_with_another_key() {
    let ground = Ground::new();
    let open = async |current, earlier: &[u8]| {
        let sealer = Arc::new(ring(current, earlier));
        Peppers::open(&ground.records, sealer, Arc::new(ground.clock.clone())).await.map(|_| ())
    };
    open(1, &[]).await.unwrap();
    open(1, &[]).await.unwrap();
    let error = open(2, &[]).await.unwrap_err();
    assert_eq!(error.reason(), reason::SECRETS_UNDECRYPTABLE);
    assert!(error.message().contains(ring(1, &[]).kid()), "{error}");
    open(2, &[1]).await.unwrap();
    open(2, &[]).await.expect("it was sealed anew");
}

#[tokio::test]
async fn every_touch_is_noted() {
    let ground = Ground::new();
    let secrets = secrets(&ground, ring(1, &[]));
    let admin = ground.call(&admin(), &[]);
    secrets.set(&admin, "coder", "acme", change(&[("A", Some("1"))])).await.unwrap();
    secrets.get(&admin, "coder", "acme", true).await.unwrap();
    secrets.get(&admin, "coder", "acme", false).await.unwrap();
    secrets.set(&admin, "1 2", "acme", change(&[])).await.unwrap_err();
    let trail = [
        "root secrets.list done",
        "root secrets.reveal done",
        "root secrets.set done",
        "root secrets.set invalid_agent_type",
    ];
    assert_eq!(ground.trail().await, trail);
}

fn secrets(ground: &Ground, ring: Keyring) -> Secrets {
    Secrets::new(Arc::clone(&ground.records), Arc::new(ring), ground.audit.clone())
}

fn ring(current: u8, earlier: &[u8]) -> Keyring {
    let key = |byte: u8| Secret::new(format!("{byte:02x}").repeat(32));
    Keyring::parse(&key(current), &earlier.iter().map(|byte| key(*byte)).collect::<Vec<_>>()).unwrap()
}

fn change(values: &[(&str, Option<&str>)]) -> Change {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.map(Secret::new)));
    Change { values: values.collect(), mode: Mode::Replace }
}

fn revealed(values: &Values) -> String {
    let pairs: Vec<_> = values.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect();
    pairs.join(" ")
}

fn tenant(name: &str) -> Caller {
    Caller {
        identity: IdentityId::new(name),
        tenant: TenantId::new(name),
        role: Role::Tenant,
        permissions: Arc::from([]),
        proof: Proof::Key("key_tenant".into()),
    }
}

fn admin() -> Caller {
    Caller { tenant: TenantId::shared(), role: Role::Admin, ..tenant("root") }
}
