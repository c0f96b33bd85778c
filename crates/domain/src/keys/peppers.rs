//! The peppers of a platform: what keys are digested under, and what became of earlier ones.
//!
//! A newcomer's usual mistake is to change the pepper in one stroke. A key cannot be digested again without the key; so
//! each stored key says under which pepper it was digested, and is moved to the current one when it is used. A pepper that
//! no key needs any more is thrown away.
//!
//! They are kept sealed among the records, all in one, so that the gateways of a platform share them. One that does not
//! know a pepper yet reads them again before it refuses anybody. Opening them proves at every start that the right sealing
//! key is at hand.
//!
//! *Knows:* the ring of peppers, how it is stored and sealed. *Does not know:* AES, which keys exist.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use portico_base::{Clock, Code, Error, Result, Timestamp, id, reason};
use portico_port::{
    records::{self, Expect, Records},
    sealer::{Envelope, Sealer},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::digest::Digester;
use crate::table::{Entity, Stored, Table, by_time};

/// Bytes of a pepper, as many as a digest has.
const PEPPER_BYTES: usize = 32;
/// The id of the pepper that the first start makes.
pub(super) const FIRST: &str = "first";
/// What binds the envelope of the first pepper to its place; those of later ones have their id behind it.
const PLACE: &str = "portico-pepper|v1";
/// Other gateways may change the ring at the same time.
const ATTEMPTS_MAX: usize = 8;
/// Most peppers at the same time. Each rotation waits for the keys that are in use, and nobody rotates every day.
const PEPPERS_MAX: usize = 16;
/// How old the ring may be that a new digest is made by. Much shorter than [`SETTLED`].
const RECENT: Duration = Duration::from_secs(10);
/// How long a gateway must have known a pepper as the current one before it throws earlier ones away: longer than any digest
/// under an earlier one can be on its way into the store.
const SETTLED: Duration = Duration::from_secs(300);

/// The peppers of a platform. Cheap to clone.
#[derive(Clone)]
pub struct Peppers(Arc<Inner>);

struct Inner {
    table: Table<Sealed>,
    sealer: Arc<dyn Sealer>,
    clock: Arc<dyn Clock>,
    ring: RwLock<Arc<Ring>>,
}

/// The peppers as they were read.
pub(super) struct Ring {
    version: u64,
    read_at: Instant,
    /// Since when the current pepper is known here as that.
    current_since: Instant,
    /// Oldest first; never none.
    peppers: Vec<Pepper>,
}

/// One pepper.
pub(super) struct Pepper {
    pub(super) id: String,
    pub(super) created_at: Timestamp,
    pub(super) digester: Digester,
}

impl Ring {
    /// The one that new digests are made under.
    pub(super) fn current(&self) -> &Pepper {
        &self.peppers[self.peppers.len() - 1]
    }

    /// Whether the current pepper has been that for long enough, as far as is known here. By a clock that nobody sets: the
    /// clock on the wall may jump.
    pub(super) fn is_settled(&self) -> bool {
        self.current_since.elapsed() >= SETTLED
    }

    /// The one of this id.
    pub(super) fn get(&self, id: &str) -> Option<&Pepper> {
        self.peppers.iter().find(|pepper| pepper.id == id)
    }

    /// All, oldest first.
    pub(super) fn all(&self) -> &[Pepper] {
        &self.peppers
    }
}

/// The ring as it is stored.
#[derive(Clone, Default, Serialize, Deserialize)]
struct Sealed {
    /// The first pepper, until it is thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<Envelope>,
    /// Later ones, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later: Vec<SealedPepper>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SealedPepper {
    id: String,
    created_at: Timestamp,
    envelope: Envelope,
}

impl Entity for Sealed {
    const COLLECTION: &'static str = "seals";

    fn id(&self) -> String {
        "pepper".to_owned()
    }

    fn sort(&self) -> String {
        by_time(Timestamp(0))
    }
}

impl Peppers {
    /// Opens the peppers of these records; the first start makes one. What an earlier sealing key sealed is sealed anew.
    ///
    /// # Errors
    /// `secrets_undecryptable` when the records were sealed with another key; the house must not open then.
    pub async fn open(records: &Arc<dyn Records>, sealer: Arc<dyn Sealer>, clock: Arc<dyn Clock>) -> Result<Peppers> {
        let table = Table::<Sealed>::new(Arc::clone(records));
        for _ in 0..ATTEMPTS_MAX {
            let (sealed, expect) = match table.get("pepper").await? {
                Some(Stored { value, version }) => (value, Expect::Version(version)),
                None => (Sealed { envelope: Some(fresh(&*sealer, FIRST).await?), later: Vec::new() }, Expect::Absent),
            };
            let opened = sealed.open(&*sealer).await?;
            let version = match (&expect, sealed.is_sealed_with(sealer.kid())) {
                (Expect::Version(version), true) => *version,
                _ => match table.put(&Sealed::seal(&*sealer, &opened).await?, expect).await {
                    // Another gateway was quicker.
                    Err(error) if error.reason() == reason::CONFLICT => continue,
                    written => written?,
                },
            };
            let ring = RwLock::new(Arc::new(ring(version, &opened)));
            return Ok(Peppers(Arc::new(Inner { table, sealer, clock, ring })));
        }
        Err(records::conflict())
    }

    /// The ring as it was read last.
    pub(super) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.0.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ring as it is now.
    ///
    /// # Errors
    /// The store's; `secrets_undecryptable` when another gateway sealed with a key that is not known here.
    pub(super) async fn read(&self) -> Result<Arc<Ring>> {
        let Some(Stored { value, version }) = self.0.table.get("pepper").await? else {
            return Err(Error::internal("the peppers are gone from the records"));
        };
        Ok(self.keep(ring(version, &value.open(&*self.0.sealer).await?)))
    }

    /// A ring that is recent enough to make digests by.
    ///
    /// # Errors
    /// As for [`Peppers::read`].
    pub(super) async fn recent(&self) -> Result<Arc<Ring>> {
        let ring = self.ring();
        if ring.read_at.elapsed() < RECENT { Ok(ring) } else { self.read().await }
    }

    /// Makes a new pepper the current one.
    ///
    /// # Errors
    /// `too_many_peppers` when earlier ones are still needed by keys; the store's.
    pub(super) async fn rotate(&self) -> Result<Arc<Ring>> {
        let id = id::random("pepper_", 12);
        let made = SealedPepper { envelope: fresh(&*self.0.sealer, &id).await?, id, created_at: self.0.clock.now() };
        self.change(|sealed| {
            if sealed.later.len() + usize::from(sealed.envelope.is_some()) >= PEPPERS_MAX {
                let message = format!("{PEPPERS_MAX} peppers are still needed by keys; revoke what nobody uses");
                return Err(Error::new(Code::FailedPrecondition, reason::TOO_MANY_PEPPERS, message));
            }
            sealed.later.push(made.clone());
            Ok(())
        })
        .await
    }

    /// Throws earlier peppers away that nobody needs.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn drop(&self, unneeded: &[String]) -> Result<Arc<Ring>> {
        self.change(|sealed| {
            // The current one is needed by the next key.
            let Some(current) = sealed.later.pop() else { return Ok(()) };
            sealed.later.retain(|pepper| !unneeded.contains(&pepper.id));
            sealed.later.push(current);
            sealed.envelope = sealed.envelope.take().filter(|_| !unneeded.iter().any(|id| id == FIRST));
            Ok(())
        })
        .await
    }

    async fn change(&self, change: impl Fn(&mut Sealed) -> Result<()>) -> Result<Arc<Ring>> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(Stored { mut value, version }) = self.0.table.get("pepper").await? else { break };
            change(&mut value)?;
            match self.0.table.put(&value, Expect::Version(version)).await {
                Err(error) if error.reason() == reason::CONFLICT => {}
                Err(error) => return Err(error),
                Ok(version) => return Ok(self.keep(ring(version, &value.open(&*self.0.sealer).await?))),
            }
        }
        Err(records::conflict())
    }

    /// Keeps what was read, unless something newer was read meanwhile.
    fn keep(&self, read: Ring) -> Arc<Ring> {
        let mut ring = self.0.ring.write().unwrap_or_else(PoisonError::into_inner);
        if read.version >= ring.version {
            let is_same = read.current().id == ring.current().id;
            let current_since = if is_same { ring.current_since } else { read.current_since };
            *ring = Arc::new(Ring { current_since, ..read });
        }
        Arc::clone(&ring)
    }
}

/// A pepper that was opened.
struct Opened {
    id: String,
    created_at: Timestamp,
    bytes: Zeroizing<[u8; PEPPER_BYTES]>,
}

impl Sealed {
    /// # Errors
    /// `secrets_undecryptable`.
    async fn open(&self, sealer: &dyn Sealer) -> Result<Vec<Opened>> {
        let first = self.envelope.iter().map(|envelope| (FIRST, Timestamp(0), envelope));
        let later = self.later.iter().map(|pepper| (pepper.id.as_str(), pepper.created_at, &pepper.envelope));
        let mut opened = Vec::new();
        for (id, created_at, envelope) in first.chain(later) {
            let plain = sealer.open(&place(id), envelope).await.map_err(|error| wrong_key(envelope, sealer, error))?;
            let bytes = plain.as_slice().try_into().map(Zeroizing::new).map_err(Error::internal)?;
            opened.push(Opened { id: id.to_owned(), created_at, bytes });
        }
        if opened.is_empty() { Err(Error::internal("there is no pepper")) } else { Ok(opened) }
    }

    async fn seal(sealer: &dyn Sealer, peppers: &[Opened]) -> Result<Sealed> {
        let mut sealed = Sealed::default();
        for Opened { id, created_at, bytes } in peppers {
            let envelope = sealer.seal(&place(id), &**bytes).await?;
            if id == FIRST {
                sealed.envelope = Some(envelope);
            } else {
                sealed.later.push(SealedPepper { id: id.clone(), created_at: *created_at, envelope });
            }
        }
        Ok(sealed)
    }

    fn is_sealed_with(&self, kid: &str) -> bool {
        self.envelope.iter().chain(self.later.iter().map(|pepper| &pepper.envelope)).all(|it| it.kid == kid)
    }
}

fn ring(version: u64, peppers: &[Opened]) -> Ring {
    let peppers = peppers.iter().map(|Opened { id, created_at, bytes }| Pepper {
        id: id.clone(),
        created_at: *created_at,
        digester: Digester::new(bytes),
    });
    let now = Instant::now();
    Ring { version, read_at: now, current_since: now, peppers: peppers.collect() }
}

async fn fresh(sealer: &dyn Sealer, id: &str) -> Result<Envelope> {
    let mut pepper = Zeroizing::new([0; PEPPER_BYTES]);
    id::fill(&mut *pepper);
    sealer.seal(&place(id), &*pepper).await
}

fn place(id: &str) -> String {
    if id == FIRST { PLACE.to_owned() } else { format!("{PLACE}|{id}") }
}

fn wrong_key(envelope: &Envelope, sealer: &dyn Sealer, error: Error) -> Error {
    let message = format!(
        "the stored secrets were sealed with key {}, but the configured one is {}: configure the right key, or name the old one among the previous keys",
        envelope.kid,
        sealer.kid()
    );
    Error::new(Code::FailedPrecondition, reason::SECRETS_UNDECRYPTABLE, message).caused_by(error)
}
