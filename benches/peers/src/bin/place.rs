//! What it costs a gateway to choose a host: a fleet of a thousand hosts in a registry, with more and more instances.
//!
//! Decisions are made the way a gateway makes them: by the fleet's own numbers, with others on their way, every host with
//! bundles, all of them equally loaded, which is where the choice is hardest. Prints a line of JSON for each size: the time on
//! a processor that a decision takes, of the thread that decides alone.

use std::{collections::VecDeque, fs, sync::Arc, time::Duration};

use axum::Router;
use portico::{
    backend::{
        coordinator::{Config, Coordinators, Papers},
        local::registry::LocalRegistry,
    },
    base::tasks::Tasks,
    domain::placement::Placement,
    port::{
        fleet::{ANNOUNCED, Announced, Fleet},
        registry::{Announcement, Registry},
    },
};
use portico_peers::{Result, listen};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HOSTS: u32 = 1_000;
const INSTANCES: [u32; 3] = [1_000, 10_000, 100_000];
const CAPACITY: u32 = 200;
/// Deployments, and how many of them lie on each host.
const DEPLOYMENTS: u32 = 100;
const CACHED: u32 = 40;
/// Instances on their way at any time.
const ON_THE_WAY: usize = 64;
const WARM_UP: usize = 2_000;
const DECISIONS: usize = 20_000;
const TTL: Duration = Duration::from_secs(600);
const ASK_AGAIN: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    let listener = listen("0").await?;
    let address = listener.local_addr()?;
    let healthy = Router::new().fallback(|| async { "{}" });
    tokio::spawn(async move { axum::serve(listener, healthy).await });
    for instances in INSTANCES {
        let (nanos, seconds) = measure(&format!("http://{address}"), instances).await?;
        let (cpu_us, per_second) = (nanos / 1_000.0, 1.0 / seconds);
        println!(
            r#"{{"hosts": {HOSTS}, "instances": {instances}, "cpu_us": {cpu_us:.2}, "per_second": {per_second:.0}}}"#
        );
    }
    Ok(())
}

/// Nanoseconds on a processor, and seconds, that a decision takes.
async fn measure(base: &str, instances: u32) -> Result<(f64, f64)> {
    let (registry, tasks) = (LocalRegistry::new(), Tasks::new());
    for at in 0..HOSTS {
        let said = Announced {
            id: format!("host-{at:04}"),
            url: format!("{base}/{at}"),
            environment: "production".to_owned(),
            status: "healthy".to_owned(),
            active_agents: instances / HOSTS,
            max_agents: CAPACITY,
            cpu: Some(0.2),
            mem: Some(0.3),
            deployments: (0..CACHED).map(|it| deployment((at + it * 7) % DEPLOYMENTS)).collect::<Vec<_>>().join(","),
            epoch: format!("epoch-{at}"),
            ..Announced::default()
        };
        let announcement = Announcement { id: said.id.clone(), body: serde_json::to_string(&said)? };
        registry.announce(ANNOUNCED, announcement, TTL).await.map_err(|error| error.report())?;
    }
    let config = Config {
        listed: Vec::new(),
        environment: "production".to_owned(),
        token: None,
        networks: vec!["127.0.0.0/8".parse().map_err(|_| "no network")?],
        papers: Papers::default(),
        source_base: "s3://bundles/".to_owned(),
    };
    let fleet = Coordinators::start(config, Arc::new(registry), tasks.clone()).map_err(|error| error.report())?;
    while fleet.hosts().await.map_err(|error| error.report())?.iter().filter(|host| host.healthy).count()
        < HOSTS as usize
    {
        tokio::time::sleep(ASK_AGAIN).await;
    }

    let (placement, mut on_the_way) = (Placement::default(), VecDeque::new());
    let mut decide = async |at: usize| {
        let hosts = fleet.hosts().await.map_err(|error| error.report())?;
        let wanted = deployment(u32::try_from(at).unwrap_or(0) % DEPLOYMENTS);
        let host = placement.choose(&hosts, &wanted, &[]).map_err(|nowhere| format!("{nowhere:?}"))?.id.clone();
        drop(hosts);
        on_the_way.push_back(placement.on_its_way(&host));
        if on_the_way.len() > ON_THE_WAY {
            on_the_way.pop_front();
        }
        Result::Ok(())
    };
    for at in 0..WARM_UP {
        decide(at).await?;
    }
    let (began, before) = (std::time::Instant::now(), on_processor()?);
    for at in 0..DECISIONS {
        decide(at).await?;
    }
    let (after, took) = (on_processor()?, began.elapsed());
    tasks.close();
    Ok(((after - before) / DECISIONS as f64, took.as_secs_f64() / DECISIONS as f64))
}

fn deployment(number: u32) -> String {
    format!("agent-{number}:1.0.0@{number:08x}")
}

/// Nanoseconds that this thread was on a processor.
fn on_processor() -> Result<f64> {
    let told = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(told.split(' ').next().unwrap_or_default().parse()?)
}
