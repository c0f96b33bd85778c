//! The states of an instance.
//!
//! A newcomer's usual mistake is to refuse a state that is not listed. Hosts are other programs and may be newer than
//! this one: what they call a state is passed on.
//!
//! *Knows:* the states' names and order of life. *Does not know:* what moves an instance from one to the next.

use std::fmt;

/// Where an instance is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A host was chosen and asked.
    Deploying,
    /// The agent starts.
    Initializing,
    /// It waits for messages.
    Ready,
    /// It works on a message.
    Running,
    /// It ends because nobody used it.
    ScalingDown,
    /// It ends because it was told to.
    ShuttingDown,
    /// It has ended in order.
    Terminated,
    /// It did not start, or broke.
    Failed,
    /// Its host does not answer.
    Unreachable,
    /// Another word of its host.
    Other(Box<str>),
}

impl State {
    /// The name on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            State::Deploying => "deploying",
            State::Initializing => "initializing",
            State::Ready => "ready",
            State::Running => "running",
            State::ScalingDown => "scaling_down",
            State::ShuttingDown => "shutting_down",
            State::Terminated => "terminated",
            State::Failed => "failed",
            State::Unreachable => "unreachable",
            State::Other(name) => name,
        }
    }

    /// The state of this name: case does not matter, and spaces and hyphens count as `_`.
    pub fn parse(name: &str) -> State {
        let name = name.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        match name.as_str() {
            "deploying" => State::Deploying,
            "initializing" => State::Initializing,
            "ready" => State::Ready,
            "running" => State::Running,
            "scaling_down" => State::ScalingDown,
            "shutting_down" => State::ShuttingDown,
            "terminated" => State::Terminated,
            "failed" => State::Failed,
            "unreachable" => State::Unreachable,
            _ => State::Other(name.into()),
        }
    }

    /// Whether the instance is on its way to ready.
    pub fn is_starting(&self) -> bool {
        matches!(self, State::Deploying | State::Initializing)
    }

    /// Whether the instance has ended for good.
    pub fn is_over(&self) -> bool {
        matches!(self, State::Terminated | State::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_spell_states_their_way() {
        assert_eq!(State::parse("Scaling Down"), State::ScalingDown);
        assert_eq!(State::parse("shutting-down"), State::ShuttingDown);
        assert_eq!(State::parse("Hibernating").as_str(), "hibernating");
    }
}
