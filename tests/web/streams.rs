//! Streams over HTTP: events, lines, files.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use portico::{
    base::{Code, Error, Outgoing, Result, reason, tasks::Tasks},
    edge::{Body, Rest},
    wire::{Handlers, podium::v1 as podium},
};

use super::support::{Revocable, ask, begin, door, guarded};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");
const FOLLOW: &str = "/api/v1/instances/a/logs:follow";

fn entry(sequence: i64) -> Result<podium::FollowLogsResponse> {
    Ok(podium::FollowLogsResponse { sequence, entry: None })
}

fn lost() -> Error {
    Error::new(Code::Unavailable, reason::COORDINATOR_UNAVAILABLE, "the host is out of reach")
}

/// Follows with these entries, counted on from where the caller was.
fn following(entries: fn() -> Outgoing<podium::FollowLogsResponse>) -> Rest {
    door(|handlers| follow(handlers, entries))
}

fn follow(handlers: &mut Handlers, entries: fn() -> Outgoing<podium::FollowLogsResponse>) {
    handlers.server_stream(
        "/podium.v1.InstancesService/FollowLogs",
        &Arc::new(entries),
        |entries, _, request: podium::FollowLogsRequest| async move {
            let after = request.after;
            let counted = entries().map(move |entry| {
                entry.map(|entry| podium::FollowLogsResponse { sequence: entry.sequence + after, ..entry })
            });
            Ok(Box::pin(counted) as Outgoing<podium::FollowLogsResponse>)
        },
    );
}

#[tokio::test]
async fn who_likes_lines_better_than_events_gets_lines() {
    let door = following(|| Box::pin(stream::iter([entry(1)])));
    for (accepted, given) in [
        ("text/event-stream;q=0.1, application/x-ndjson", "application/x-ndjson"),
        ("text/event-stream, application/x-ndjson;q=0.1", "text/event-stream"),
        ("text/event-stream;q=0, */*", "application/x-ndjson"),
    ] {
        let answer = ask(&door, "GET", FOLLOW, &[("accept", accepted)], "").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, given), "{accepted}");
    }
}

#[tokio::test]
async fn events_carry_ids_and_end_with_an_event() {
    let door = following(|| Box::pin(stream::iter([entry(1), entry(2)])));
    let answer = ask(&door, "GET", FOLLOW, &[EVENTS], "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(
        answer.body,
        concat!(
            "id: 1\ndata: {\"sequence\":1,\"entry\":null}\n\n",
            "id: 2\ndata: {\"sequence\":2,\"entry\":null}\n\n",
            "event: end\ndata: {}\n\n"
        )
    );
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let door = following(|| Box::pin(stream::iter([entry(1)])));
    let resumed = ask(&door, "GET", FOLLOW, &[EVENTS, ("last-event-id", "41")], "").await;
    assert!(resumed.body.starts_with("id: 42\n"), "{}", resumed.body);
    let asked = ask(&door, "GET", &format!("{FOLLOW}?after=6"), &[EVENTS, ("last-event-id", "41")], "").await;
    assert!(asked.body.starts_with("id: 7\n"), "{}", asked.body);
    let fresh = ask(&door, "GET", FOLLOW, &[EVENTS, ("last-event-id", "")], "").await;
    assert!(fresh.body.starts_with("id: 1\n"), "{}", fresh.body);
}

#[tokio::test]
async fn an_error_is_a_status_before_the_first_message_and_an_event_after() {
    let before = following(|| Box::pin(stream::iter([Err(lost())])));
    assert_eq!(ask(&before, "GET", FOLLOW, &[EVENTS], "").await.failure(), (503, "coordinator_unavailable".into()));
    let after = following(|| Box::pin(stream::iter([entry(1), Err(lost())])));
    let answer = ask(&after, "GET", FOLLOW, &[EVENTS], "").await;
    let (_, error) = answer.body.split_once("event: error\ndata: ").unwrap();
    assert!(error.starts_with(r#"{"error":{"code":"coordinator_unavailable","#) && error.ends_with("}\n\n"), "{error}");
}

#[tokio::test]
async fn lines_are_what_others_get() {
    let door = following(|| Box::pin(stream::iter([entry(1), entry(2), Err(lost())])));
    let answer = ask(&door, "GET", FOLLOW, &[], "").await;
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<serde_json::Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[1]["sequence"]), (3, &2.into()));
    assert_eq!(lines[2]["error"]["code"], "coordinator_unavailable");
    let refused = ("accept", "text/event-stream;q=0, application/x-ndjson");
    assert_eq!(ask(&door, "GET", FOLLOW, &[refused], "").await.header("content-type"), "application/x-ndjson");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_opens_and_stays_alive() {
    let door = following(|| Box::pin(stream::pending()));
    let mut response = begin(&door, "GET", FOLLOW, &[EVENTS], Body::empty()).await;
    assert_eq!(response.status(), 200);
    let began = tokio::time::Instant::now();
    let frame = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap(), ": keep-alive\n\n");
    assert_eq!(began.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn revocation_and_shutdown_end_streams() {
    let gate = Arc::new(Revocable::default());
    let tasks = Tasks::new();
    let door =
        guarded(Arc::clone(&gate) as _, tasks.clone(), |handlers| follow(handlers, || Box::pin(stream::pending())));
    let (one, two) = (
        begin(&door, "GET", FOLLOW, &[EVENTS], Body::empty()).await,
        begin(&door, "GET", FOLLOW, &[], Body::empty()).await,
    );
    tasks.close();
    let lines = super::support::read(two).await.body;
    assert!(lines.contains(r#""code":"draining""#), "{lines}");
    gate.ended.cancel();
    let events = super::support::read(one).await.body;
    assert!(events.starts_with("event: error\n") && events.contains(r#""code":"unauthorized""#), "{events}");
}

#[tokio::test]
async fn a_file_streams_as_it_is_and_breaks_off_on_failure() {
    fn chunk(content: &'static [u8]) -> Result<podium::ReadFileResponse> {
        Ok(podium::ReadFileResponse { content: Bytes::from_static(content), content_type: "text/html".into() })
    }
    let door = door(|handlers| {
        handlers.server_stream(
            "/podium.v1.InstancesService/ReadFile",
            &Arc::new(()),
            |_, _, request: podium::ReadFileRequest| async move {
                match &*request.path {
                    "a/whole" => Ok(Box::pin(stream::iter([chunk(b"ab"), chunk(&[0xff])])) as Outgoing<_>),
                    "broken" => Ok(Box::pin(stream::iter([chunk(b"ab"), Err(lost())])) as Outgoing<_>),
                    path => Err(Error::not_found(reason::FILE_NOT_FOUND, "file", path)),
                }
            },
        );
    });
    let get = async |path: &str| begin(&door, "GET", path, &[], Body::empty()).await;
    let whole = get("/api/v1/instances/i/files/a/whole").await;
    assert_eq!(
        (&whole.headers()["content-type"], &whole.headers()["content-security-policy"]),
        (&"text/html".parse().unwrap(), &"sandbox".parse().unwrap())
    );
    assert_eq!(&whole.into_body().collect().await.unwrap().to_bytes()[..], b"ab\xff");
    // Its messages are there for whoever asks for them by name.
    for (form, content) in [
        ("application/x-ndjson", "{\"content\":\"YWI=\",\"content_type\":\"text/html\"}\n"),
        ("text/event-stream", "data: {\"content\":\"YWI=\",\"content_type\":\"text/html\"}\n\n"),
    ] {
        let messages =
            begin(&door, "GET", "/api/v1/instances/i/files/a/whole", &[("accept", form)], Body::empty()).await;
        assert_eq!(messages.headers()["content-type"], form);
        let told = messages.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&told).contains(content), "{told:?}");
    }
    // A range is no name.
    for range in ["text/*", "*/*, application/octet-stream;q=0.9"] {
        let path = "/api/v1/instances/i/files/a/whole";
        let file = begin(&door, "GET", path, &[("accept", range)], Body::empty()).await;
        assert_eq!(file.headers()["content-type"], "text/html", "{range}");
    }
    let broken = get("/api/v1/instances/i/files/broken").await;
    assert_eq!(broken.status(), 200);
    assert_eq!(
        broken.into_body().collect().await.err().map(|error| error.reason()),
        Some(reason::COORDINATOR_UNAVAILABLE)
    );
    assert_eq!(get("/api/v1/instances/i/files/none").await.status(), 404);
}
