//! `portico serve`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portico::{base::Secret, config::Config, gateway::Gateway};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, Screen, Variables, configuration, log};

/// Starts a gateway, says where it is, and ends when it has drained after a signal.
pub(crate) async fn run(flags: configuration::Flags, variables: Variables, screen: &mut Screen) -> Result<(), Failure> {
    let config = flags.load(variables)?.config;
    // Held to the end: what is logged last is written when it is dropped.
    let _written = log::begin(config.log)?;
    // Before the doors open, so that no signal falls between.
    let mut signals = Signals::listen()?;
    let shown = config.clone();
    let gateway = Gateway::start(config)
        .await
        .map_err(|error| Failure::other(format!("the gateway cannot start: {}", error.report())))?;
    screen.text(&banner(&shown, gateway.address(), gateway.first_admin_key()))?;
    screen.flush()?;

    let (stop, stopped) = tokio::sync::oneshot::channel();
    // The sender is dropped only after it has sent or when this function is left.
    let drained = gateway.run_until(async { stopped.await.unwrap_or_default() });
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => return Ok(()),
        name = signals.next() => tracing::info!(signal = name, seconds = shown.drain.as_secs(), "draining"),
    }
    // The gateway may have ended at the same moment.
    let _told = stop.send(()).is_ok();
    tokio::select! {
        () = drained => Ok(()),
        name = signals.next() => Err(Failure::other(format!("stopped by a second {name} before everything had ended"))),
    }
}

/// The signals that ask for an orderly end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Signals, Failure> {
        let begin = |kind| signal(kind).map_err(|error| Failure::system("signals cannot be heard", &error));
        Ok(Signals { interrupt: begin(SignalKind::interrupt())?, terminate: begin(SignalKind::terminate())? })
    }

    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
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

  export PORTICO_KEY={key}

Ready to paste: is it well, upload an agent, start an instance of it.

  curl -s {url}/health
  tar -czf echo.tar.gz -C examples/agents/echo .
  curl -s {url}/api/v1/deployments -H \"Authorization: Bearer $PORTICO_KEY\" \\
    -F agent_type=echo -F version=1.0.0 -F file=@echo.tar.gz
  curl -s {url}/api/v1/instances -H \"Authorization: Bearer $PORTICO_KEY\" \\
    -H 'Content-Type: application/json' -d '{{\"agent_type\": \"echo\"}}'
",
        key = key.reveal(),
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
        assert!(first.contains("/srv/portico (dev)"), "{first}");
        let later = banner(&config, address, None);
        assert!(!later.contains("PORTICO_KEY") && later.contains("http://127.0.0.1:8080/docs/api"), "{later}");
    }
}
