//! What goes into an envelope, and the proof that the right key is at hand.
//!
//! A newcomer's usual mistake is to find out about a wrong key when the first secret is wanted. One sealed record is opened
//! at every start: the pepper of API keys. If it does not open, the house does not.
//!
//! *Knows:* the layout inside an envelope, the pepper. *Does not know:* AES, whose secrets these are.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Values;
use crate::{
    base::{Code, Error, Result, Secret, Timestamp, id, reason},
    domain::table::{Entity, Stored, Table, by_time},
    port::{
        records::{Expect, Records},
        sealer::{Envelope, Sealer},
    },
};

/// Bytes of the pepper, as many as the digest has.
const PEPPER_BYTES: usize = 32;
/// What binds the pepper's envelope to its place.
const PEPPER_PLACE: &str = "portico-pepper|v1";
/// Other gateways may make, or seal anew, the pepper at the same time.
const ATTEMPTS_MAX: usize = 4;

#[derive(Serialize, Deserialize)]
struct Pepper {
    envelope: Envelope,
}

impl Entity for Pepper {
    const COLLECTION: &'static str = "seals";

    fn id(&self) -> String {
        "pepper".to_owned()
    }

    fn sort(&self) -> String {
        by_time(Timestamp(0))
    }
}

/// The pepper of API keys, made at the first start and kept sealed among the records, so that all gateways of a platform
/// share it. Opening it proves at every start that the right sealing key is configured.
///
/// # Errors
/// `secrets_undecryptable` when the records were sealed with another key; the house must not open then.
pub async fn pepper(records: &Arc<dyn Records>, sealer: &dyn Sealer) -> Result<Zeroizing<[u8; PEPPER_BYTES]>> {
    let table = Table::<Pepper>::new(Arc::clone(records));
    for _ in 0..ATTEMPTS_MAX {
        let Some(Stored { value, version }) = table.get("pepper").await? else {
            let mut pepper = Zeroizing::new([0; PEPPER_BYTES]);
            id::fill(&mut *pepper);
            if table.insert(&Pepper { envelope: sealer.seal(PEPPER_PLACE, &*pepper).await? }).await? {
                return Ok(pepper);
            }
            continue;
        };
        let opened =
            sealer.open(PEPPER_PLACE, &value.envelope).await.map_err(|error| wrong_key(&value, sealer, error))?;
        if value.envelope.kid != sealer.kid() {
            let anew = Pepper { envelope: sealer.seal(PEPPER_PLACE, &opened).await? };
            match table.put(&anew, Expect::Version(version)).await {
                // Another gateway was quicker, with the same pepper.
                Err(error) if error.reason() == reason::CONFLICT => {}
                sealed => sealed.map(|_| ())?,
            }
        }
        return opened.as_slice().try_into().map(Zeroizing::new).map_err(Error::internal);
    }
    Err(crate::port::records::conflict())
}

fn wrong_key(pepper: &Pepper, sealer: &dyn Sealer, error: Error) -> Error {
    let message = format!(
        "the stored secrets were sealed with key {}, but the configured one is {}: configure the right key, or name the old one among the previous keys",
        pepper.envelope.kid,
        sealer.kid()
    );
    Error::new(Code::FailedPrecondition, reason::SECRETS_UNDECRYPTABLE, message).caused_by(error)
}

/// Names and values as JSON, wiped when dropped.
pub(super) fn write(values: &Values) -> Result<Zeroizing<Vec<u8>>> {
    let plain: BTreeMap<&str, &str> = values.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    // With room for every escape, no copy is left behind by growing.
    let room = 2 + values.iter().map(|(name, value)| 6 + name.len() + 6 * value.reveal().len()).sum::<usize>();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    serde_json::to_writer(&mut *text, &plain).map_err(Error::internal)?;
    Ok(text)
}

/// Reads what [`write`] wrote.
pub(super) fn read(plain: &[u8]) -> Result<Values> {
    let values: BTreeMap<String, String> = serde_json::from_slice(plain).map_err(|error| {
        Error::new(Code::Internal, reason::SECRETS_UNDECRYPTABLE, "what is stored cannot be read").caused_by(error)
    })?;
    Ok(values.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}
