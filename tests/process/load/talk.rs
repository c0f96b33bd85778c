//! Tunnels, and the logs of the instances at their other end.
//!
//! A newcomer's usual mistake is to take a message for lost when its tunnel broke. It may have arrived: it is sent once, and
//! its echo may come through the next tunnel.
//!
//! *Knows:* the native stream of the echo agent, log streams. *Does not know:* who is killed.

use futures_util::{SinkExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Duration, Instant, timeout},
};
use tokio_tungstenite::tungstenite::{Message as Frame, protocol::CloseFrame};

use super::{
    calls::{create, once},
    ledger::{Fate, How},
    worker::{Ask, Worker, pause},
};
use crate::support::{
    caller::{Closed, Tunnel},
    doors::refusal::{Refusal, said},
};

/// How long an echo may take.
const ECHO_WAIT: Duration = Duration::from_secs(30);
/// Entries that one log stream is read for.
const ENTRIES: usize = 8;

/// An instance and its host.
pub(in crate::process) type At = (String, String);

/// How things are said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::process) enum Tongue {
    /// Through the tunnel alone.
    Tunnel,
    /// Every third thing by a call beside it.
    Mixed,
}

/// Talks to an instance of its own through a tunnel, and to a new one when that has ended. Tells which one it is.
pub(in crate::process) async fn talk(mut worker: Worker, tongue: Tongue, told: watch::Sender<Option<At>>) {
    let mut number = 0;
    loop {
        let at = create(&mut worker, "", json!({"agent_type": "echo"})).await;
        told.send_replace(Some(at.clone()));
        while is_alive(&mut worker, &at).await {
            let began = Instant::now();
            let (gateway, opened) = worker.caller.tunnel(&format!("/agent/{}", at.0), &worker.key).await;
            match opened {
                Ok(tunnel) => {
                    let end = converse(&mut worker, tongue, &at, tunnel, &mut number).await;
                    if worker.ledger.is_over() {
                        return;
                    }
                    worker.ledger.fail(gateway, Some(&at.1), "tunnel", end, began);
                }
                Err(closed) => {
                    let how = refused(closed);
                    worker.ledger.fail(gateway, Some(&at.1), "dial", how.clone(), began);
                    pause(&how).await;
                }
            }
        }
        if worker.ledger.is_over() {
            return;
        }
    }
}

/// Says one thing after the other and waits for each echo.
async fn converse(worker: &mut Worker, tongue: Tongue, at: &At, mut tunnel: Tunnel, number: &mut u64) -> How {
    loop {
        *number += 1;
        let is_beside = tongue == Tongue::Mixed && number.is_multiple_of(3);
        let text = format!("{}-{number}", worker.number);
        let fate = if is_beside {
            let ask = Ask::of("InstancesService/SendMessage", json!({"instance_id": at.0, "text": text}));
            once(worker, "message", Some(&at.1), &ask).await
        } else {
            // The agent logs what it does not understand, so that there is something to follow.
            let said = [
                json!({"type": "steer", "content": {"text": text}}),
                json!({"type": "process_message", "content": {"text": text, "messages": []}}),
            ];
            let frames = said.map(|frame| Ok(Frame::text(frame.to_string())));
            match tunnel.send_all(&mut stream::iter(frames)).await {
                Ok(()) => Fate::Unknown,
                Err(_) => return end(&mut tunnel).await,
            }
        };
        worker.ledger.book().messages.entry(at.0.clone()).or_default().push((text.clone(), fate));
        if fate != Fate::Undone {
            match timeout(ECHO_WAIT, echo(&mut tunnel, &text)).await {
                Ok(None) => {}
                Ok(Some(how)) => return how,
                // Whether it was sent at all is not known.
                Err(_) if fate == Fate::Unknown && is_beside => {}
                Err(_) => return How::Broken("no echo in time".to_owned()),
            }
            if let Some(last) = worker.ledger.book().messages.get_mut(&at.0).and_then(|all| all.last_mut()) {
                last.1 = Fate::Done;
            }
        }
        if !worker.again().await {
            return How::Farewell("over".to_owned());
        }
    }
}

/// Waits for the echo of this text; or how the tunnel ended.
async fn echo(tunnel: &mut Tunnel, text: &str) -> Option<How> {
    loop {
        match tunnel.next().await {
            Some(Ok(Frame::Text(frame))) => {
                let frame: Value = serde_json::from_str(&frame).unwrap();
                if frame["type"] == "complete" && frame["content"]["text"] == text {
                    return None;
                }
            }
            Some(Ok(Frame::Close(frame))) => return Some(farewell(frame)),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Some(How::Broken(error.to_string())),
            None => return Some(How::Broken("the tunnel ended without a word".to_owned())),
        }
    }
}

/// What a tunnel says at its end.
async fn end(tunnel: &mut Tunnel) -> How {
    while let Some(Ok(frame)) = tunnel.next().await {
        if let Frame::Close(frame) = frame {
            return farewell(frame);
        }
    }
    How::Broken("the tunnel broke".to_owned())
}

fn farewell(frame: Option<CloseFrame>) -> How {
    How::Farewell(frame.map_or(1005, |frame| u16::from(frame.code)).to_string())
}

fn refused(closed: Closed) -> How {
    match closed {
        Closed::Broken(why) => How::Broken(why),
        Closed::Refused(answer) => {
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let read = said(&text).and_then(|error| {
                let reason = error["code"].as_str()?.to_owned();
                let status = answer.status().as_u16();
                Some(Refusal { reason, may_repeat: error["retryable"].as_bool()?, after, status })
            });
            read.map_or(How::Wordless(text), How::Refused)
        }
    }
}

/// Whether the instance lives on: one whose host is away may, one that its host has lost does not.
async fn is_alive(worker: &mut Worker, at: &At) -> bool {
    let ask = Ask::of("InstancesService/GetInstance", json!({"instance_id": at.0}));
    loop {
        let told = worker.surely("look", Some(&at.1), &ask).await;
        let status = told.messages[0]["instance"]["status"].as_str().unwrap().to_owned();
        match status.as_str() {
            "failed" | "terminated" | "shutting_down" => return false,
            "unreachable" if !worker.ledger.is_over() => {
                worker.again().await;
            }
            _ => return true,
        }
    }
}

/// Follows the log of whatever instance is told, each entry once and in order.
pub(in crate::process) async fn follow(mut worker: Worker, mut told: watch::Receiver<Option<At>>) {
    while told.wait_for(Option::is_some).await.is_ok() {
        let at = told.borrow_and_update().clone().unwrap();
        let mut after = 0;
        while !told.has_changed().unwrap_or(true) {
            let message = json!({"instance_id": at.0, "level": "debug", "after": after});
            let ask = Ask { answers_max: ENTRIES, ..Ask::of("InstancesService/FollowLogs", message) };
            let over = worker.ledger.over();
            let heard = tokio::select! {
                heard = worker.follow("log", Some(&at.1), &ask) => heard,
                // Nobody says anything any more.
                () = over => return,
            };
            for entry in &heard.0 {
                let sequence = &entry["sequence"];
                assert_eq!(sequence.as_i64(), Some(after + 1), "{}: an entry was lost or said twice", at.0);
                after += 1;
            }
            if let Some(how) = heard.1 {
                pause(&how).await;
            }
            if !worker.again().await {
                return;
            }
        }
    }
}
