//! `portico serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portico::{base::Secret, config::Config, gateway::Gateway};

use super::{
    DEFAULT_URL, Failure, Screen, Variables, configuration, log,
    reload::Source,
    signals::{Signals, Told},
};

/// Starts a gateway, says where it is, and ends when it has drained after a signal.
pub(crate) async fn run(flags: configuration::Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    let started = flags.load(variables.clone())?;
    // Held to the end: what is logged last is written when it is dropped.
    let log = log::begin(started.config.log)?;
    // Before the doors open, so that no signal falls between.
    let mut signals = Signals::listen()?;
    let gateway = Gateway::start(started.config.clone())
        .await
        .map_err(|error| Failure::other(format!("the gateway cannot start: {}", error.report())))?;
    screen.text(&banner(&started.config, gateway.address(), gateway.first_admin_key()))?;
    screen.flush()?;

    let mut source = Source { flags, variables, started };
    let told = loop {
        match signals.next().await {
            Told::Reload => source.reload(&log, |newer| gateway.reload(newer)),
            told => break told,
        }
    };
    tracing::info!(signal = told.signal(), "draining");
    tokio::select! {
        () = gateway.drain(told.stop()) => Ok(()),
        told = signals.again() => {
            Err(Failure::other(format!("stopped by a second {} before everything had ended", told.signal())))
        }
    }
}

/// Where everything is, and on the very first start how to begin.
fn banner(config: &Config, address: SocketAddr, first_key: Option<&Secret>) -> String {
    let url = url(config, address);
    let listening = format!("{address}{}", if config.tls.is_some() { ", TLS" } else { "" });
    let mut text = format!(
        "\
Portico {version} is open on {listening}

  data   {data} ({environment})
  doors  Connect, gRPC, gRPC-Web, REST, SSE, WebSocket: all at {url}
  docs   {url}/docs
  API    {url}/docs/api
",
        version = env!("CARGO_PKG_VERSION"),
        data = config.data.display(),
        environment = config.environment.as_str(),
    );
    if let Some(key) = first_key {
        text.push_str(&first_steps(&url, key));
    }
    text.push('\n');
    text
}

fn first_steps(url: &str, key: &Secret) -> String {
    format!(
        "
This is the administrator's key. It is shown this once; only its digest is kept.

  export PORTICO_KEY={key}{elsewhere}

Ready to paste: is it well, upload an agent, start an instance of it.

  curl -s {url}/health
  tar -czf /tmp/echo.tar.gz -C examples/agents/echo .
  curl -s {url}/api/v1/deployments -H \"Authorization: Bearer $PORTICO_KEY\" \\
    -F agent_type=echo -F version=1.0.0 -F file=@/tmp/echo.tar.gz
  curl -s {url}/api/v1/instances -H \"Authorization: Bearer $PORTICO_KEY\" \\
    -H 'Content-Type: application/json' -d '{{\"agent_type\": \"echo\"}}'
",
        key = key.reveal(),
        elsewhere = if url == DEFAULT_URL { String::new() } else { format!("\n  export PORTICO_URL={url}") },
    )
}

/// The URL that works on this machine: nobody can connect to "every address".
fn url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("{scheme}://{}:{}", Ipv4Addr::LOCALHOST, address.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("{scheme}://localhost:{}", address.port()),
        _ => format!("{scheme}://{address}"),
    }
}

#[cfg(test)]
mod tests {
    use portico::config::Sources;

    use super::*;

    #[test]
    fn the_first_start_shows_the_key_once_and_lines_to_paste() {
        let config = Sources::new().set("--data", "data", "/srv/portico").load().unwrap().config;
        let address = "0.0.0.0:8080".parse().unwrap();
        let key = Secret::new("pod_admin_x");
        let first = banner(&config, address, Some(&key));
        assert_eq!(first.matches("pod_admin_x").count(), 1);
        assert!(first.contains("  curl -s http://127.0.0.1:8080/health\n"), "{first}");
        assert!(first.contains("/srv/portico (dev)") && !first.contains("PORTICO_URL"), "{first}");
        let moved = banner(&config, "0.0.0.0:9090".parse().unwrap(), Some(&key));
        assert!(moved.contains("\n  export PORTICO_URL=http://127.0.0.1:9090\n"), "{moved}");
        let later = banner(&config, address, None);
        assert!(!later.contains("PORTICO_KEY") && later.contains("http://127.0.0.1:8080/docs/api"), "{later}");
    }
}
