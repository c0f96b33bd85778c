//! What goes into an envelope.
//!
//! A newcomer's usual mistake is to look here for the proof that the right key is at hand. That is the peppers of API keys,
//! which are opened at every start.
//!
//! *Knows:* the layout inside an envelope. *Does not know:* AES, whose secrets these are.

use std::collections::BTreeMap;

use portico_base::{Code, Error, Result, Secret, reason};
use zeroize::Zeroizing;

use super::Values;

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
