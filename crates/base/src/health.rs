//! One tri-state health for every port, provider and page.
//!
//! *Knows:* the three states and their order. *Does not know:* how a page spells them, or how anything is probed.

/// How well something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Works.
    Ok,
    /// Answers, but not with all it should.
    Reachable,
    /// Does not answer.
    Down,
}

/// The health of one dependency at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: State,
    /// One sentence for an operator; safe to show to administrators.
    pub note: Option<String>,
    /// How many members work, where the dependency has members.
    pub members: Option<Members>,
}

/// The members of a dependency, such as the hosts of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members {
    /// Those that work.
    pub healthy: u32,
    /// All that are known.
    pub total: u32,
}

impl Health {
    /// Works.
    pub const OK: Health = Health { state: State::Ok, note: None, members: None };

    /// Does not answer, and why.
    pub fn down(note: impl Into<String>) -> Health {
        Health { state: State::Down, note: Some(note.into()), members: None }
    }

    /// Answers partially, and why.
    pub fn reachable(note: impl Into<String>) -> Health {
        Health { state: State::Reachable, note: Some(note.into()), members: None }
    }

    /// The same health with the number of members.
    #[must_use]
    pub fn of_members(self, healthy: u32, total: u32) -> Health {
        Health { members: Some(Members { healthy, total }), ..self }
    }
}
