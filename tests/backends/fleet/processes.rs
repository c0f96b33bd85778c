//! What an agent's processes are given by the host, what ends them, and that none is left behind.

use std::{fs::File, time::Duration};

use portico::{
    backend::{
        disk::Disk,
        local_fleet::{Config, HOST, Limits, LocalFleet},
    },
    base::{clock::SystemClock, tasks::Tasks},
    port::fleet::{LogLevel, LogQuery, State, Stop},
};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::json;

use super::{House, PATIENCE, gone, start};

on_every_fleet! {
    what_leaves_the_group_of_its_agent_ends_with_it_too_and_holds_up_nobody,
    the_path_that_an_agent_is_given_is_its_own_and_does_not_keep_it_from_starting,
}

async fn what_leaves_the_group_of_its_agent_ends_with_it_too_and_holds_up_nobody(house: House) {
    let at = house.start("agent_1").await;
    let pid = house.attach(&at).await.answer("daemon").await.to_string();
    let began = std::time::Instant::now();
    house.fleet.stop(&at, Stop::Within(PATIENCE)).await.unwrap();
    gone(&pid).await;
    // Its grace was not used up: who leaves at once is not waited for.
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

async fn the_path_that_an_agent_is_given_is_its_own_and_does_not_keep_it_from_starting(house: House) {
    let mut new = start("agent_1", house.scripted().await);
    new.environment.insert("PATH".to_owned(), "1".to_owned());
    new.environment.insert("niceness".to_owned(), "mine".to_owned());
    house.fleet.create(&house.host, new).await.unwrap();
    let at = portico::port::fleet::At::new(&house.host, "agent_1");
    assert_eq!(house.fleet.settled(&at, PATIENCE).await.unwrap(), State::Ready);
    let environment = house.attach(&at).await.answer("environment").await;
    assert_eq!((&environment["PATH"], &environment["niceness"]), (&json!("1"), &json!("mine")));
}

#[tokio::test]
async fn what_the_gateway_inherited_reaches_no_agent() {
    let inherited = tempfile::NamedTempFile::new().unwrap();
    let held: File = inherited.reopen().unwrap();
    // As whoever started the gateway left it.
    fcntl_setfd(&held, FdFlags::empty()).unwrap();
    let house = House::embedded();
    let at = house.start("agent_1").await;
    let open = house.attach(&at).await.answer("descriptors").await;
    let open: Vec<_> = open.as_array().unwrap().iter().map(|place| place.as_str().unwrap()).collect();
    assert!(open.iter().any(|place| place.starts_with("socket:")), "its socket: {open:?}");
    let own = inherited.path().to_str().unwrap();
    assert!(!open.contains(&own) && open.len() <= 5, "{open:?}");
}

#[tokio::test]
async fn the_log_says_which_limit_ended_an_agent() {
    let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let blobs: std::sync::Arc<dyn portico::port::blobs::Blobs> =
        std::sync::Arc::new(Disk::open(folder.path()).unwrap());
    let config = Config {
        root: folder.path().join("fleet"),
        path: "/usr/local/bin:/usr/bin:/bin".to_owned(),
        instances_max: 1,
        limits: Limits { cpu_seconds: 1, ..Limits::default() },
    };
    let fleet =
        LocalFleet::open(config, std::sync::Arc::clone(&blobs), std::sync::Arc::new(SystemClock), tasks.clone());
    let fleet = std::sync::Arc::new(fleet.unwrap());
    let house = House { folder, blobs, fleet, host: HOST.to_owned(), tasks, _coordinator: None };
    let at = house.start("agent_1").await;
    let mut client = house.attach(&at).await;
    client.ask("spin").await;
    client.until("error").await;
    let query = LogQuery { level: LogLevel::Error, offset: 0, limit: 10 };
    let logged = house.fleet.logs(&at, query).await.unwrap();
    assert!(logged[0].message.contains("it used up its 1 s of processor time"), "{logged:?}");
    house.fleet.stop(&at, Stop::Within(Duration::ZERO)).await.unwrap();
}
