//! `portico coordinator`.

use std::net::{Ipv4Addr, SocketAddr};

use portico::{
    config::{Config, Loaded, Origin},
    gateway::Coordinator,
};

use super::{
    Failure, Screen, Variables, configuration, log,
    reload::Source,
    signals::{Signals, Told},
};

/// Where a host listens when nobody says: beside a gateway on the same machine.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Starts a host, says where it is, and ends when it has drained after a signal.
pub(crate) async fn run(flags: configuration::Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    let started = flags.load(variables.clone())?;
    let config = config(&started);
    // Held to the end: what is logged last is written when it is dropped.
    let log = log::begin(config.log)?;
    // Before the doors open, so that no signal falls between.
    let mut signals = Signals::listen()?;
    let host = Coordinator::start(config.clone())
        .await
        .map_err(|error| Failure::other(format!("the host cannot start: {}", error.report())))?;
    screen.text(&banner(&config, host.address(), host.id()))?;
    screen.flush()?;

    let mut source = Source { flags, variables, started };
    let told = loop {
        match signals.next().await {
            Told::Reload => source.reload(&log, |newer| host.reload(newer)),
            told => break told,
        }
    };
    tracing::info!(signal = told.signal(), "draining");
    tokio::select! {
        () = host.drain(told.stop()) => Ok(()),
        told = signals.again() => {
            Err(Failure::other(format!("stopped by a second {} before everything had ended", told.signal())))
        }
    }
}

fn config(loaded: &Loaded) -> Config {
    let listen = loaded.origins.iter().find(|(setting, ..)| setting.key == "listen");
    let is_default = listen.is_none_or(|(_, _, origin)| *origin == Origin::Default);
    let config = loaded.config.clone();
    if is_default { Config { listen: LISTEN, ..config } } else { config }
}

fn banner(config: &Config, address: SocketAddr, id: &str) -> String {
    let trust = match (&config.peers.token, config.tls.as_ref().and_then(|tls| tls.client_ca.as_ref())) {
        (Some(_), Some(_)) => "gateways with the token or a certificate",
        (Some(_), None) => "gateways with the token",
        (None, Some(_)) => "gateways with a certificate",
        (None, None) => "everybody on this machine",
    };
    format!(
        "\
Portico {version}, host {id}, is open on {address}

  data   {data} ({environment})
  takes  up to {instances} instances, from {trust}

",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data.display(),
        environment = config.environment.as_str(),
        instances = config.fleet.instances_max,
    )
}

#[cfg(test)]
mod tests {
    use portico::config::Sources;

    use super::*;

    #[test]
    fn a_host_listens_beside_a_gateway_unless_somebody_says_where() {
        let untold = config(&Sources::new().load().unwrap());
        assert_eq!(untold.listen, LISTEN);
        let told = config(&Sources::new().set("--listen", "listen", "127.0.0.1:8080").load().unwrap());
        assert_eq!(told.listen.port(), 8080);
        assert!(banner(&untold, LISTEN, "host_1").contains("from everybody on this machine"));
    }
}
