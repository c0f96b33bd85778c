//! `WS /agent/{id}`: what is told before the connection becomes a socket. What passes then is in `doors::live`.

use crate::support::{doors::socket::Socket, gateway::ADMIN, stage::Stage};

#[tokio::test]
async fn a_socket_that_cannot_be_is_refused_by_a_status() {
    let stage = Stage::set().await;
    let other = stage.house.key("other", &[]).await;
    let silent = stage.house.key("acme", &["instances:read"]).await;
    for (path, key, status, code) in [
        ("/agent/echo-1", "", 401, "unauthorized"),
        ("/agent/echo-1", silent.as_str(), 403, "permission_denied"),
        ("/agent/echo-1", other.as_str(), 404, "instance_not_found"),
        ("/agent/nobody", ADMIN, 404, "instance_not_found"),
    ] {
        let (answered, body) = Socket::open(&stage.house, path, key).await.err().unwrap();
        assert_eq!(answered, status, "{path} {body}");
        assert!(body.contains(code), "{path} {body}");
    }
    let plain = stage.house.ask(&stage.tenant, "GET", "/agent/echo-1").send().await;
    assert_eq!(plain.refusal(), (426, "upgrade_required".to_owned()));
    Socket::open(&stage.house, "/agent/echo-1", &stage.tenant).await.unwrap().close().await;
    stage.house.close().await;
}
