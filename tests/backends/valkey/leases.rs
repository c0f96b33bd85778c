//! A busy key asks the server far less often than it calls, and gateways together let through no more than the limit.

use std::time::Duration;

use portico::{
    backend::valkey::ValkeyRegistry,
    port::registry::{Rate, Registry, Take},
};

use crate::support::{
    server::Server,
    valkey::{self, Maker, ask, pass},
};

/// A token a minute, so that a pause of the machine does not count.
const RATE: Rate = Rate { per_minute: 1, burst: 400 };

async fn is_let_through(registry: &ValkeyRegistry) -> bool {
    matches!(registry.take("calls", "ann", RATE).await.unwrap(), Take::Granted { .. })
}

/// How often the server was asked by script.
async fn asked(server: &Server) -> u64 {
    let stats: String = ask(server, "INFO commandstats").await;
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test]
async fn a_busy_key_is_asked_for_rarely_and_gets_exactly_its_limit() {
    for maker in Maker::ALL {
        let server = maker.start(&[]);
        let registry = valkey::connect(&server).registry();
        let mut left = Vec::new();
        for _ in 0..RATE.burst {
            match registry.take("calls", "ann", RATE).await.unwrap() {
                Take::Granted { left: tokens } => left.push(tokens),
                Take::Later(_) => panic!("refused after {} of {}", left.len(), RATE.burst),
            }
        }
        assert_eq!(left, (0..RATE.burst).rev().collect::<Vec<_>>(), "what is left is told as if each call had asked");
        let questions = asked(&server).await;
        assert!(questions < u64::from(RATE.burst) / 8, "{questions} questions");
        for _ in 0..1_000 {
            assert!(!is_let_through(&registry).await);
        }
        let more = asked(&server).await - questions;
        assert!(more < 100, "{more} questions for a thousand refusals");
        pass(&[&server], Duration::from_secs(60)).await;
        assert!(is_let_through(&registry).await);
        assert!(!is_let_through(&registry).await);
    }
}

#[tokio::test]
async fn gateways_together_let_through_the_limit_and_what_one_did_not_use_comes_back() {
    let server = Maker::Redis.start(&[]);
    let gateways = [valkey::connect(&server).registry(), valkey::connect(&server).registry()];
    let mut through = 0;
    for _ in 0..100 {
        through += u32::from(is_let_through(&gateways[0]).await);
    }
    // The first one holds some ahead now. The second one uses what it can get.
    while is_let_through(&gateways[1]).await {
        through += 1;
    }
    assert!(through <= RATE.burst && through > RATE.burst * 3 / 4, "{through}");
    // Half of the time of a lease later or long after it: what was held is used or given back, never lost and never doubled.
    for time in [0, 5] {
        pass(&[&server], Duration::from_secs(time)).await;
        while is_let_through(&gateways[0]).await {
            through += 1;
        }
    }
    assert_eq!(through, RATE.burst);
}

#[tokio::test]
async fn tokens_that_are_held_outlive_the_server_and_then_limits_are_kept_here() {
    let mut server = Maker::Valkey.start(&[]);
    let registry = valkey::connect(&server).registry();
    for _ in 0..20 {
        assert!(is_let_through(&registry).await);
    }
    server.kill();
    let mut through = 0;
    while is_let_through(&registry).await {
        through += 1;
        assert!(through < 2 * RATE.burst, "no limit at all");
    }
    assert!(through >= RATE.burst, "{through}");
}
