//! Looking at an instance: what is written down, with what its host says now.

use std::time::Duration;

use portico_base::{Context, Result, Timestamp, reason};
use portico_port::{
    fleet::{Info, State, Usage, failure},
    records::Expect,
};
use serde_json::{Map, Value};
use tokio::time::{Instant as Moment, timeout, timeout_at};

use super::{Inner, Instances, not_found, record::Instance, rules};

/// How long a host may take to say how an instance is.
const INFO_PATIENCE: Duration = Duration::from_secs(5);
/// How long the record of an instance that ended by itself is kept.
pub(super) const ENDED_KEPT: Duration = Duration::from_secs(3_600);

/// An instance as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What is written down. Its configuration is redacted.
    pub instance: Instance,
    /// What it uses, when its host answers.
    pub usage: Option<Usage>,
    /// When a frame last passed.
    pub last_activity_at: Option<Timestamp>,
    /// Whether its host did not answer, so that this is the stored copy.
    pub stale: bool,
}

impl Shown {
    /// Without asking its host.
    pub(super) fn stored(instance: Instance) -> Shown {
        Shown { instance, usage: None, last_activity_at: None, stale: false }
    }

    /// Its host does not say how it is.
    fn unreachable(instance: Instance) -> Shown {
        if State::parse(&instance.status).is_over() {
            return Shown::stored(instance);
        }
        Shown { stale: true, ..Shown::stored(Instance { status: State::Unreachable.to_string(), ..instance }) }
    }

    /// Without what it uses.
    pub(super) fn without_usage(self) -> Shown {
        Shown { usage: None, ..self }
    }
}

impl Instance {
    /// The same after it has ended by itself. The record is kept for a while.
    pub(super) fn over(self, now: Timestamp, state: &State) -> Instance {
        Instance { status: state.to_string(), updated_at: now, expires_at: Some(now.plus(ENDED_KEPT)), ..self }
    }
}

impl Instances {
    /// An instance with what its host says now. A host that does not answer makes it `unreachable`, not gone.
    ///
    /// # Errors
    /// `instance_not_found`.
    pub async fn get(&self, cx: &Context, id: &str) -> Result<Shown> {
        let instance = self.0.visible(cx, id).await?.value;
        if instance.is_tombstone() {
            return Err(not_found(id));
        }
        Ok(self.0.shown_to(Some(cx), cx.now(), instance).await)
    }
}

impl Inner {
    /// An instance with what its host says now, as the house asks it. What has ended is written down as such.
    pub(super) async fn shown(&self, now: Timestamp, instance: Instance) -> Shown {
        self.shown_to(None, now, instance).await
    }

    /// The same, asked for by a call where there is one.
    async fn shown_to(&self, cx: Option<&Context>, now: Timestamp, mut instance: Instance) -> Shown {
        let known = State::parse(&instance.status);
        let Some(mut at) = instance.at().filter(|_| !known.is_over()) else { return Shown::stored(instance) };
        if let Some(cx) = cx {
            at = at.asked_by(cx);
        }
        let fleet = &self.ground.fleet;
        let answered = timeout(INFO_PATIENCE, fleet.info(&at)).await.unwrap_or_else(|_| Err(failure::timeout()));
        match answered {
            Ok(Info { state, usage, chronicle, last_activity_at, .. }) => {
                if state.is_over() {
                    instance = self.ended(now, instance, &state).await;
                }
                // The host does not know why it is to stop an instance.
                if state.is_over() || known != State::ScalingDown {
                    instance.status = state.to_string();
                }
                instance.chronicle = chronicle.or(instance.chronicle);
                instance.config = self.configured(&instance);
                Shown { instance, usage, last_activity_at, stale: false }
            }
            // It may not have arrived there yet, or be gone from there already.
            Err(error)
                if error.reason() == reason::INSTANCE_NOT_FOUND
                    && matches!(known, State::Deploying | State::ScalingDown | State::ShuttingDown) =>
            {
                Shown::stored(instance)
            }
            Err(error) if error.reason() == reason::INSTANCE_NOT_FOUND => {
                Shown::stored(self.ended(now, instance, &State::Failed).await)
            }
            Err(_) => Shown::unreachable(instance),
        }
    }

    /// What an instance is configured with by now: it is told of changed defaults. Redacted.
    fn configured(&self, instance: &Instance) -> Map<String, Value> {
        let defaults = self.ground.settings.current().effective_defaults(&instance.agent_type);
        let mut config = rules::redacted(&defaults, [].iter());
        for (name, given) in &instance.config {
            if instance.own_config.contains(name) || (config.contains_key(name) && *given == rules::REDACTED) {
                config.insert(name.clone(), given.clone());
            }
        }
        config
    }

    /// The same, and `unreachable` when that is not known by then.
    pub(super) async fn shown_by(&self, until: Moment, now: Timestamp, instance: Instance) -> Shown {
        let known = instance.clone();
        timeout_at(until, self.shown(now, instance)).await.unwrap_or_else(|_| Shown::unreachable(known))
    }

    /// The state of an instance now, as far as it is known.
    pub(super) async fn seen(&self, now: Timestamp, instance: &Instance) -> State {
        State::parse(&self.shown(now, instance.clone()).await.instance.status)
    }

    /// Writes down that an instance has ended by itself, and that its record is kept for a while.
    async fn ended(&self, now: Timestamp, instance: Instance, state: &State) -> Instance {
        let ended = instance.clone().over(now, state);
        self.write_if_unchanged(&instance, &ended).await;
        ended
    }

    /// Writes a newer picture of an instance, unless somebody changed the record meanwhile, who then knows better.
    pub(super) async fn write_if_unchanged(&self, seen: &Instance, newer: &Instance) {
        let written = match self.table.get(&seen.id).await {
            Ok(Some(stored)) if stored.value == *seen => self.table.put(newer, Expect::Version(stored.version)).await,
            Ok(_) => return,
            Err(error) => Err(error),
        };
        if let Err(error) = written
            && error.reason() != reason::CONFLICT
        {
            tracing::warn!(
                instance.id = seen.id,
                problem = error.report(),
                "the state of an instance was not written down"
            );
        }
    }
}
