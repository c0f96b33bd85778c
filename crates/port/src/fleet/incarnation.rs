//! Which of the instances that had one id in turn.
//!
//! A newcomer's usual mistake is to stop an instance by its id alone. An id may be taken anew once it is free, on the same
//! host, and what is late for the old instance must not hit the new one.
//!
//! *Knows:* when two may be one. *Does not know:* who chooses it, who keeps it.

use portico_base::id;
use serde::{Deserialize, Serialize};

/// An opaque word that whoever creates an instance chooses for it and its host keeps. Empty where it is not known: gateways,
/// hosts and records of older versions, and hosts of another maker, do not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(String);

impl Incarnation {
    /// One that no instance had before.
    pub fn fresh() -> Incarnation {
        Incarnation(id::random("incarnation_", 16))
    }

    /// Whether both may be the same one: where either is not known, whichever there is counts.
    pub fn may_be(&self, other: &Incarnation) -> bool {
        self.0.is_empty() || other.0.is_empty() || self == other
    }

    /// The word, where it is known.
    pub fn known(&self) -> Option<&str> {
        Some(self.0.as_str()).filter(|word| !word.is_empty())
    }
}

impl From<String> for Incarnation {
    fn from(word: String) -> Incarnation {
        Incarnation(word)
    }
}

impl From<Incarnation> for String {
    fn from(incarnation: Incarnation) -> String {
        incarnation.0
    }
}
