//! Servers behind TLS, under sentinels and in clusters do what one server does, and go on when one of them dies.

use std::time::Duration;

use futures_util::StreamExt;
use portico::{
    base::health::State,
    port::{
        bus::{Bus, Event, From},
        registry::Registry,
    },
};
use tokio::time::{sleep, timeout};

use super::{ASK_AGAIN, Parts};
use crate::{
    backends::{bus, registry},
    support::valkey::{
        Maker, ask,
        group::{Members, Watched, caught_up, sentinel},
        open, pass, reached,
        tls::Certificates,
        try_ask,
    },
};

/// A second of silence, a vote, a promotion, on a busy machine.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(40);

/// A user with the rights that the deploy guide names, and no others.
fn user(password: &str) -> Vec<String> {
    let rights = ["~podium:*", "&podium:*", "+@all", "-@admin", "-@dangerous", "+info", "+role", "+cluster"];
    let named = ["--user", "portico", "on"].into_iter().map(str::to_owned);
    named.chain([format!(">{password}")]).chain(rights.map(str::to_owned)).collect()
}

/// Waits until this is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let asked = async {
        while !is_so().await {
            sleep(ASK_AGAIN).await;
        }
    };
    timeout(FAILOVER_PATIENCE, asked).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Waits until the group goes on by the one that has taken over. What was acknowledged before is still there.
async fn goes_on(parts: &mut Parts) {
    until("another one takes over", async || parts.announce("after").await.is_ok()).await;
    let known = async || parts.registry.live("coordinators").await.ok().map(|live| live.len());
    until("what was said before is known", async || known().await == Some(2)).await;
    until("something is told", async || parts.bus_tells("after").await.is_ok()).await;
    let heard = async {
        // The outage may be told of before.
        while parts.next().await != "after" {}
    };
    timeout(FAILOVER_PATIENCE, heard).await.expect("what is told is heard");
    until("it says so", async || parts.registry.health().await.unwrap().state == State::Ok).await;
}

#[tokio::test]
async fn a_server_behind_tls_of_its_own_authority_serves_a_user_of_its_own() {
    for maker in Maker::ALL {
        let files = Certificates::issue();
        let user = user("p@ss/word");
        let server = maker.start_secure(&files, &user);
        let host = format!("localhost:{}", server.address().port());
        let url = |scheme: &str, query: &str| format!("{scheme}://portico:p%40ss%2Fword@{host}/0{query}");
        for scheme in ["valkeys", "rediss"] {
            let valkey = reached(&url(scheme, &format!("?{}", files.query()))).await;
            assert_eq!(valkey.registry().health().await.unwrap().state, State::Ok, "{maker:?} {scheme}");
            Parts::of(&valkey).await;
        }
        // Nobody else's authority is believed, and nobody without a certificate gets in.
        let authority_alone = format!("?ca={}", files.path("issuer.pem"));
        for (scheme, query) in [("valkeys", ""), ("valkeys", &authority_alone), ("valkey", "")] {
            let health = open(&url(scheme, query)).registry().health().await.unwrap();
            assert_eq!(health.state, State::Down, "{maker:?} {scheme}{query}");
            assert!(!health.note.unwrap().contains("p%40ss"));
        }
    }
}

#[tokio::test]
async fn whoever_is_dialled_anew_is_shown_what_the_files_of_the_url_hold_then() {
    let files = Certificates::issue();
    let mut server = Maker::Valkey.start_secure(&files, &[]);
    let url = format!("valkeys://localhost:{}?{}", server.address().port(), files.query());
    let valkey = reached(&url).await;
    let mut parts = Parts::of(&valkey).await;
    // The server starts again with certificates of an authority that nobody knew before.
    server.kill();
    files.renew();
    server.restart();
    let health = async || parts.registry.health().await.unwrap().state == State::Ok;
    until("the new certificates are in use", health).await;
    until("something is told", async || parts.bus_tells("after").await.is_ok()).await;
    let heard = async {
        // The outage may be told of before.
        while parts.next().await != "after" {}
    };
    timeout(FAILOVER_PATIENCE, heard).await.expect("what is told is heard");
    // What cannot be used leaves in use what was there before. Another topic is read over another connection.
    std::fs::write(files.path("issuer.pem"), "no certificate").unwrap();
    let mut other = parts.bus.subscribe("others", From::Now).await.unwrap();
    parts.bus.publish("others", "said".to_owned()).await.unwrap();
    let heard = timeout(FAILOVER_PATIENCE, other.next()).await.expect("what is told is heard");
    assert!(matches!(heard, Some(Ok(Event::Message(message))) if *message.body == *"said"));
}

#[tokio::test]
async fn sentinels_name_the_primary_and_when_it_dies_the_one_that_was_promoted() {
    for maker in Maker::ALL {
        let mut group = Watched::start(maker).await;
        let valkey = reached(&group.url()).await;
        registry::behaves(&valkey.registry(), async |time| pass(&[&group.primary], time).await).await;
        bus::behaves(&valkey.bus()).await;
        let mut parts = Parts::of(&valkey).await;
        caught_up(&group.primary, &group.replica).await;
        group.primary.kill();
        goes_on(&mut parts).await;
        assert!(ask::<String>(&group.replica, "INFO replication").await.contains("role:master"));
    }
}

/// `docs/surfaces/podium.md`, "Valkey read-only replica and failover".
#[tokio::test]
async fn valkey_read_only_replica_and_failover_the_demoted_primary_is_left_for_the_promoted_one() {
    let group = Watched::start(Maker::Valkey).await;
    let valkey = reached(&group.url()).await;
    let mut parts = Parts::of(&valkey).await;
    caught_up(&group.primary, &group.replica).await;
    // It has to have heard from the replica first.
    until("the sentinel agrees", async || try_ask::<()>(&group.sentinel, "SENTINEL FAILOVER main").await.is_ok()).await;
    let is_demoted = async || {
        // It breaks connections off when it is.
        let info = try_ask::<String>(&group.primary, "INFO replication").await;
        info.is_ok_and(|info| info.contains("role:slave"))
    };
    until("the primary is demoted", is_demoted).await;
    goes_on(&mut parts).await;
}

#[tokio::test]
async fn sentinels_behind_tls_are_asked_with_the_same_certificates() {
    let files = Certificates::issue();
    let user = user("secret");
    let server = Maker::Redis.start_secure(&files, &user);
    let told = format!(
        "tls-port PORT\nrequirepass of-sentinels\ntls-replication yes\ntls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}",
        files.path("issuer.pem"),
        files.path("server.pem"),
        files.path("server.key"),
    );
    let sentinel = sentinel(Maker::Redis, &server.address().port().to_string(), &told);
    let url = format!("valkeys+sentinel://portico:secret@{}/main?{}", sentinel.address(), files.query());
    let url = format!("{url}&sentinel_password=of-sentinels");
    let valkey = reached(&url).await;
    Parts::of(&valkey).await;
    assert_eq!(valkey.registry().health().await.unwrap().state, State::Ok);
}

#[tokio::test]
async fn a_cluster_goes_on_when_the_member_with_the_hosts_dies() {
    for maker in Maker::ALL {
        let mut members = Members::start(maker, "{podium:coordinators}").await;
        let valkey = reached(&members.url()).await;
        let all = [&members.primaries[0], &members.primaries[1], &members.primaries[2]];
        registry::behaves(&valkey.registry(), async |time| pass(&all, time).await).await;
        bus::behaves(&valkey.bus()).await;
        let mut parts = Parts::of(&valkey).await;
        caught_up(&members.primaries[0], &members.replica).await;
        members.primaries[0].kill();
        goes_on(&mut parts).await;
        assert!(ask::<String>(&members.replica, "INFO replication").await.contains("role:master"));
    }
}

#[tokio::test]
async fn a_cluster_behind_tls_serves_a_user_of_its_own_and_goes_on_when_a_member_dies() {
    let files = Certificates::issue();
    // Members are known by their numbers, or by the name that is in their certificates.
    let by_name = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
    for (maker, more) in [(Maker::Redis, &[][..]), (Maker::Valkey, &by_name)] {
        let more = ["~{podium:*"].iter().chain(more).map(|&argument| argument.to_owned());
        let more = user("secret").into_iter().chain(more).collect::<Vec<_>>();
        let mut members = Members::start_secure(maker, "{podium:coordinators}", &files, &more).await;
        let url = format!("valkeys+cluster://portico:secret@{}", members.named);
        let valkey = reached(&format!("{url}?{}", files.query())).await;
        let all = [&members.primaries[0], &members.primaries[1], &members.primaries[2]];
        registry::behaves(&valkey.registry(), async |time| pass(&all, time).await).await;
        bus::behaves(&valkey.bus()).await;
        // Nobody without a certificate gets in.
        let stranger = open(&format!("{url}?ca={}", files.path("issuer.pem"))).registry();
        assert_eq!(stranger.health().await.unwrap().state, State::Down, "{maker:?}");
        // It would dial again and again.
        drop(stranger);
        let mut parts = Parts::of(&valkey).await;
        caught_up(&members.primaries[0], &members.replica).await;
        members.primaries[0].kill();
        goes_on(&mut parts).await;
        assert!(ask::<String>(&members.replica, "INFO replication").await.contains("role:master"));
    }
}

#[tokio::test]
async fn a_cluster_goes_on_when_the_member_with_the_messages_dies() {
    let mut members = Members::start(Maker::Redis, "{podium:bus}").await;
    let valkey = reached(&members.url()).await;
    let mut parts = Parts::of(&valkey).await;
    caught_up(&members.primaries[0], &members.replica).await;
    members.primaries[0].kill();
    assert_eq!(parts.next().await, "away");
    goes_on(&mut parts).await;
}
