//! What a host is told of a caller is what the gateway has settled, whatever the caller says.

use serde_json::json;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest},
};

use super::PATH;
use crate::support::hosts::{Cluster, ToldHost};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
/// What a caller says that a host must not hear.
const SAID: [(&str, &str); 6] = [
    ("x-podium-tenant", "globex"),
    ("x-podium-internal-token", "stolen"),
    ("cookie", "session=stolen"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-portico-caller", "admin"),
    ("proxy-authorization", "Basic stolen"),
];

#[tokio::test]
async fn identity_and_trace_headers_are_set_by_the_gateway_and_those_of_callers_are_stripped() {
    let script = |head: &str| match head {
        head if head.starts_with("POST /instances") => Some((201, r#"{"status": "Ready"}"#.to_owned())),
        head if head.starts_with("GET /agent/mine/info") => Some((200, r#"{"status": "Ready"}"#.to_owned())),
        head if head.starts_with("GET /agent/mine ") => Some((410, "{}".to_owned())),
        _ => Some((200, "{}".to_owned())),
    };
    let told = ToldHost::start(Box::new(script)).await;
    let cluster = Cluster::start(0, &[told.address]).await;
    let traceparent = format!("00-{TRACE}-{SPAN}-01");

    let mut create = cluster.house.ask(&cluster.tenant, "POST", PATH).header("traceparent", &traceparent);
    create = create.header("x-request-id", "request-of-a-caller");
    for (name, value) in SAID {
        create = create.header(name, value);
    }
    let body = json!({"deployment_id": cluster.deployment_id, "agent_id": "mine"});
    create.json(&body).await.expect(201);

    let address = cluster.house.address();
    let mut open = format!("ws://{address}/agent/mine").into_client_request().unwrap();
    let own = [
        ("authorization", format!("Bearer {}", cluster.tenant)),
        ("traceparent", traceparent.clone()),
        ("x-request-id", "request-of-a-caller".to_owned()),
    ];
    let said = SAID.map(|(name, value)| (name, value.to_owned()));
    for (name, value) in own.into_iter().chain(said) {
        open.headers_mut().insert(name, value.parse().unwrap());
    }
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let opened = client_async(open, stream).await;
    assert!(matches!(opened.err(), Some(Error::Http(_))), "this host has no streams");

    for asked in ["POST /instances", "GET /agent/mine "] {
        let head = told.asked(asked).pop().unwrap_or_else(|| panic!("{asked} was asked")).to_lowercase();
        let field = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(field, _)| *field == name).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(field("x-podium-tenant"), ["acme"], "{head}");
        assert_eq!(field("x-podium-internal-token"), ["both-know-it"], "{head}");
        assert_eq!(field("x-request-id"), ["request-of-a-caller"], "{head}");
        let [trace] = &field("traceparent")[..] else { panic!("one trace: {head}") };
        assert!(trace.starts_with(&format!("00-{TRACE}-")) && !trace.contains(SPAN), "a place of its own: {trace}");
        for name in ["authorization", "cookie", "x-forwarded-for", "x-portico-caller", "proxy-authorization"] {
            assert!(field(name).is_empty(), "{name}: {head}");
        }
    }
    cluster.close().await;
}
