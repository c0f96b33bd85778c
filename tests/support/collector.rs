//! A collector of traces that reads them with OpenTelemetry's own messages.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::{gateway::PATIENCE, server::tools};

/// A running collector.
pub(crate) struct Collector {
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Collector {
    pub(crate) async fn start() -> Collector {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/collector.py");
        let mut process = Command::new(tools().join("python/bin/python"))
            .arg(program)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the collector prints its port");
        Collector { port: port.parse().unwrap(), lines, _process: process }
    }

    /// Where spans are sent.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next span.
    pub(crate) async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a span in time");
        serde_json::from_str(&line.unwrap().unwrap()).unwrap()
    }
}
