//! Who may call what, tried for every method, through every door, by everybody. What is expected comes from the schema.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use bytes::Bytes;
use futures_util::stream;
use http::Version;
use http_body::Frame;
use http_body_util::StreamBody;
use portico::{
    base::Error,
    edge::Body,
    schema::{Access, Method},
};
use serde_json::json;

use crate::support::{
    doors::{Call, Door},
    example,
    gateway::{ADMIN, TestHouse},
};

/// Everything that a tenant's key may allow.
const PERMISSIONS: [&str; 8] = [
    "agent:connect",
    "config:read",
    "deployments:read",
    "deployments:write",
    "instances:read",
    "instances:write",
    "logs:read",
    "secrets:write",
];

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Anonymous,
    /// With something that is no key.
    Malformed,
    /// With a key of another installation.
    Unknown,
    /// With a key that was revoked.
    Revoked,
    /// A tenant with every permission but the one that the method asks for.
    Lacking,
    Tenant,
    Admin,
}

const ROLES: [Role; 7] =
    [Role::Anonymous, Role::Malformed, Role::Unknown, Role::Revoked, Role::Lacking, Role::Tenant, Role::Admin];

#[tokio::test]
async fn every_method_lets_in_whom_the_schema_allows_and_nobody_else() {
    let house = TestHouse::start().await;
    let keys = Keys::new(&house).await;
    for method in example::podium() {
        for door in Door::of(method) {
            for role in ROLES {
                let call =
                    Call { method, messages: vec![json!({})], key: keys.of(role, method.access), answers_max: 1 };
                let expected = verdict(role, method.access);
                let code = match expected {
                    Some(_) if door != Door::Socket => refused(&house, door, &call).await,
                    _ => door.call(&house, &call).await.code,
                };
                let at = format!("{} by {door:?} as {role:?}", method.path);
                match expected {
                    Some(refusal) => assert_eq!(code, refusal, "{at}"),
                    None => assert!(!matches!(code.as_str(), "unauthenticated" | "permission_denied"), "{at}: {code}"),
                }
            }
        }
    }
    house.close().await;
}

/// The refusal that a role meets.
fn verdict(role: Role, access: Access) -> Option<&'static str> {
    match (access, role) {
        (Access::Public, _) | (_, Role::Admin) => None,
        (_, Role::Anonymous | Role::Malformed | Role::Unknown | Role::Revoked) => Some("unauthenticated"),
        (Access::Authenticated, _) | (Access::Permission(_), Role::Tenant) => None,
        (Access::Permission(_), Role::Lacking) | (Access::Admin, _) => Some("permission_denied"),
    }
}

/// The code of a refusal that comes while the body never does.
async fn refused(house: &TestHouse, door: Door, call: &Call<'_>) -> String {
    let read = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&read);
    let endless = stream::poll_fn(move |_| {
        note.store(true, Ordering::Relaxed);
        Poll::<Option<Result<Frame<Bytes>, Error>>>::Pending
    });
    let mut request = door.request(call).map(|_| Body::boxed(StreamBody::new(endless)));
    // Over HTTP/1.1 what comes after a refusal is read and thrown away, to keep the connection.
    *request.version_mut() = Version::HTTP_2;
    let told = door.exchange(house, call, request).await;
    assert!(!read.load(Ordering::Relaxed), "{} by {door:?}: the body was read", call.method.path);
    told.code
}

struct Keys {
    unknown: String,
    revoked: String,
    tenant: String,
    /// By the permission that it lacks.
    lacking: BTreeMap<&'static str, String>,
}

impl Keys {
    async fn new(house: &TestHouse) -> Keys {
        let elsewhere = TestHouse::start().await;
        let unknown = elsewhere.key("acme", &[]).await;
        elsewhere.close().await;
        let made = house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": "acme"})).await.expect(201);
        let path = format!("/api/v1/keys/{}", made["key_id"].as_str().unwrap());
        house.ask(ADMIN, "DELETE", &path).send().await.expect(204);
        let mut lacking = BTreeMap::new();
        for missing in PERMISSIONS {
            let others: Vec<&str> = PERMISSIONS.into_iter().filter(|permission| *permission != missing).collect();
            lacking.insert(missing, house.key("acme", &others).await);
        }
        let revoked = made["key"].as_str().unwrap().to_owned();
        Keys { unknown, revoked, tenant: house.key("acme", &PERMISSIONS).await, lacking }
    }

    fn of(&self, role: Role, access: Access) -> &str {
        match (role, access) {
            (Role::Anonymous, _) => "",
            (Role::Malformed, _) => "pod_nothing",
            (Role::Unknown, _) => &self.unknown,
            (Role::Revoked, _) => &self.revoked,
            (Role::Lacking, Access::Permission(permission)) => &self.lacking[permission],
            (Role::Lacking | Role::Tenant, _) => &self.tenant,
            (Role::Admin, _) => ADMIN,
        }
    }
}

/// A permission in the proto files is one that keys can have.
#[test]
fn every_permission_can_be_given() {
    let asked = example::podium().filter_map(|method: &Method| match method.access {
        Access::Permission(permission) => Some(permission),
        Access::Public | Access::Authenticated | Access::Admin => None,
    });
    for permission in asked {
        assert!(PERMISSIONS.contains(&permission), "{permission}");
        assert!(portico::domain::keys::TENANT_PERMISSIONS.contains(&permission), "{permission}");
    }
}
