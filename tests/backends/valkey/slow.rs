//! A server that answers, but late.

use std::time::Duration;

use portico::{
    base::{health::State, reason},
    port::registry::Registry,
};
use tokio::time::{Instant, sleep};

use super::{ASK_AGAIN, COMMAND_PATIENCE, EVENT_PATIENCE, Parts};
use crate::support::valkey::{Maker, reached, slow::SlowLine};

/// Well below half a second.
const LATE: Duration = Duration::from_millis(150);
/// Well beyond it.
const TOO_LATE: Duration = Duration::from_millis(700);
/// What a refusal takes that waits for nobody; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);

/// `docs/surfaces/podium.md`, "Valkey slow".
#[tokio::test]
async fn valkey_slow_commands_end_within_half_a_second_and_a_breaker_spares_callers_the_wait() {
    let server = Maker::Valkey.start(&[]);
    let line = SlowLine::to(server.address()).await;
    let mut parts = Parts::of(&reached(&format!("valkey://{}", line.address)).await).await;
    line.delay(LATE);
    parts.announce("late").await.unwrap();
    parts.tell("late").await;

    line.delay(TOO_LATE);
    let began = Instant::now();
    let refused = parts.announce("b").await.unwrap_err();
    assert!(began.elapsed() < COMMAND_PATIENCE, "{:?}", began.elapsed());
    assert_eq!(refused.reason(), reason::REGISTRY_UNAVAILABLE);

    // The breaker is open when calls are refused without a wait; it closes by itself, and no caller probes for it.
    let patience = Instant::now() + EVENT_PATIENCE;
    while parts.registry.reach().is_ok() {
        assert!(Instant::now() < patience, "the breaker never opens");
        assert!(parts.announce("b").await.is_err());
    }
    let quickest = async || {
        let mut quickest = Duration::MAX;
        for _ in 0..5 {
            let began = Instant::now();
            assert!(parts.announce("b").await.is_err());
            quickest = quickest.min(began.elapsed());
        }
        quickest
    };
    assert!(quickest().await < AT_ONCE);
    assert_eq!(parts.registry.health().await.unwrap().state, State::Down);

    line.delay(Duration::ZERO);
    let since = Instant::now();
    while parts.announce("c").await.is_err() {
        sleep(ASK_AGAIN).await;
    }
    // An attempt that began before may have to end first.
    assert!(since.elapsed() < super::RETURN_PATIENCE, "{:?}", since.elapsed());
    parts.registry.reach().unwrap();
    parts.bus_tells("c").await.unwrap();
    while parts.next().await != "c" {}
}
