//! What a host says of itself, and when.

use std::{sync::Arc, time::Duration};

use portico::{
    backend::local::registry::LocalRegistry,
    base::{Timestamp, tasks::Tasks},
    domain::host::{Host, Place},
    port::{
        fleet::{ANNOUNCED, Announced, At, State, Stop},
        registry::Registry,
    },
};

use super::{NOW, upkeep::PaperHost};

#[tokio::test(start_paused = true)]
async fn what_a_host_runs_is_announced_soon_after_it_changed() {
    let (registry, tasks, fleet) = (LocalRegistry::new(), Tasks::new(), Arc::new(PaperHost::default()));
    fleet.running.lock().unwrap().insert("agent_1".to_owned(), State::Ready);
    let place = Place {
        id: "host-1".to_owned(),
        url: "http://127.0.0.1:9090".to_owned(),
        source_base: "blobs:///".to_owned(),
        environment: "test".to_owned(),
        started_at: Timestamp(NOW.0),
    };
    let host = Host::new(place, fleet, Arc::new(registry.clone()));
    let _announcing = tasks.spawn(host.clone().keep_announcing(tasks.clone()));
    let active = async || {
        let said: Announced = serde_json::from_str(&registry.live(ANNOUNCED).await.unwrap()[0].body).unwrap();
        said.active_agents
    };

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(active().await, 1);
    host.stop(&At::new("paper", "agent_1"), Stop::Now).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(active().await, 0);
    tasks.close();
}
