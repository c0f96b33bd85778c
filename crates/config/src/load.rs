//! From file, environment and flags to one configuration.
//!
//! A newcomer's usual mistake is to stop at the first problem. Every source is read to its end and every value is tried,
//! so that an operator sees all problems at once.
//!
//! *Knows:* the sources and their order. *Does not know:* what any one setting means.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    AtStart, Blobs, Bus, ByteSize, Config, Environment, Fleet, Host, Limits, Log, LogFormat, LogLevel, Origins, Otlp,
    Peers, Place, Problem, Problems, Rate, Records, Registry, S3, SETTINGS, Setting, Uploads, names, places,
};

mod file;

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "PORTICO_CONFIG";

/// Variables that begin like ours and belong to the command-line client, the build and the tests.
const OTHER_VARIABLES: [&str; 5] = ["PORTICO_URL", "PORTICO_KEY", "PORTICO_TOOLS", "PORTICO_BIN", "PORTICO_UPDATE"];

/// Variables that belong to the conformance tests begin like this.
const CONFORMANCE_PREFIX: &str = "PORTICO_CONFORMANCE";

/// A file larger than this is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where configuration comes from: the file, then the environment, then flags. What comes later wins.
#[derive(Default)]
pub struct Sources {
    file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    flags: Vec<(String, String, String)>,
}

/// What was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Each setting in the order of the table, with the text of its value (`***` for secrets, empty when unset) and
    /// where it came from.
    pub origins: Vec<(&'static Setting, String, Origin)>,
    /// What was written for each, secrets too, as a number that only tells whether it is the same.
    marks: Vec<u64>,
}

impl Loaded {
    /// The settings that a newer configuration has otherwise.
    pub fn changes(&self, newer: &Loaded) -> Vec<&'static Setting> {
        let marks = self.marks.iter().zip(&newer.marks);
        SETTINGS.iter().zip(marks).filter(|(_, (old, new))| old != new).map(|(setting, _)| setting).collect()
    }
}

/// Who decided a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody: it is the default.
    Default,
    /// It was written here.
    Written(Place),
}

impl Sources {
    /// No source: everything is as it is by default.
    pub fn new() -> Sources {
        Sources::default()
    }

    /// The same with this file, whatever the environment says.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Sources {
        self.file = Some(path.into());
        self
    }

    /// The same with this environment. Variables that are not about Portico are ignored, and so are empty ones.
    #[must_use]
    pub fn environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Sources
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.variables.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// The same with this value for a key. `flag` is what the operator typed, for problems.
    #[must_use]
    pub fn set(mut self, flag: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Sources {
        self.flags.push((flag.into(), key.into(), value.into()));
        self
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the sources.
    pub fn load(self) -> Result<Loaded, Problems> {
        let mut draft = Draft::defaults();
        let variables = draft.variables(self.variables);
        let named = variables.iter().find(|(name, _)| name == FILE_VARIABLE).map(|(_, path)| PathBuf::from(path));
        if let Some(path) = self.file.or(named) {
            draft.file(&path);
        }
        // Names of other programs weigh less than our own.
        let (ours, standard): (Vec<_>, Vec<_>) =
            variables.into_iter().partition(|(name, _)| name.starts_with("PORTICO_"));
        for (variable, key, value) in names::read(&standard) {
            draft.value(Place::Variable(variable.to_owned()), key, &value);
        }
        for (name, value) in ours {
            draft.variable(&name, &value);
        }
        for (flag, key, value) in self.flags {
            draft.value(Place::Flag(flag), &key, &value);
        }
        draft.finish()
    }
}

/// A configuration in the making.
struct Draft {
    config: Config,
    written: BTreeMap<&'static str, (String, Place)>,
    marks: BTreeMap<&'static str, u64>,
    problems: Vec<Problem>,
}

impl Draft {
    fn defaults() -> Draft {
        let mut draft =
            Draft { config: blank(), written: BTreeMap::new(), marks: BTreeMap::new(), problems: Vec::new() };
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            draft.apply(setting, setting.default, Place::Together);
        }
        draft.written.clear();
        draft
    }

    /// The variables that may be about us, as text.
    fn variables(&mut self, variables: Vec<(OsString, OsString)>) -> Vec<(String, String)> {
        let mut ours = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            match value.into_string() {
                Ok(value) if value.is_empty() => {}
                Ok(value) => ours.push((name.to_owned(), value)),
                Err(_) => self.problems.push(Problem {
                    place: Place::Variable(name.to_owned()),
                    key: String::new(),
                    cause: "the value is not UTF-8".to_owned(),
                    fix: "write it in UTF-8".to_owned(),
                }),
            }
        }
        // The environment has no order of its own; problems shall have one.
        ours.sort();
        ours
    }

    fn variable(&mut self, name: &str, value: &str) {
        if name == FILE_VARIABLE {
            return;
        }
        let place = Place::Variable(name.to_owned());
        match Setting::of_variable(name) {
            Some(setting) => self.apply(setting, value, place),
            None => {
                let nearest = nearest(name, SETTINGS.iter().map(|setting| setting.variable));
                self.unknown(place, String::new(), "no setting has this variable", nearest);
            }
        }
    }

    fn value(&mut self, place: Place, key: &str, value: &str) {
        match Setting::of_key(key) {
            Some(setting) => self.apply(setting, value, place),
            None if !members(key).is_empty() => self.problems.push(Problem {
                place,
                key: key.to_owned(),
                cause: "it is a group of settings and has no value of its own".to_owned(),
                fix: format!("write the table [{key}], or {key}.… = …, with one of {}", members(key).join(", ")),
            }),
            None => {
                let nearest = nearest(key, SETTINGS.iter().map(|setting| setting.key));
                self.unknown(place, key.to_owned(), "there is no such setting", nearest);
            }
        }
    }

    fn apply(&mut self, setting: &'static Setting, value: &str, place: Place) {
        match (setting.apply)(&mut self.config, value) {
            Ok(()) => {
                self.marks.insert(setting.key, mark(value));
                let shown = if setting.secret { "***".to_owned() } else { places::shown(value) };
                self.written.insert(setting.key, (shown, place));
            }
            Err(cause) => {
                let subject =
                    if setting.secret { "the value".to_owned() } else { format!("{:?}", places::shown(value)) };
                let example = match setting.default {
                    "" => String::new(),
                    default => format!("; the default is {default}"),
                };
                self.problems.push(Problem {
                    place,
                    key: setting.key.to_owned(),
                    cause: format!("{subject} {cause}"),
                    fix: format!("write {}{example}", setting.takes),
                });
            }
        }
    }

    fn unknown(&mut self, place: Place, key: String, cause: &str, nearest: Option<&str>) {
        let fix = match nearest {
            Some(name) => format!("remove it, or write {name} if that is what you mean"),
            None => "remove it; `portico check --reference` lists every setting".to_owned(),
        };
        self.problems.push(Problem { place, key, cause: cause.to_owned(), fix });
    }

    fn complete_tls(&mut self) {
        let Some(tls) = &self.config.tls else { return };
        for (key, path) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
            // A file that could not be read has been reported already, and is not missing.
            let reported = self.problems.iter().any(|problem| problem.key == key);
            if path.as_os_str().is_empty() && !reported {
                self.problems.push(Problem {
                    place: Place::Together,
                    key: key.to_owned(),
                    cause: "TLS is configured by half: this is not set".to_owned(),
                    fix: "set tls.certificate and tls.key, or none of the tls settings".to_owned(),
                });
            }
        }
        if !tls.client_keys.is_empty() && tls.client_ca.is_none() {
            self.problems.push(Problem {
                place: Place::Together,
                key: "tls.client_keys".to_owned(),
                cause: "no client certificate is honoured: tls.client_ca is not set".to_owned(),
                fix: "set tls.client_ca to the authorities that issue the certificates".to_owned(),
            });
        }
    }

    /// Half of a proof would be shown to nobody.
    fn complete_peers(&mut self) {
        let Peers { certificate, key, .. } = &self.config.peers;
        let missing = match (certificate, key) {
            (Some(_), None) => "fleet.key",
            (None, Some(_)) => "fleet.certificate",
            _ => return,
        };
        // A file that could not be read has been reported already, and is not missing.
        if self.problems.iter().all(|problem| problem.key != missing) {
            self.problems.push(Problem {
                place: Place::Together,
                key: missing.to_owned(),
                cause: "what hosts are shown is configured by half: this is not set".to_owned(),
                fix: "set fleet.certificate and fleet.key, or neither".to_owned(),
            });
        }
    }

    /// Whoever insists on Valkey has one in mind, and would otherwise start without it.
    fn complete_valkey(&mut self) {
        let Config { registry, bus, valkey_at_start, .. } = &self.config;
        if (registry, bus, valkey_at_start) == (&Registry::Local, &Bus::Local, &AtStart::Required) {
            self.problems.push(Problem {
                place: Place::Together,
                key: "require_valkey".to_owned(),
                cause: "Valkey is required, but neither registry nor bus is on one".to_owned(),
                fix: "set registry and bus to the URL of Valkey, or require_valkey to off".to_owned(),
            });
        }
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        self.complete_tls();
        self.complete_peers();
        self.complete_valkey();
        if let Err(error) = absolute(&mut self.config) {
            self.problems.push(Problem {
                place: Place::Together,
                key: "data".to_owned(),
                cause: format!("the directory cannot be made absolute: {error}"),
                fix: "start the gateway in a directory that exists".to_owned(),
            });
        }
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        let marks = SETTINGS.iter().map(|setting| self.marks.get(setting.key).copied().unwrap_or(0)).collect();
        let mut written = self.written;
        let origins = SETTINGS.iter().map(|setting| match written.remove(setting.key) {
            Some((text, place)) => (setting, text, Origin::Written(place)),
            None => (setting, setting.default.to_owned(), Origin::Default),
        });
        Ok(Loaded { origins: origins.collect(), config: self.config, marks })
    }
}

/// Paths that follow from the data directory, and no path that depends on where the process stands.
fn absolute(config: &mut Config) -> std::io::Result<()> {
    config.data = std::path::absolute(&config.data)?;
    if let Records::Sqlite(path) = &mut config.records {
        place(path, &config.data, "records.sqlite")?;
    }
    if let Blobs::File(path) = &mut config.blobs {
        place(path, &config.data, "blobs")?;
    }
    Ok(())
}

fn place(path: &mut PathBuf, data: &Path, name: &str) -> std::io::Result<()> {
    *path = if path.as_os_str().is_empty() { data.join(name) } else { std::path::absolute(&path)? };
    Ok(())
}

fn mark(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn is_ours(name: &str) -> bool {
    names::is_known(name)
        || (name.starts_with("PORTICO_") && !name.starts_with(CONFORMANCE_PREFIX) && !OTHER_VARIABLES.contains(&name))
}

/// The known name that a mistyped one is closest to, when it is close.
fn nearest(typed: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let (distance, name) = known.map(|name| (edits(typed, name), name)).min()?;
    // A short name is near to everything.
    (distance <= typed.len() / 4).then_some(name)
}

/// The settings of a group, without its name.
fn members(group: &str) -> Vec<&'static str> {
    let member = |setting: &'static Setting| setting.key.strip_prefix(group)?.strip_prefix('.');
    SETTINGS.iter().filter_map(member).collect()
}

/// How many letters must be added, dropped or changed to get from one text to the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// `default`, or where it was written.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Written(place) => place.fmt(f),
        }
    }
}

/// Every field with a value of its type. The table's defaults go over it before anything else is read.
fn blank() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        data: PathBuf::new(),
        environment: Environment::Dev,
        admin_key: None,
        secrets_key: None,
        secrets_key_previous: Vec::new(),
        ensemble_url: None,
        ensemble_key: None,
        chronicle_public_base: None,
        records: Records::Sqlite(PathBuf::new()),
        blobs: Blobs::File(PathBuf::new()),
        s3: S3 { region: String::new(), endpoint: None, access_key_id: None, secret_access_key: None },
        registry: Registry::Local,
        bus: Bus::Local,
        valkey_at_start: AtStart::Awaited,
        limits: Limits::On,
        rate: Rate {
            requests_per_minute: None,
            burst: None,
            instances_per_minute: None,
            uploads_per_minute: None,
            uploads_concurrent: None,
            failed_auth_per_minute: None,
            anonymous_streams_per_minute: None,
            anonymous_streams: None,
            concurrent_calls: None,
            sockets_per_key: None,
        },
        cors: Origins::None,
        tls: None,
        uploads: Uploads { bundle_bytes_max: ByteSize(0), total_max: Duration::ZERO },
        drain: Duration::ZERO,
        drain_grace: Duration::ZERO,
        log: Log { level: LogLevel::Info, format: LogFormat::Text },
        otlp: Otlp { endpoint: None, service: String::new() },
        fleet: Fleet {
            host: Host::Local,
            instances_max: NonZeroU32::MIN,
            memory_bytes_max: ByteSize(0),
            open_files_max: NonZeroU32::MIN,
            cpu_max: None,
            path: String::new(),
        },
        peers: Peers {
            token: None,
            id: None,
            advertise: None,
            networks: Vec::new(),
            ca: None,
            certificate: None,
            key: None,
        },
    }
}
