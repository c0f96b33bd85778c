//! What administrators change while the platform runs.

use std::sync::Arc;

use futures_util::StreamExt;
use portico::{
    base::{
        Caller, IdentityId, TenantId,
        caller::{Proof, Role},
        reason,
    },
    domain::settings::{Current, Fixed, Mode, Parts, Settings, UPDATE_TOPIC},
    port::{
        bus::{Bus, Event, From},
        records::{Expect, Record, Write},
    },
};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{Ground, NOW, PATIENCE};

#[tokio::test]
async fn a_change_holds_at_once_and_everywhere() {
    let ground = Ground::new();
    let (here, there) = (settings(&ground).await, settings(&ground).await);
    let mut watched = there.watch();
    assert_eq!(here.current().limits().max_instances_per_tenant, None);
    let mut told = ground.bus.subscribe(UPDATE_TOPIC, From::Now).await.unwrap();
    update(&here, &ground, json!({"limits": {"max_instances_per_tenant": 5}, "features": {"fast": true}}))
        .await
        .unwrap();
    let current = here.current();
    assert_eq!((current.version, current.updated_at), (1, Some(NOW)));
    assert_eq!(current.limits().max_instances_per_tenant, Some(5));
    assert_eq!(Value::Object(current.features.clone()), json!({"fast": true}));
    watched.wait_for(|current| current.version == 1).await.unwrap();
    assert_eq!(there.current(), here.current());
    let Some(Ok(Event::Message(message))) = told.next().await else { panic!("nobody was told") };
    let event: Value = serde_json::from_str(&message.body).unwrap();
    assert_eq!(event["changed"], json!(["limits.max_instances_per_tenant", "features.fast"]));
    assert_eq!(event["event"], UPDATE_TOPIC);
}

#[tokio::test]
async fn what_the_store_has_forgotten_is_in_force_no_more() {
    let ground = Ground::new();
    let settings = settings(&ground).await;
    let mut watched = settings.watch();
    for limit in [5, 6] {
        update(&settings, &ground, json!({"limits": {"max_instances_per_tenant": limit}})).await.unwrap();
    }
    let record = ground.records.get("settings", "platform").await.unwrap().unwrap();
    // An operator puts an older copy of the store in its place, or an empty one.
    let forgets = async |writes: Vec<Write>| {
        ground.records.commit(writes).await.unwrap();
        ground.bus.publish(UPDATE_TOPIC, "{}".to_owned()).await.unwrap();
    };
    let gone = Write::Delete { collection: "settings", id: "platform".to_owned(), expect: Expect::Anything };
    let body = record.body.replace('6', "4");
    let older = Write::Put { collection: "settings", record: Record { body, ..record }, expect: Expect::Absent };
    forgets(vec![gone.clone(), older]).await;
    let limited = |limit| move |current: &Arc<Current>| current.limits().max_instances_per_tenant == limit;
    timeout(PATIENCE, watched.wait_for(limited(Some(4)))).await.expect("it is heard of").unwrap();
    assert_eq!(settings.current().version, 1);
    forgets(vec![gone]).await;
    timeout(PATIENCE, watched.wait_for(limited(None))).await.expect("it is heard of").unwrap();
    assert_eq!(settings.current().version, 0);
}

#[tokio::test]
async fn agent_types_override_defaults() {
    let ground = Ground::new();
    let settings = settings(&ground).await;
    let patch = json!({
        "defaults": {"model": "small", "max_tokens": 1000, "extra": {"a": 1, "b": 2}},
        "agent_types": {"coder": {"model": "large", "extra": {"b": 3}}},
    });
    update(&settings, &ground, patch).await.unwrap();
    let coder = Value::Object(settings.current().effective_defaults("coder"));
    assert_eq!(coder, json!({"model": "large", "max_tokens": 1000, "extra": {"a": 1, "b": 3}}));
    assert_eq!(settings.current().effective_defaults("other")["model"], "small");
    update(&settings, &ground, json!({"agent_types": {"coder": {"model": null}}})).await.unwrap();
    assert_eq!(settings.current().effective_defaults("coder")["model"], "small");
    update(&settings, &ground, json!({"defaults": {"model": null}, "ensemble": {"model": "last"}})).await.unwrap();
    assert_eq!(settings.current().effective_defaults("coder")["model"], "last");
    // Replacing puts everything else back to its default.
    let cx = ground.call(&admin(), &[("if-match", "\"9\", W/\"3\"")]);
    settings.update(&cx, object(json!({"defaults": {"model": "new"}})), Mode::Replace).await.unwrap();
    assert_eq!(Value::Object(settings.current().effective_defaults("coder")), json!({"model": "new"}));
    let error = settings.update(&cx, object(json!({})), Mode::Merge).await.unwrap_err();
    assert_eq!(error.reason(), reason::VERSION_MISMATCH);
}

#[tokio::test]
async fn there_is_always_something_that_if_match_can_mean() {
    let ground = Ground::new();
    let settings = settings(&ground).await;
    for fits in ["*", "\"1\""] {
        let cx = ground.call(&admin(), &[("if-match", fits)]);
        settings.update(&cx, object(json!({"features": {"fast": true}})), Mode::Merge).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_shown_can_be_sent_back() {
    let ground = Ground::new();
    let settings = settings(&ground).await;
    let unset = json!({"version": 0, "updated_at": null, "updated_by": null, "defaults": {"model": "small"}});
    update(&settings, &ground, unset).await.unwrap();
    let shown = json!({
        "version": 1, "updated_at": NOW.to_string().replace(".000Z", "Z"), "updated_by": "key_admin", "environment": "test",
        "defaults": {"model": "small"}, "agent_types": {}, "ensemble": {"url": "http://ensemble:8080"},
        "limits": {}, "features": {},
    });
    update(&settings, &ground, shown).await.unwrap();
    for (field, patch) in [
        ("version", json!({"version": 7})),
        ("models", json!({"models": [{"id": "small"}]})),
        ("environment", json!({"environment": "production"})),
        ("ensemble.url", json!({"ensemble": {"url": "http://elsewhere"}})),
    ] {
        let error = update(&settings, &ground, patch).await.unwrap_err();
        assert_eq!(error.reason(), reason::READ_ONLY_FIELD);
        assert_eq!(error.message(), format!("{field} is read-only"));
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_name() {
    let ground = Ground::new();
    let settings = settings(&ground).await;
    for (field, patch) in [
        ("defualts", json!({"defualts": {}})),
        ("defaults", json!({"defaults": 1})),
        ("defaults.temperature", json!({"defaults": {"temperature": 2.1}})),
        ("defaults.max_tokens", json!({"defaults": {"max_tokens": 0}})),
        ("agent_types.coder.max_tokens", json!({"agent_types": {"coder": {"max_tokens": 1.5}}})),
        ("limits.max_bundle_bytes", json!({"limits": {"max_bundle_bytes": 1_001}})),
        ("limits.ws_max_message_bytes", json!({"limits": {"ws_max_message_bytes": (16 << 20) + 1}})),
        ("limits.max_things", json!({"limits": {"max_things": 1}})),
        ("features.fast", json!({"features": {"fast": "yes"}})),
        ("ensemble.api_key", json!({"ensemble": {"api_key": "x"}})),
        ("defaults.ensembleApiKey", json!({"defaults": {"ensembleApiKey": "x"}})),
        ("defaults.tools.0.access-token", json!({"defaults": {"tools": [{"access-token": "x"}]}})),
        ("defaults.note", json!({"defaults": {"note": "ens_0123456789abcdef"}})),
        ("defaults.api_key.value", json!({"defaults": {"api_key": {"value": "x"}}})),
        ("defaults.password.0", json!({"defaults": {"password": ["x"]}})),
    ] {
        let error = update(&settings, &ground, patch).await.unwrap_err();
        assert_eq!(error.reason(), reason::VALIDATION_FAILED, "{field}");
        assert!(error.message().starts_with(&format!("{field}: ")), "{error}");
    }
    assert_eq!(settings.current().version, 0, "nothing was changed");
    // Numbers that count tokens are no secrets.
    update(&settings, &ground, json!({"defaults": {"max_tokens": 64_000, "token_budget": 5}})).await.unwrap();
    // Lengths are counted in characters.
    update(&settings, &ground, json!({"defaults": {"model": "模".repeat(256)}})).await.unwrap();
}

async fn settings(ground: &Ground) -> Settings {
    let parts = Parts {
        records: Arc::clone(&ground.records),
        bus: Arc::new(ground.bus.clone()),
        clock: Arc::new(ground.clock.clone()),
        audit: ground.audit.clone(),
        fixed: Fixed {
            environment: "test".to_owned(),
            ensemble_url: Some("http://ensemble:8080".to_owned()),
            bundle_bytes_max: 1_000,
        },
    };
    Settings::load(parts, &ground.tasks).await.unwrap()
}

async fn update(settings: &Settings, ground: &Ground, patch: Value) -> portico::base::Result<()> {
    settings.update(&ground.call(&admin(), &[]), object(patch), Mode::Merge).await.map(|_| ())
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn admin() -> Caller {
    Caller {
        identity: IdentityId::new("root"),
        tenant: TenantId::shared(),
        role: Role::Admin,
        permissions: Arc::from([]),
        proof: Proof::Key("key_admin".into()),
    }
}
