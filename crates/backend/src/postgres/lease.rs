//! A connection, borrowed from the pool.
//!
//! A newcomer's usual mistake is to let a call that was dropped return its connection. The answer that is still on its way
//! would be read by the next caller, and a transaction would stay open; so a lease that nobody gave back is closed.
//!
//! *Knows:* the pool. *Does not know:* what is asked.

use portico_base::Result;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};

use super::failure;

/// How often a call starts over with another connection when nothing was done over the first.
pub(super) const ATTEMPTS_MAX: u32 = 8;

/// A connection in use.
pub(super) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    /// Borrows a connection. Waits while all are in use.
    pub(super) async fn take(pool: &PgPool) -> Result<Lease> {
        pool.acquire().await.map(|connection| Lease(Some(connection))).map_err(failure::unavailable)
    }

    /// The connection itself.
    pub(super) fn connection(&mut self) -> sqlx::Result<&mut PgConnection> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Returns the connection: its last answer has been read, and nothing is open.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Closes the socket at once. The server then undoes what was open.
            drop(connection.detach());
        }
    }
}
