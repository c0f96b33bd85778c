//! Clients that are attached and take nothing of what their agent says.

use std::time::{Duration, Instant};

use portico::{base::reason, port::fleet::Stop};

use super::House;

/// More than is on its way to one client.
const FLOOD: &str = "many 3000";
/// Shorter than a client may be slow.
const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn slow_client_is_let_go_while_the_others_get_everything() {
    let house = House::embedded();
    let at = house.start("agent_1").await;
    let (stalled, mut viewer) = (house.attach(&at).await, house.attach(&at).await);
    viewer.ask(FLOOD).await;
    assert_eq!(viewer.until("complete").await.len(), 3_002);
    assert_eq!(stalled.end().await, reason::SLOW_CONSUMER);
}

#[tokio::test]
async fn slow_client_holds_up_no_end() {
    let house = House::embedded();
    let at = house.start("agent_1").await;
    let mut stalled = house.attach(&at).await;
    stalled.ask(FLOOD).await;
    assert_eq!(stalled.next().await["type"], "created");
    let began = Instant::now();
    house.fleet.stop(&at, Stop::Within(GRACE)).await.unwrap();
    // The agent was heard to its end, and heard that it should end.
    assert!(began.elapsed() < GRACE / 2, "{:?}", began.elapsed());
    assert_eq!(stalled.end().await, reason::SLOW_CONSUMER);
}
