//! Every route of the published page is served.

use crate::support::{
    doors::socket::Socket,
    gateway::{ADMIN, TestHouse},
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
