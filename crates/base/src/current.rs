//! A value that the operator may replace while the gateway runs.
//!
//! A newcomer's usual mistake is to keep what was read. Take it anew for each call: whoever holds an old value goes on
//! with it to the end of that call and no longer.
//!
//! *Knows:* the newest value. *Does not know:* what it means, who replaces it.

use std::sync::{Arc, PoisonError, RwLock};

/// The newest value. Clones share it.
#[derive(Debug)]
pub struct Current<T>(Arc<RwLock<Arc<T>>>);

impl<T> Current<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Current<T> {
        Current(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        // What this lock guards is whole after every statement, so a poisoned lock is still good.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the value for everybody who asks from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Current<T> {
        Current(Arc::clone(&self.0))
    }
}
