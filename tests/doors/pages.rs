//! The site as a browser walks it.

use std::collections::{BTreeMap, BTreeSet};

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
