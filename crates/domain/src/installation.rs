//! Which installation this is.
//!
//! A newcomer's usual mistake is to take it for a name that people give. Nobody chooses it and nobody sees it: it tells what
//! this installation started on a host from what another one did, and is moved with the records.
//!
//! *Knows:* its id. *Does not know:* gateways, hosts.

use std::sync::Arc;

use portico_base::{Result, Timestamp, id};
use portico_port::records::{Records, conflict};
use serde::{Deserialize, Serialize};

use super::table::{Entity, Table, by_time};

/// The only one of its kind.
const ID: &str = "this";
/// Letters of an id after its prefix: nobody makes the same one.
const LETTERS: usize = 20;

#[derive(Serialize, Deserialize)]
struct Installation {
    id: String,
}

impl Entity for Installation {
    const COLLECTION: &'static str = "installation";

    fn id(&self) -> String {
        ID.to_owned()
    }

    fn sort(&self) -> String {
        by_time(Timestamp(0))
    }
}

/// The id of the installation that these records belong to, made at the first start.
///
/// # Errors
/// Those of the store.
pub async fn id(records: &Arc<dyn Records>) -> Result<String> {
    let table = Table::<Installation>::new(Arc::clone(records));
    if let Some(known) = table.get(ID).await? {
        return Ok(known.value.id);
    }
    let made = Installation { id: id::random("installation_", LETTERS) };
    if table.insert(&made).await? {
        return Ok(made.id);
    }
    // Another gateway was quicker.
    table.get(ID).await?.map(|known| known.value.id).ok_or_else(conflict)
}
