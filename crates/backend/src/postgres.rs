//! Durable facts in a PostgreSQL database that several gateways share.
//!
//! A newcomer's usual mistake is to hand a connection back in the middle of something. A connection returns to the pool
//! only after its last answer has been read; in every other case it is closed, and the server undoes what was open.
//!
//! *Knows:* the records port, SQL, what a failure of the server means. *Does not know:* what a record means.

mod archive;
mod commit;
mod failure;
mod lease;
mod migrations;
mod rows;

use std::{str::FromStr, sync::Arc, time::Duration};

use portico_base::{Clock, Code, Error, Result, Secret, health::Health, reason, tasks::Tasks};
use portico_port::{
    Answer,
    records::{self, LIST_RECORDS_MAX, Query, Record, Records, Write},
};
use sqlx::{
    ConnectOptions, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::{lease::Lease, rows::Question};

/// Connections of one gateway. A dozen gateways then stay below PostgreSQL's usual hundred or two, and more of them do not
/// make a database faster.
const CONNECTIONS_MAX: u32 = 16;
/// How long a call waits for a free connection, or for a new one to be made.
const CONNECTION_WAIT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is asked whether it still works before it is used.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// Idle connections are closed after this, so that a quiet gateway holds few.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Connections are made anew after this, so that a changed address or certificate is noticed.
const LIFETIME_MAX: Duration = Duration::from_secs(1800);
/// Statements that one connection keeps prepared; there are about two dozen.
const PREPARED_STATEMENTS_MAX: usize = 64;
/// How long one question or one commit may take in all. The server gives up on a statement a little earlier, so that a
/// slow server answers for itself and only a silent one is cut off.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// What the server is told of that; the last two make it notice a gateway that vanished with locks in its hands.
const SESSION: [(&str, &str); 5] = [
    ("statement_timeout", "4s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];
/// How long a starting gateway waits for the database. A supervisor starts it again after that.
const START_WAIT: Duration = Duration::from_secs(30);
/// How long it waits between attempts.
const START_PAUSE: Duration = Duration::from_millis(250);
/// How long a health question may take before the store counts as down.
const HEALTH_WAIT: Duration = Duration::from_secs(1);
/// How often expired records are removed; they are invisible from the moment they expire.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Records in a PostgreSQL database. Cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Inner>);

struct Inner {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl Postgres {
    /// Connects and brings the database to the current layout. Waits for a database that is not there yet, for up to half a
    /// minute. The URL is libpq's: `postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=ca.pem`.
    ///
    /// # Errors
    /// `records_unavailable` when the database does not answer in that time, refuses the user, is not in UTF-8 or comes from a
    /// newer Portico.
    pub async fn connect(url: &Secret, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Postgres> {
        let options = read(url)?
            .application_name("portico")
            .statement_cache_capacity(PREPARED_STATEMENTS_MAX)
            .options(SESSION)
            .disable_statement_logging();
        prepare(&options).await?;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECTION_WAIT)
            .idle_timeout(IDLE_MAX)
            .max_lifetime(LIFETIME_MAX)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    Ok(about.idle_for < IDLE_TRUSTED
                        || timeout(HEALTH_WAIT, connection.ping()).await.is_ok_and(|answered| answered.is_ok()))
                })
            })
            .connect_lazy_with(options);
        let postgres = Postgres(Arc::new(Inner { pool, clock }));
        tasks.spawn(postgres.clone().sweep_until_closing(tasks.clone()));
        Ok(postgres)
    }

    /// Whether a database takes writes that is left as it is: nothing of its layout is made or expected.
    ///
    /// # Errors
    /// When the URL is malformed.
    pub async fn probe(url: &Secret) -> Result<Health> {
        let options = read(url)?.application_name("portico check").disable_statement_logging();
        let asked = async {
            let mut connection = options.connect().await?;
            let takes_writes = rows::takes_writes(&mut connection).await?;
            connection.close().await.map(|()| takes_writes)
        };
        Ok(match timeout(CONNECTION_WAIT, asked).await {
            Ok(Ok(true)) => Health::OK,
            Ok(Ok(false)) => Health::down("the record store takes no writes"),
            Ok(Err(error)) => Health::down(failure::unavailable(error).report()),
            Err(_elapsed) => Health::down("the record store does not answer in time"),
        })
    }

    async fn sweep_until_closing(self, tasks: Tasks) {
        loop {
            tokio::select! {
                () = tasks.closing() => return,
                () = sleep(SWEEP_EVERY) => {}
            }
            if let Err(error) = self.sweep().await {
                tracing::warn!(
                    error = error.report(),
                    "expired records could not be removed; the next sweep tries again"
                );
            }
        }
    }

    async fn sweep(&self) -> Result<()> {
        let now = self.0.clock.now();
        loop {
            let swept = self.ask(&rows::Sweep { now }).await?;
            if swept < rows::SWEEP_RECORDS_MAX {
                return Ok(());
            }
        }
    }

    /// Asks something that changes nothing, or may be asked twice. A connection that turns out to be dead is replaced.
    async fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer> {
        let latest = Instant::now() + ANSWER_WAIT;
        for attempt in 1.. {
            let mut lease = Lease::take(&self.0.pool).await?;
            let answered = match timeout_at(latest, question.ask(&mut lease)).await {
                Ok(answered) => answered,
                Err(_elapsed) => return Err(failure::silent()),
            };
            match answered {
                Ok(answer) => {
                    lease.give_back();
                    return Ok(answer);
                }
                Err(error) if failure::is_lost(&error) && attempt < lease::ATTEMPTS_MAX => {}
                Err(error) => {
                    if !failure::is_lost(&error) {
                        lease.give_back();
                    }
                    return Err(failure::unavailable(error));
                }
            }
        }
        Err(failure::silent())
    }
}

impl Records for Postgres {
    fn get<'a>(&'a self, collection: &'static str, id: &'a str) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            if has_nul(id) {
                return Ok(None);
            }
            let now = self.0.clock.now();
            self.ask(&rows::Get { collection, id, now }).await
        })
    }

    fn list(&self, mut query: Query) -> Answer<'_, Vec<Record>> {
        Box::pin(async move {
            query.limit = query.limit.min(LIST_RECORDS_MAX);
            let texts = query.facet.iter().map(|(_, value)| value);
            if texts.chain(query.after.iter().flat_map(|(sort, id)| [sort, id])).any(|text| has_nul(text)) {
                return Err(Error::invalid("list", "holds the character U+0000"));
            }
            let now = self.0.clock.now();
            self.ask(&rows::List { query, now }).await
        })
    }

    fn commit(&self, writes: Vec<Write>) -> Answer<'_, Vec<u64>> {
        Box::pin(async move {
            records::check(&writes)?;
            commit::run(&self.0.pool, &writes, self.0.clock.now()).await
        })
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(async move {
            Ok(match timeout(HEALTH_WAIT, self.ask(&rows::TakesWrites)).await {
                Ok(Ok(true)) => Health::OK,
                Ok(Ok(false)) => Health::down("the record store takes no writes"),
                Ok(Err(error)) => Health::down(error.message().to_owned()),
                Err(_elapsed) => Health::down("the record store does not answer in time"),
            })
        })
    }
}

fn read(url: &Secret) -> Result<PgConnectOptions> {
    // The parser's own words may quote the password.
    PgConnectOptions::from_str(url.reveal()).map_err(|_| {
        let message = "the URL of the record store is malformed";
        Error::new(Code::FailedPrecondition, reason::RECORDS_UNAVAILABLE, message)
    })
}

/// Waits for the database and takes the missing steps of its layout.
async fn prepare(options: &PgConnectOptions) -> Result<()> {
    let latest = Instant::now() + START_WAIT;
    let mut is_told = false;
    loop {
        let attempt = async {
            let mut connection = options.connect().await?;
            migrations::run(&mut connection).await?;
            connection.close().await
        };
        let error = match timeout_at(latest, attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if Instant::now() >= latest || !failure::passes(&error) => {
                return Err(failure::refused(error));
            }
            Ok(Err(error)) => error,
            Err(_elapsed) => return Err(failure::silent()),
        };
        if !is_told {
            is_told = true;
            tracing::warn!(%error, seconds = START_WAIT.as_secs(), "waiting for the record store");
        }
        sleep(START_PAUSE).await;
    }
}

/// PostgreSQL keeps no U+0000 in a text; what has one cannot be there.
fn has_nul(text: &str) -> bool {
    text.contains('\0')
}
