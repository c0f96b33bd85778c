//! Spans to an OpenTelemetry collector: OTLP 1.x over HTTP with protobuf bodies.
//!
//! A newcomer's usual mistake is to retry for long. Spans are worth less than the memory that a dead collector would
//! cost: a batch that the collector does not take is dropped and counted in the log.
//!
//! *Knows:* the OTLP trace request. *Does not know:* calls, or what their attributes mean.

mod messages;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use portico_base::{Error, Result, tasks::Tasks};
use portico_port::spans::{Span, Spans};
use prost::Message;
use tokio::{
    sync::mpsc::{self, Receiver, channel},
    time::{MissedTickBehavior, interval, timeout},
};

/// Spans that wait for the next batch. A second of a busy gateway; what does not fit is lost.
const WAITING_SPANS_MAX: usize = 8_192;
/// Spans in one request; collectors take a few megabytes.
const BATCH_SPANS_MAX: usize = 512;
/// How long a span waits for others at most.
const BATCH_INTERVAL: Duration = Duration::from_secs(2);
/// How long a collector may take.
const EXPORT_PATIENCE: Duration = Duration::from_secs(5);

/// As whom spans are sent.
pub struct Sender {
    /// `service.name`.
    pub service: String,
    /// `deployment.environment.name`.
    pub environment: &'static str,
}

/// Sends spans to a collector.
pub struct Otlp {
    queue: mpsc::Sender<Span>,
    lost: Arc<AtomicU64>,
}

impl Otlp {
    /// Begins to send to the collector at this base address, for example `http://collector:4318`.
    ///
    /// # Errors
    /// When the address cannot be a base, or the system has no root certificates.
    pub fn start(endpoint: &Uri, sender: Sender, tasks: &Tasks) -> Result<Otlp> {
        let address = format!("{}/v1/traces", endpoint.to_string().trim_end_matches('/'));
        let address: Uri = address.parse().map_err(Error::internal)?;
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(Error::internal)?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let (queue, waiting) = channel(WAITING_SPANS_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let exporter = Exporter { client, address, sender, lost: Arc::clone(&lost) };
        tasks.spawn(exporter.run(waiting, tasks.clone()));
        Ok(Otlp { queue, lost })
    }
}

impl Spans for Otlp {
    fn ended(&self, span: Span) {
        // A full queue means that the collector is slow or away; the line of its next batch says how many were lost.
        if self.queue.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn begins_traces(&self) -> bool {
        true
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

struct Exporter {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: Uri,
    sender: Sender,
    lost: Arc<AtomicU64>,
}

impl Exporter {
    async fn run(self, mut waiting: Receiver<Span>, tasks: Tasks) {
        let mut tick = interval(BATCH_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
        loop {
            let room = BATCH_SPANS_MAX - batch.len();
            tokio::select! {
                _ = tick.tick() => {}
                taken = waiting.recv_many(&mut batch, room) => {
                    if taken > 0 && batch.len() < BATCH_SPANS_MAX {
                        continue;
                    }
                }
                () = tasks.closing() => {
                    waiting.close();
                    // Those that have come already are in the batch.
                    while !batch.is_empty() || waiting.recv_many(&mut batch, BATCH_SPANS_MAX).await > 0 {
                        self.export(&mut batch).await;
                    }
                    return;
                }
            }
            if !batch.is_empty() {
                self.export(&mut batch).await;
            }
        }
    }

    async fn export(&self, batch: &mut Vec<Span>) {
        let count = batch.len();
        let body = messages::request(batch.drain(..), &self.sender).encode_to_vec();
        let request =
            Request::post(self.address.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(Full::from(body));
        let problem = match request {
            Ok(request) => match timeout(EXPORT_PATIENCE, self.client.request(request)).await {
                Ok(Ok(answer)) if answer.status() == StatusCode::OK => return,
                Ok(Ok(answer)) => format!("the collector answered {}", answer.status()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the collector did not answer in time".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        let lost = self.lost.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        tracing::warn!(spans.lost = count, spans.lost_in_all = lost, problem, "spans were not exported");
    }
}
