//! Creating an instance: checked, written down, placed, and either running or gone without a trace.
//!
//! A newcomer's usual mistake is to try another host after every failure. What may have happened is asked of the host
//! first; only when nothing was done, or it is known to be gone, is another one tried.

mod earlier;
mod quota;

use std::{collections::BTreeMap, pin::pin, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use portico_base::{Code, Context, Error, Result, Retry, Secret, TenantId, Timestamp, id, reason};
use portico_port::{
    fleet::{Asked, At, Bundle, Incarnation, Info, Start, State, Stop, failure},
    records::{self, Expect, Write},
};
use serde_json::{Map, Value, json};
use tokio::time::{Instant as Moment, sleep, timeout, timeout_at};

use self::earlier::{RENEWED_EVERY, Repeated};
pub(super) use self::quota::Quota;
use super::{
    Attempt, Inner, Instances,
    record::{Instance, Request},
    rules,
};
use crate::{
    deployments::{Deployment, Wanted},
    placement::Nowhere,
    table::{self, Stored},
};

/// How long creating may take, bundle and all; clients give up after about as long.
const CREATE_PATIENCE: Duration = Duration::from_secs(60);
/// Most hosts that are tried.
const HOSTS_TRIED_MAX: usize = 3;
/// How long a host may take to say what became of a start that it did not answer.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
/// How long whoever lost a claim waits at most the first time; twice as long each further time.
const LOST_PAUSE_FIRST: Duration = Duration::from_millis(10);
/// How long at most at all: far below what a caller waits, and long enough for a hundred others to be written down.
const LOST_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long an idempotency key is remembered.
const REQUEST_KEPT: Duration = Duration::from_secs(24 * 3_600);

/// The header that names a request, so that a repetition is known.
const KEY: &str = "idempotency-key";

/// What is asked for.
#[derive(Clone, Default)]
pub struct NewInstance {
    /// `{type}:{version}@{hash_prefix}`, or empty for the newest of `agent_type`.
    pub deployment_id: String,
    /// The agent type whose newest version is wanted; looked at when `deployment_id` is empty.
    pub agent_type: String,
    /// The id to use; generated when empty.
    pub agent_id: String,
    /// Over the platform's defaults.
    pub config: Map<String, Value>,
    /// Over the stored secrets.
    pub secrets: BTreeMap<String, Secret>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Created {
    /// The instance.
    pub instance: Instance,
    /// Whether it had been created before by the same request.
    pub existing: bool,
}

impl Instances {
    /// Creates an instance. Repeating the request with the same `agent_id` or idempotency key answers the one that is there.
    ///
    /// # Errors
    /// `validation_failed`; those of [`Deployments::resolve`](super::Deployments::resolve); `instance_id_conflict` and
    /// `idempotency_conflict` when the id or key was used for another request; `quota_exceeded`;
    /// `no_coordinator_available`, `capacity_exhausted` and the host's failures; `conflict` when others were quicker all the
    /// time, so that nothing was begun.
    pub async fn create(&self, cx: &Context, new: NewInstance) -> Result<Created> {
        let created = self.0.create(cx, new).await;
        let subject = created.as_ref().map_or("", |created| created.instance.id.as_str());
        self.0.ground.audit.note(cx, "instance.create", subject, &created);
        created
    }
}

impl Inner {
    async fn create(&self, cx: &Context, new: NewInstance) -> Result<Created> {
        check(&new)?;
        let fingerprint = fingerprint(&new)?;
        let until = Moment::now() + CREATE_PATIENCE;
        let (mut lost, mut is_begun) = (0, false);
        while Moment::now() < until {
            let given = self.ground.settings.current();
            let (mut record, start) = match self.claim(cx, &new, &fingerprint, until).await? {
                Claim::Ours(record, start) => (*record, *start),
                Claim::Settled(instance) => return Ok(Created { instance: *instance, existing: true }),
                Claim::Lost => {
                    lost += 1;
                    sleep(lost_pause(lost)).await;
                    continue;
                }
            };
            is_begun = true;
            let error = match self.run(cx, &start, &mut record, until).await {
                Ok(instance) => {
                    self.catch_up(&instance, &given).await;
                    return Ok(Created { instance, existing: false });
                }
                Err(error) => error,
            };
            if self.forgotten(&record).await? {
                return Err(error);
            }
        }
        Err(if is_begun { failure::timeout() } else { records::conflict() })
    }

    /// Writes the instance down before anything else is done, so that a repetition finds it; or finds what an earlier
    /// request for the same wrote down.
    async fn claim(&self, cx: &Context, new: &NewInstance, fingerprint: &str, until: Moment) -> Result<Claim> {
        let mut key = None;
        if let Some(name) = cx.metadata.get(KEY) {
            rules::idempotency_key(name)?;
            key = match self.repeated(cx, name, fingerprint).await? {
                Repeated::Is(stored) => return self.take_up(cx, new, *stored, until).await,
                Repeated::Gone(instance) => return Ok(Claim::Settled(instance)),
                Repeated::Not => Some(name),
            };
        }
        let wanted =
            if new.deployment_id.is_empty() { Wanted::Latest(&new.agent_type) } else { Wanted::Id(&new.deployment_id) };
        let deployment = self.ground.deployments.resolve(cx, wanted).await?;
        if !new.agent_type.is_empty() && new.agent_type != deployment.agent_type {
            return Err(Error::invalid("agent_type", "is not that of the deployment"));
        }
        let instance = if new.agent_id.is_empty() { id::random("agent_", 20) } else { new.agent_id.clone() };

        let replaced = match self.occupied(cx, &instance, fingerprint).await? {
            Occupied::ByThisRequest(stored) => return self.take_up(cx, new, *stored, until).await,
            Occupied::ByAnEndedOne(version) => Expect::Version(version),
            Occupied::Not => Expect::Absent,
        };
        let counted = self.within_quota(cx).await?;
        let own_config = new.config.keys().cloned().collect();
        let start = self.start(cx, &deployment, &instance, Incarnation::fresh(), new.clone()).await?;
        let request = key.map(str::to_owned);
        let value = Instance { own_config, request, ..deploying(cx, &deployment, &start, fingerprint.to_owned()) };
        match self.write_down(cx, &value, replaced, counted).await {
            // Somebody else wrote down the id or the key first: the same request through another gateway, perhaps. Or the
            // tenant has got another instance since its quota was counted.
            Err(error) if error.reason() == reason::CONFLICT => Ok(Claim::Lost),
            Err(error) => Err(error),
            Ok(version) => Ok(Claim::Ours(Box::new(Stored { value, version }), Box::new(start))),
        }
    }

    /// Starts the instance where somebody who is gone may have begun to, or on a host that is chosen now.
    async fn run(&self, cx: &Context, start: &Start, record: &mut Stored<Instance>, until: Moment) -> Result<Instance> {
        if let Some(at) = record.value.at().map(|at| at.asked_by(cx)) {
            match self.settled(&at, failure::timeout()).await {
                Ok(info) => return self.begun(cx, &at, record, info).await,
                Err(error) if error.retry_hint() == Retry::Safe => {}
                Err(error) => return Err(error),
            }
        }
        self.place(cx, start, record, until).await
    }

    /// Writes down an instance that is to be, the idempotency key of its request, and that its tenant has one more; or
    /// nothing.
    async fn write_down(&self, cx: &Context, record: &Instance, expect: Expect, counted: Option<Write>) -> Result<u64> {
        let mut writes = vec![table::write(record, expect)?];
        writes.extend(counted);
        if let Some(request) = Request::of(record, cx.now().plus(REQUEST_KEPT)) {
            writes.push(table::write(&request, Expect::Absent)?);
        }
        let versions = self.ground.records.commit(writes).await?;
        Ok(versions.first().copied().unwrap_or_default())
    }

    /// Forgets an instance that did not come to be, so that a repetition finds nothing. Whoever deleted it meanwhile, or took
    /// the id or the key anew, is left alone. False when somebody else goes on with it.
    async fn forgotten(&self, record: &Stored<Instance>) -> Result<bool> {
        let instance = &record.value;
        if let Some(stored) = self.table.get(&instance.id).await?
            && stored.value.is_same(instance)
            && !stored.value.is_tombstone()
        {
            if stored.version != record.version && !stored.value.is_leaving() {
                return Ok(false);
            }
            self.never_was(&stored).await?;
        }
        Ok(true)
    }

    /// Chooses a host and starts the instance there.
    async fn place(
        &self,
        cx: &Context,
        start: &Start,
        record: &mut Stored<Instance>,
        until: Moment,
    ) -> Result<Instance> {
        let (mut tried, mut failed): (Vec<String>, Option<Error>) = (Vec::new(), None);
        loop {
            let hosts = self.ground.fleet.hosts().await?;
            let host = match self.placement.choose(&hosts, &record.value.deployment_id, &tried) {
                Ok(host) => host,
                Err(_) if failed.is_some() => break,
                Err(none) => return Err(nowhere(none)),
            };
            if failed.is_some() {
                (self.ground.told)(Attempt::Retried);
            }
            let at = At::new(&host.id, &start.instance).of(start.incarnation.clone()).asked_by(cx);
            record.value.epoch.clone_from(&host.epoch);
            // Not held while a host is waited for: who changes what others hold has to copy it.
            drop(hosts);
            let _on_its_way = self.placement.on_its_way(&at.host);
            record.value.coordinator_id = Some(at.host.clone());
            let written = self.update(record).await;
            record.version = written.map_err(|error| conflict(error, &at.instance))?;

            let mut begun = pin!(self.begin(&at, start.clone(), until));
            let answered = loop {
                match timeout(RENEWED_EVERY, &mut begun).await {
                    Ok(answered) => break answered,
                    Err(_) => {
                        // Whoever changed it meanwhile is heard of at the end.
                        let _still_ours = self.renew(cx, record).await;
                    }
                }
            };
            let error = match answered {
                Ok(info) => {
                    (self.ground.told)(Attempt::Placed);
                    return self.begun(cx, &at, record, info).await;
                }
                Err(error) => error,
            };
            tried.push(at.host.clone());
            let elsewhere = matches!(error.retry_hint(), Retry::After(_) | Retry::Safe);
            failed = Some(error);
            if !elsewhere || tried.len() >= HOSTS_TRIED_MAX || Moment::now() >= until {
                break;
            }
        }
        (self.ground.told)(Attempt::Failed);
        Err(failed.unwrap_or_else(failure::timeout))
    }

    /// Starts the instance on one host. When what became of it is unclear, the host is asked.
    async fn begin(&self, at: &At, start: Start, until: Moment) -> Result<Info> {
        let fleet = &self.ground.fleet;
        let begun = timeout_at(until, fleet.create(&at.host, start)).await.unwrap_or_else(|_| Err(failure::timeout()));
        match begun {
            Err(error) if error.retry_hint() == Retry::MayRepeat => self.settled(at, error).await,
            begun => begun,
        }
    }

    /// Asks a host what became of a start that it did not answer. When it does not say, it is told to stop whatever it
    /// began.
    ///
    /// # Errors
    /// The one given, which may be followed by another attempt (`Retry::Safe`) when the host does not know the instance.
    async fn settled(&self, at: &At, error: Error) -> Result<Info> {
        let fleet = &self.ground.fleet;
        match timeout(SETTLE_PATIENCE, fleet.info(at)).await.unwrap_or_else(|_| Err(failure::timeout())) {
            Ok(info) => Ok(info),
            Err(lost) if lost.reason() == reason::INSTANCE_NOT_FOUND => Err(error.retry(Retry::Safe)),
            Err(unsaid) => {
                if let Err(left) = fleet.stop(at, Stop::Now).await {
                    tracing::warn!(
                        instance.id = at.instance,
                        host.id = at.host,
                        problem = left.report(),
                        "may have been left running"
                    );
                }
                // A host that answers nonsense has failed; one that is silent may yet have done it.
                Err(match unsaid.reason() {
                    reason::COORDINATOR_ERROR => error,
                    _ => failure::timeout().caused_by(error),
                })
            }
        }
    }

    /// Writes down what the host said. Whoever deleted the instance meanwhile wins; whoever took its start up meanwhile, for
    /// a repetition of the request, finds the same.
    async fn begun(&self, cx: &Context, at: &At, record: &mut Stored<Instance>, info: Info) -> Result<Instance> {
        loop {
            record.value.status = info.state.to_string();
            record.value.chronicle.clone_from(&info.chronicle);
            record.value.updated_at = cx.now();
            let error = match self.update(record).await {
                Ok(version) => {
                    record.version = version;
                    return Ok(record.value.clone());
                }
                Err(error) => error,
            };
            let now = if error.reason() == reason::CONFLICT { self.table.get(&at.instance).await? } else { None };
            let is_ours = |now: &Instance| {
                now.is_same(&record.value) && now.host() == at.host && !now.is_tombstone() && !now.is_leaving()
            };
            match now.filter(|now| is_ours(&now.value)) {
                Some(now) => *record = now,
                None => {
                    self.ground.fleet.stop(at, Stop::Now).await?;
                    return Err(conflict(error, &at.instance));
                }
            }
        }
    }

    /// Who has this id. What has ended makes room, on its host too.
    async fn occupied(&self, cx: &Context, id: &str, fingerprint: &str) -> Result<Occupied> {
        let Some(stored) = self.table.get(id).await? else { return Ok(Occupied::Not) };
        let instance = stored.value;
        if !cx.caller.owns(&instance.tenant()) {
            return Err(failure::taken(id));
        }
        let ended = instance.is_tombstone() || self.seen(cx.now(), &instance).await.is_over();
        if ended {
            // What was deleted in order is gone from its host; what is owed to a host must not be forgotten.
            let is_gone = instance.is_tombstone() && !instance.owed;
            if let Some(at) = instance.at().filter(|_| !is_gone) {
                match self.ground.fleet.stop(&at, Stop::Now).await {
                    Err(error) if error.reason() != reason::INSTANCE_NOT_FOUND => return Err(error),
                    _ => {}
                }
            }
            return Ok(Occupied::ByAnEndedOne(stored.version));
        }
        if instance.fingerprint == fingerprint {
            Ok(Occupied::ByThisRequest(Box::new(Stored { value: instance, version: stored.version })))
        } else {
            Err(failure::taken(id))
        }
    }

    /// Defaults under the request's configuration, stored secrets under its secrets.
    async fn start(
        &self,
        cx: &Context,
        deployment: &Deployment,
        instance: &str,
        incarnation: Incarnation,
        new: NewInstance,
    ) -> Result<Start> {
        let agent_type = &deployment.agent_type;
        let mut config = self.ground.settings.current().effective_defaults(agent_type);
        config.extend(new.config);
        let tenant = &cx.caller.tenant;
        // A tenant's own agent type of the same name must not get at what administrators keep for theirs, whoever starts it.
        let owner = deployment.tenant();
        let mut secrets = if owner.is_shared() {
            self.ground.secrets.opened_over_shared(tenant, agent_type).await?
        } else {
            self.ground.secrets.opened(&owner, agent_type).await?
        };
        secrets.extend(new.secrets);
        Ok(Start {
            instance: instance.to_owned(),
            bundle: Bundle {
                deployment_id: deployment.deployment_id(),
                agent_type: agent_type.clone(),
                version: deployment.version.clone(),
                checksum: deployment.checksum.clone(),
                blob_key: deployment.blob_key.clone(),
            },
            config,
            secrets,
            environment: new.environment,
            tenant: TenantId::clone(tenant),
            installation: self.ground.installation.clone(),
            incarnation,
            asked: Asked::by(cx),
        })
    }
}

/// Who starts the instance.
enum Claim {
    /// This request.
    Ours(Box<Stored<Instance>>, Box<Start>),
    /// An earlier one has.
    Settled(Box<Instance>),
    /// Something changed while it was looked at.
    Lost,
}

enum Occupied {
    Not,
    ByThisRequest(Box<Stored<Instance>>),
    ByAnEndedOne(u64),
}

/// How long to wait after so many claims were lost. Each waits for a time of its own: who lost together would try again
/// together, and all but one lose again.
fn lost_pause(lost: u32) -> Duration {
    let most = LOST_PAUSE_FIRST.saturating_mul(1 << (lost - 1).min(10)).min(LOST_PAUSE_MAX);
    let mut bytes = [0; 8];
    id::fill(&mut bytes);
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(1 + u64::from_le_bytes(bytes) % most)
}

fn check(new: &NewInstance) -> Result<()> {
    if new.deployment_id.is_empty() && new.agent_type.is_empty() {
        let message = "deployment_id is missing (or agent_type, for its newest version)";
        return Err(Error::new(Code::InvalidArgument, reason::MISSING_FIELD, message).with(
            portico_base::error::Detail::Field { path: "deployment_id".to_owned(), reason: "is missing".to_owned() },
        ));
    }
    rules::config(&new.config)?;
    rules::secrets(&new.secrets)?;
    rules::environment(&new.environment)?;
    if new.agent_id.is_empty() { Ok(()) } else { rules::agent_id(&new.agent_id) }
}

/// What a repetition has in common with the request: all it says but the values of its secrets, which are not kept in any
/// form.
fn fingerprint(new: &NewInstance) -> Result<String> {
    let said = json!({
        "deployment_id": new.deployment_id,
        "agent_type": new.agent_type,
        "agent_id": new.agent_id,
        "config": sorted(&Value::Object(new.config.clone())),
        "secrets": new.secrets.keys().collect::<Vec<_>>(),
        "environment": new.environment,
    });
    let text = serde_json::to_vec(&said).map_err(Error::internal)?;
    Ok(STANDARD_NO_PAD.encode(digest(&SHA256, &text)))
}

/// The same value with members in order, since their order says nothing.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<&String, Value> = members.iter().map(|(name, value)| (name, sorted(value))).collect();
            ordered.into_iter().map(|(name, value)| (name.clone(), value)).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

fn deploying(cx: &Context, deployment: &Deployment, start: &Start, fingerprint: String) -> Instance {
    let now: Timestamp = cx.now();
    Instance {
        id: start.instance.clone(),
        tenant_id: cx.caller.tenant.to_string(),
        key_id: cx.caller.key_id().map(str::to_owned),
        deployment_id: deployment.deployment_id(),
        agent_type: deployment.agent_type.clone(),
        version: deployment.version.clone(),
        coordinator_id: None,
        epoch: String::new(),
        incarnation: start.incarnation.clone(),
        status: State::Deploying.to_string(),
        config: rules::redacted(&start.config, start.secrets.keys()),
        own_config: Vec::new(),
        chronicle: None,
        fingerprint,
        created_at: now,
        updated_at: now,
        deleted_at: None,
        expires_at: None,
        owed: false,
        request: None,
    }
}

fn nowhere(nowhere: Nowhere) -> Error {
    match nowhere {
        Nowhere::NoHost => failure::none_available(),
        Nowhere::Full => failure::full(),
    }
}

/// Another request for the same id was quicker.
fn conflict(error: Error, id: &str) -> Error {
    if error.reason() == reason::CONFLICT { failure::taken(id) } else { error }
}
