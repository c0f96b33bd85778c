//! The layout of the file, as steps that only go forward.
//!
//! A newcomer's usual mistake is to edit a step. Files out there have taken it already: add the next one.
//!
//! *Knows:* SQL and `user_version`. *Does not know:* what uses the tables.

use portico_base::{Code, Error, Result, reason};
use rusqlite::{Connection, TransactionBehavior};

use super::unavailable;

/// The steps. The number of those taken is the `user_version` of the file.
const STEPS: &[&str] = &[include_str!("migrations/0001_records.sql")];

/// Takes the steps that are missing, all or none.
///
/// # Errors
/// `records_unavailable` when the file cannot be changed, or has taken steps that this program does not know.
pub(super) fn run(connection: &mut Connection) -> Result<()> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(unavailable)?;
    let taken: u32 = change.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(unavailable)?;
    let missing = STEPS.get(taken as usize..).ok_or_else(|| {
        let message = format!("records.db has layout {taken}, and this Portico knows {}: run a newer one", STEPS.len());
        Error::new(Code::FailedPrecondition, reason::RECORDS_UNAVAILABLE, message)
    })?;
    for (step, version) in missing.iter().zip(taken + 1..) {
        change.execute_batch(step).map_err(unavailable)?;
        change.pragma_update(None, "user_version", version).map_err(unavailable)?;
    }
    change.commit().map_err(unavailable)
}
