//! What an agent's processes are given by the host, what ends them, and that none is left behind.

use portico::port::fleet::Stop;

use super::{House, PATIENCE, gone};

on_every_fleet! {
    what_leaves_the_group_of_its_agent_ends_with_it_too_and_holds_up_nobody,
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
