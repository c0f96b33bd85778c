//! Spans arrive at a collector that reads them with OpenTelemetry's own messages, and cost a call nothing when there is none.

use std::time::Duration;

use portico::{
    backend::otlp::{Otlp, Sender},
    base::{Timestamp, Trace, tasks::Tasks},
    port::spans::{Span, Spans},
};
use tokio::net::TcpListener;

use crate::support::{
    collector::Collector,
    gateway::{ADMIN, PATIENCE, TestHouse},
};

#[tokio::test]
async fn spans_with_traceparent_belong_to_the_trace_of_the_caller() {
    let mut collector = Collector::start().await;
    let house =
        TestHouse::with(&[("PORTICO_OTLP_ENDPOINT", &collector.endpoint()), ("OTEL_SERVICE_NAME", "front-door")]).await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    house.ask(ADMIN, "GET", "/api/v1/config").header("traceparent", &parent).send().await.expect(200);
    house.ask("", "GET", "/api/v1/keys").header("traceparent", &parent).send().await.expect(401);

    for (method, status, reason) in
        [("podium.v1.ConfigService/GetConfig", 0, ""), ("podium.v1.KeysService/ListKeys", 2, "unauthorized")]
    {
        let span = collector.next().await;
        assert_eq!((span["name"].as_str(), span["status"].as_i64()), (Some(method), Some(status)), "{span}");
        assert_eq!((span["trace"].as_str(), span["parent"].as_str()), (Some(trace), Some("b7ad6b7169203331")));
        assert_eq!(span["resource"]["service.name"], "front-door");
        assert_eq!(span["resource"]["deployment.environment.name"], "dev");
        assert_eq!(
            (&span["attributes"]["portico.door"], &span["attributes"]["portico.reason"]),
            (&"rest".into(), &reason.into())
        );
        assert_eq!(span["kind"], 2, "of a server");
    }
    house.close().await;
}

#[tokio::test]
async fn a_collector_that_does_not_answer_costs_no_call_anything_and_what_is_lost_is_counted() {
    // It takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let otlp = Otlp::start(&endpoint, sender(), &Tasks::new()).unwrap();
    let many = 20_000;
    for _ in 0..many {
        // Nothing is awaited, so nothing can wait; the exporter does not even run meanwhile.
        otlp.ended(span());
    }
    assert_eq!(otlp.lost(), many - 8_192, "what finds no room is counted");
}

#[tokio::test]
async fn spans_that_wait_for_others_are_sent_before_the_end() {
    let mut collector = Collector::start().await;
    let tasks = Tasks::new();
    let otlp = Otlp::start(&collector.endpoint().parse().unwrap(), sender(), &tasks).unwrap();
    // The first batch is due at once.
    otlp.ended(span());
    collector.next().await;
    otlp.ended(span());
    // It is taken out of the queue, and the next batch is two seconds away.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    tasks.close();
    assert_eq!(tasks.wait(PATIENCE).await, 0);
    collector.next().await;
    assert_eq!(otlp.lost(), 0);
}

fn sender() -> Sender {
    Sender { service: "portico".to_owned(), environment: "dev" }
}

fn span() -> Span {
    Span {
        trace: Trace::entered(None),
        name: "/podium.v1.KeysService/ListKeys",
        began: Timestamp(1_800_000_000_000),
        duration: Duration::from_millis(1),
        failure: None,
        attributes: Vec::new(),
    }
}
