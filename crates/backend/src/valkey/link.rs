//! One connection for all commands, dialled again behind the calls when it breaks.
//!
//! A newcomer's usual mistake is to let the caller dial. Then a server that accepts and says nothing costs every caller the
//! whole wait. Here one task dials, and a caller that finds the server away learns so at once; the connection manager of the
//! crate is not used, because it stays with a first failure that is not one of input and output, such as a refused password,
//! and knows neither sentinels nor clusters.
//!
//! *Knows:* when a connection is broken, how long commands and pauses take. *Does not know:* what is asked.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use portico_base::{Error, Result, reason, tasks::Tasks};
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::target::{COMMAND_WAIT, Connection, Target, Use};

/// Commands in a row that may go unanswered before the connection counts as broken.
const SILENCES_MAX: u32 = 3;
/// The pause after the first failure to dial.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause: what has come back is found within it.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A connection that breaks again within this time is dialled after a pause, so that no call makes the house dial in circles.
const CALM: Duration = Duration::from_secs(1);

/// Whether a command may be sent again when its connection breaks: then it may be done twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Yes,
    No,
}

/// The connection for commands. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    shared: Arc<Shared>,
    /// Ends the dialling task with the last clone.
    _held: Arc<DropGuard>,
}

struct Shared {
    status: watch::Sender<Status>,
    /// How often the server was away and has come back.
    returns: watch::Sender<u64>,
    broken: Notify,
    silences: AtomicU32,
}

#[derive(Clone)]
enum Status {
    /// Not yet known; it is worth the wait.
    Dialling,
    /// The connection of this number.
    Up(u64, Connection),
    /// Out of reach, and why.
    Away(Arc<str>),
}

impl Link {
    /// Begins to dial, until the house closes or the last clone is dropped.
    pub(super) fn begin(target: Arc<Target>, tasks: &Tasks) -> Link {
        let status = watch::Sender::new(Status::Dialling);
        let (returns, broken, silences) = (watch::Sender::new(0), Notify::new(), AtomicU32::new(0));
        let shared = Arc::new(Shared { status, returns, broken, silences });
        let dropped = CancellationToken::new();
        let (keeper, ended, closing) = (Arc::clone(&shared), dropped.clone(), tasks.closing_token());
        tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = closing.cancelled() => {}
                () = keep(&keeper, &target) => {}
            }
        });
        Link { shared, _held: Arc::new(dropped.drop_guard()) }
    }

    /// Asks the server. `what` completes "… is out of reach" for the caller.
    ///
    /// # Errors
    /// `registry_unavailable` when no good answer comes in time.
    pub(super) async fn ask<T, F>(
        &self,
        what: &'static str,
        repeat: Repeat,
        run: impl Fn(Connection) -> F + Send,
    ) -> Result<T>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        match timeout(COMMAND_WAIT, self.asked(repeat, run)).await {
            Ok(Ok(answer)) => {
                self.shared.silences.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(why)) => Err(away(what, why)),
            Err(_elapsed) => {
                self.silence();
                Err(away(what, "the server did not answer in time".to_owned()))
            }
        }
    }

    /// Whether the server is in reach as far as is known. Asks nobody, and takes what is not yet known for a yes.
    ///
    /// # Errors
    /// `registry_unavailable` while it is away.
    pub(super) fn reach(&self, what: &'static str) -> Result<()> {
        match &*self.shared.status.borrow() {
            Status::Away(why) => Err(away(what, why.to_string())),
            Status::Dialling | Status::Up(..) => Ok(()),
        }
    }

    /// Waits until the server has come back more often than this, and answers how often.
    pub(super) async fn returned(&self, before: u64) -> u64 {
        let mut returns = self.shared.returns.subscribe();
        // The sender is held here, so there is an end only when there is a value.
        returns.wait_for(|count| *count > before).await.map_or(before, |count| *count)
    }

    /// Waits for the end of the attempt to connect that is being made.
    ///
    /// # Errors
    /// Why it failed, for an operator.
    pub(super) async fn reached(&self) -> Result<(), String> {
        self.connection().await.map(|_| ())
    }

    async fn asked<T, F>(&self, repeat: Repeat, run: impl Fn(Connection) -> F + Send) -> Result<T, String>
    where
        F: Future<Output = RedisResult<T>> + Send,
    {
        let (number, connection) = self.connection().await?;
        let error = match run(connection).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_broken(&error) {
            if error.is_timeout() {
                self.silence();
            }
            return Err(error.to_string());
        }
        self.lost(number);
        if repeat == Repeat::No {
            return Err(error.to_string());
        }
        let (number, connection) = self.connection().await?;
        run(connection).await.map_err(|error| {
            if is_broken(&error) {
                self.lost(number);
            }
            error.to_string()
        })
    }

    async fn connection(&self) -> Result<(u64, Connection), String> {
        let mut status = self.shared.status.subscribe();
        let known = status.wait_for(|status| !matches!(status, Status::Dialling)).await;
        match known.as_deref() {
            Ok(Status::Up(number, connection)) => Ok((*number, connection.clone())),
            Ok(Status::Away(why)) => Err(why.to_string()),
            Ok(Status::Dialling) | Err(_) => Err("the gateway is closing".to_owned()),
        }
    }

    fn silence(&self) {
        if self.shared.silences.fetch_add(1, Ordering::Relaxed) + 1 < SILENCES_MAX {
            return;
        }
        let current = match &*self.shared.status.borrow() {
            Status::Up(number, _) => *number,
            _ => return,
        };
        self.lost(current);
    }

    /// Has the connection dialled again, once, however many calls find it broken.
    fn lost(&self, broken: u64) {
        let was_up = self.shared.status.send_if_modified(|status| {
            let is_it = matches!(status, Status::Up(number, _) if *number == broken);
            if is_it {
                *status = Status::Dialling;
            }
            is_it
        });
        if was_up {
            self.shared.silences.store(0, Ordering::Relaxed);
            self.shared.broken.notify_one();
        }
    }
}

async fn keep(shared: &Shared, target: &Target) {
    let (mut number, mut pause, mut broke_at, mut warned) = (0, PAUSE_MIN, None::<Instant>, false);
    loop {
        match dial(target).await {
            Ok(connection) => {
                let was_away = warned || number > 0;
                if warned {
                    tracing::info!("Valkey is within reach again");
                    warned = false;
                }
                number += 1;
                // First, so that whoever is answered by what has come back can know that it has.
                if was_away {
                    shared.returns.send_modify(|count| *count += 1);
                }
                shared.status.send_replace(Status::Up(number, connection.clone()));
                if number == 1 {
                    warn_of_eviction(connection).await;
                }
                shared.broken.notified().await;
                if broke_at.replace(Instant::now()).is_none_or(|before| before.elapsed() > CALM) {
                    pause = PAUSE_MIN;
                    continue;
                }
                shared.status.send_replace(Status::Away("its connections break again and again".into()));
            }
            Err(why) => {
                if !warned {
                    tracing::warn!(error = why, "Valkey is out of reach; dialling again and again");
                    warned = true;
                }
                shared.status.send_replace(Status::Away(why.into()));
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// A connection over which commands are answered in time. This is what closes the breaker again: a server that is too slow for
/// calls stays away, and only this task waits for it.
async fn dial(target: &Target) -> std::result::Result<Connection, String> {
    let mut connection = target.dial(Use::Commands).await?;
    match timeout(COMMAND_WAIT, redis::cmd("PING").query_async::<()>(&mut connection)).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("it answers too late".to_owned()),
    }
}

/// A server that evicts forgets whom it likes when its memory is full: who is alive, how much a caller has used up.
async fn warn_of_eviction(mut connection: Connection) {
    let asked = redis::cmd("INFO").arg("memory").to_owned();
    let answer = timeout(COMMAND_WAIT, asked.query_async::<Value>(&mut connection)).await;
    // A user may lack the right to ask: then nothing is known and nothing said.
    let Ok(Ok(told)) = answer else { return };
    let told = match told {
        // A cluster answers for each member.
        members @ Value::Map(_) => {
            HashMap::<String, String>::from_redis_value(members).map(HashMap::into_values).map(Iterator::collect)
        }
        one => String::from_redis_value(one).map(|info| vec![info]),
    };
    let told: Vec<String> = told.unwrap_or_default();
    let policies = told.iter().flat_map(|info| info.lines()).filter_map(|line| line.strip_prefix("maxmemory_policy:"));
    if let Some(policy) = policies.map(str::trim).find(|policy| *policy != "noeviction") {
        tracing::warn!(
            policy,
            "Valkey forgets what it likes when its memory is full; set maxmemory-policy to noeviction"
        );
    }
}

/// Whether another connection may do better: broken off, nonsense answered, refused, or a replica that takes no writes.
fn is_broken(error: &RedisError) -> bool {
    let server = matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown));
    server || error.is_unrecoverable_error() || error.is_connection_dropped()
}

/// What a caller is told while the server is away.
pub(super) fn away(what: &'static str, why: String) -> Error {
    Error::unavailable(reason::REGISTRY_UNAVAILABLE, format!("{what} is out of reach"), why)
}
