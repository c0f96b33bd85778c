//! The site as a browser walks it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portico::base::tasks::Tasks;
use tokio::net::TcpStream;

use crate::support::{gateway::TestHouse, source::enclosed};

#[tokio::test]
async fn every_link_of_the_served_documents_leads_somewhere_on_this_server() {
    let house = TestHouse::start().await;
    let mut ids = BTreeMap::<String, BTreeSet<String>>::new();
    let mut wanted = Vec::new();
    let mut to_visit = vec!["/docs".to_owned()];
    while let Some(path) = to_visit.pop() {
        if ids.contains_key(&path) {
            continue;
        }
        let page = house.ask("", "GET", &path).send().await;
        assert!(page.status.is_success(), "{path}: {}", page.status);
        let html = String::from_utf8_lossy(&page.body);
        ids.insert(path.clone(), enclosed(&html, " id=\"", '"').map(str::to_owned).collect());
        for link in enclosed(&html, "<a href=\"", '"').filter(|link| !link.contains(':')) {
            let (target, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { path.clone() } else { target.to_owned() };
            if !fragment.is_empty() {
                wanted.push((target.clone(), fragment.to_owned()));
            }
            to_visit.push(target);
        }
        assert!(!html.contains("<a href=\"http://127.0.0.1"), "{path} links to another server");
    }
    assert!(ids.len() > 20 && !wanted.is_empty(), "{ids:?}");
    for (page, fragment) in wanted {
        assert!(ids[&page].contains(&fragment), "{page} has no heading {fragment}: {:?}", ids[&page]);
    }
    for (path, leads) in [("/docs/", "/docs"), ("/docs/api/", "/docs/api")] {
        let answer = house.ask("", "GET", path).send().await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (308, leads));
    }
    house.close().await;
}

#[tokio::test]
async fn head_says_what_get_would_and_brings_nothing() {
    let house = TestHouse::start().await;
    let (client, tasks) = (async || TokioIo::new(TcpStream::connect(house.address()).await.unwrap()), Tasks::new());
    let (mut one, connection) = http1::handshake(client().await).await.unwrap();
    tasks.spawn(connection);
    let (mut two, connection) = http2::handshake(TokioExecutor::new(), client().await).await.unwrap();
    tasks.spawn(connection);
    let paths = ["/", "/docs", "/docs/api/reference.js", "/openapi.json", "/health/live", "/api/v1/keys", "/nowhere"];
    for path in paths {
        let request = |verb: Method| {
            let url = format!("http://{}{path}", house.address());
            Request::builder().method(verb).uri(url).header("host", "x").body(Empty::<Bytes>::new()).unwrap()
        };
        let whole = two.send_request(request(Method::GET)).await.unwrap();
        let head = two.send_request(request(Method::HEAD)).await.unwrap();
        let old_head = one.send_request(request(Method::HEAD)).await.unwrap();
        let told = |answer: &Response<_>| (answer.status(), answer.headers().get(CONTENT_LENGTH).cloned());
        assert!(told(&whole).1.is_some(), "{path}");
        for head in [head, old_head] {
            assert_eq!(told(&head), told(&whole), "{path} {:?}", head.version());
            let body = head.into_body().collect().await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
            assert_eq!(body.to_bytes(), "", "{path}");
        }
    }
    let metrics = Request::head(format!("http://{}/metrics", house.address())).body(Empty::new()).unwrap();
    let metrics = two.send_request(metrics).await.unwrap();
    assert_eq!(metrics.into_body().collect().await.unwrap().to_bytes(), "");
    house.close().await;
}

#[tokio::test]
async fn a_page_is_made_for_its_first_reader_alone() {
    let house = TestHouse::start().await;
    for path in ["/docs", "/docs/glossary.md", "/docs/api/reference.js", "/docs/api/reference.css", "/openapi.json"] {
        let (first, second) = (house.ask("", "GET", path).send().await, house.ask("", "GET", path).send().await);
        assert_eq!((first.status, first.header("content-encoding")), (StatusCode::OK, ""), "{path}");
        assert_eq!((first.header("etag"), &first.body), (second.header("etag"), &second.body), "{path}");
        assert_eq!(first.body.as_ptr(), second.body.as_ptr(), "{path} was made twice");
        let asked = format!("\"other\", W/{}", first.header("etag"));
        let known = house.ask("", "GET", path).header("if-none-match", &asked).send().await;
        assert_eq!((known.header("etag"), known.header("cache-control")), (first.header("etag"), "no-cache"));
        assert_eq!((known.status, known.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
    }
    house.close().await;
}

#[tokio::test]
async fn a_browser_gets_a_coding_that_it_takes() {
    let house = TestHouse::start().await;
    for (accepted, coding) in [("gzip, br", "gzip"), ("*", "gzip"), ("gzip;q=0", ""), ("identity, gzip;q=0.5", "")] {
        let script = house.ask("", "GET", "/docs/api/reference.js").header("accept-encoding", accepted).send().await;
        assert_eq!((script.status, script.header("content-encoding")), (StatusCode::OK, coding), "{accepted}");
        assert_eq!(script.body.starts_with(&[0x1f, 0x8b]), coding == "gzip", "{accepted}");
        assert_eq!(script.header("vary"), "accept-encoding");
    }
    house.close().await;
}
