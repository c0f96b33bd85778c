//! What the operator tells a running process by signals.
//!
//! A newcomer's usual mistake is to listen late. Whoever serves listens before its doors open, so that no signal falls
//! between.
//!
//! *Knows:* which signal means what. *Does not know:* what is served.

use portico::gateway::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// The signals that a server hears.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// What was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Read the configuration again.
    Reload,
    /// End in order: a person waits at a terminal, and no load balancer has to notice first.
    Interrupt,
    /// End in order.
    Terminate,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Signals, Failure> {
        let begin = |kind| signal(kind).map_err(|error| Failure::system("signals cannot be heard", &error));
        Ok(Signals {
            interrupt: begin(SignalKind::interrupt())?,
            terminate: begin(SignalKind::terminate())?,
            hang_up: begin(SignalKind::hangup())?,
        })
    }

    /// What is told next.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Interrupt,
            _ = self.terminate.recv() => Told::Terminate,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }

    /// The next order to end, while the process ends already.
    pub(crate) async fn again(&mut self) -> Told {
        loop {
            match self.next().await {
                Told::Reload => {}
                told => return told,
            }
        }
    }
}

impl Told {
    /// How the order to end is carried out.
    pub(crate) fn stop(self) -> Stop {
        if self == Told::Interrupt { Stop::AtOnce } else { Stop::WithNotice }
    }

    /// The name of the signal.
    pub(crate) fn signal(self) -> &'static str {
        match self {
            Told::Reload => "SIGHUP",
            Told::Interrupt => "SIGINT",
            Told::Terminate => "SIGTERM",
        }
    }
}
