//! Which bundles lie unpacked on a host.
//!
//! A newcomer's usual mistake is to look through names. A placement asks this of a thousand hosts with hundreds of bundles
//! each; every name has a number, and numbers in order are found in a few steps.
//!
//! *Knows:* deployment ids. *Does not know:* hosts.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::FixedState;

/// The deployment ids whose bundles lie unpacked on a host. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    ids: Arc<[String]>,
    /// Of each id, in order.
    numbers: Arc<[u64]>,
}

/// The number of a deployment id. Two ids may share one, so it is good for preferences and for nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Number(u64);

impl Number {
    /// Of this id.
    pub fn of(deployment_id: &str) -> Number {
        Number(FixedState::default().hash_one(deployment_id))
    }
}

impl Cached {
    /// Whether the bundle of this number is very likely there.
    pub fn has(&self, number: Number) -> bool {
        self.numbers.binary_search(&number.0).is_ok()
    }

    /// Whether this bundle is there.
    pub fn contains(&self, deployment_id: &str) -> bool {
        self.ids.iter().any(|id| id == deployment_id)
    }

    /// The ids.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }
}

impl FromIterator<String> for Cached {
    fn from_iter<I: IntoIterator<Item = String>>(ids: I) -> Cached {
        let ids: Arc<[String]> = ids.into_iter().collect();
        let mut numbers: Vec<u64> = ids.iter().map(|id| Number::of(id).0).collect();
        numbers.sort_unstable();
        Cached { ids, numbers: numbers.into() }
    }
}
