//! One of those who call: what it asks, what it repeats, what it notes.
//!
//! A newcomer's usual mistake is to repeat what failed. What changes something is repeated only when the refusal says that
//! nothing was done, or when repeating it cannot do it twice.
//!
//! *Knows:* how to ask and what may be repeated. *Does not know:* who is killed.

use std::{sync::Arc, time::Duration};

use portico::schema::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::ledger::{How, Ledger};
use crate::support::{
    caller::{Balancer, Caller},
    doors::{Call, Door, Told, refusal::Refusal},
    gateway::{ADMIN, schema},
};

/// How long a worker rests after each round, so that two cores can serve all of them.
const PACE: Duration = Duration::from_millis(150);
/// Longest time that a refusal is obeyed for.
const OBEYED_MAX: Duration = Duration::from_secs(5);
/// When a refusal does not say when to come back.
const COME_BACK: Duration = Duration::from_millis(100);

/// One of those who call.
pub(in crate::process) struct Worker {
    pub(in crate::process) number: usize,
    pub(in crate::process) ledger: Arc<Ledger>,
    pub(in crate::process) caller: Caller,
    /// Whose key it presents.
    pub(in crate::process) key: String,
    turn: usize,
}

impl Worker {
    /// One that calls as the administrator.
    pub(in crate::process) fn new(number: usize, ledger: &Arc<Ledger>, balancer: &Arc<Balancer>) -> Worker {
        let key = ADMIN.to_owned();
        Worker { number, ledger: Arc::clone(ledger), caller: Caller::new(balancer), key, turn: number }
    }

    /// The same with another key.
    pub(in crate::process) fn with_key(self, key: &str) -> Worker {
        Worker { key: key.to_owned(), ..self }
    }

    /// Whether there is another round.
    pub(in crate::process) async fn again(&mut self) -> bool {
        self.ledger.went_round(self.number);
        self.turn += 1;
        sleep(PACE).await;
        !self.ledger.is_over()
    }

    /// The door of this round, of those that the method has.
    pub(in crate::process) fn door(&self, method: &Method) -> Door {
        let doors: Vec<Door> = Door::of(method).into_iter().filter(|door| *door != Door::Socket).collect();
        doors[self.turn % doors.len()]
    }

    /// Asks once. A failure is noted.
    pub(in crate::process) async fn ask(
        &mut self,
        work: &'static str,
        host: Option<&str>,
        ask: &Ask<'_>,
    ) -> Result<Told, How> {
        let began = Instant::now();
        let (gateway, door, answer) = self.exchange(ask).await;
        let how = match answer {
            Ok(told) if told.code == "ok" => return Ok(told),
            Ok(told) => refused(door, &told),
            Err(how) => how,
        };
        self.ledger.fail(gateway, host, work, how.clone(), began);
        Err(how)
    }

    /// Reads a stream for as many messages as are asked for. Answers those that came, and how it ended if it ended early.
    pub(in crate::process) async fn follow(
        &mut self,
        work: &'static str,
        host: Option<&str>,
        ask: &Ask<'_>,
    ) -> (Vec<Value>, Option<How>) {
        let began = Instant::now();
        let (gateway, door, answer) = self.exchange(ask).await;
        let (messages, how) = match answer {
            Ok(told) if told.code == "ok" => return (told.messages, None),
            Ok(told) => {
                let how = refused(door, &told);
                (told.messages, how)
            }
            Err(how) => (Vec::new(), how),
        };
        // A stream that the other side ends with a word has had its farewell.
        let how = match how {
            How::Refused(refusal) if ["draining", "coordinator_lost"].contains(&refusal.reason.as_str()) => {
                How::Farewell(refusal.reason)
            }
            how => how,
        };
        self.ledger.fail(gateway, host, work, how.clone(), began);
        (messages, Some(how))
    }

    async fn exchange(&mut self, ask: &Ask<'_>) -> (usize, Door, Result<Told, How>) {
        let (method, messages, answers_max) = (ask.method, ask.messages.clone(), ask.answers_max);
        let door = self.door(method);
        let call = Call { method, messages, key: &self.key, answers_max };
        let heard = self.caller.call(door, &call, &ask.headers).await;
        (heard.gateway, door, heard.answer.map_err(|why| How::Broken(format!("{door:?}: {why}"))))
    }

    /// Asks until it is acknowledged. For what may be repeated whatever became of it.
    pub(in crate::process) async fn surely(&mut self, work: &'static str, host: Option<&str>, ask: &Ask<'_>) -> Told {
        loop {
            match self.ask(work, host, ask).await {
                Ok(told) => return told,
                Err(how) => pause(&how).await,
            }
        }
    }
}

/// What is asked.
pub(in crate::process) struct Ask<'a> {
    pub(in crate::process) method: &'static Method,
    pub(in crate::process) messages: Vec<Value>,
    pub(in crate::process) headers: Vec<(&'static str, &'a str)>,
    pub(in crate::process) answers_max: usize,
}

impl<'a> Ask<'a> {
    /// By the name of a service and a method, for example `KeysService/ListKeys`.
    pub(in crate::process) fn of(name: &str, message: Value) -> Ask<'a> {
        Ask { method: method(name), messages: vec![message], headers: Vec::new(), answers_max: usize::MAX }
    }

    pub(in crate::process) fn with(mut self, name: &'static str, value: &'a str) -> Ask<'a> {
        self.headers.push((name, value));
        self
    }
}

fn refused(door: Door, told: &Told) -> How {
    match Refusal::of(door, told) {
        Some(refusal) => How::Refused(refusal),
        None => How::Wordless(format!("{door:?} {} {}: {}", told.status, told.code, told.text)),
    }
}

pub(in crate::process) fn method(name: &str) -> &'static Method {
    schema().method(&format!("/podium.v1.{name}")).unwrap()
}

/// Waits as long as the refusal says.
pub(in crate::process) async fn pause(how: &How) {
    let told = match how {
        How::Refused(refusal) => refusal.after.map(Duration::from_secs),
        _ => None,
    };
    sleep(told.unwrap_or(COME_BACK).min(OBEYED_MAX)).await;
}
