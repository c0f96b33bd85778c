//! `{agent_type}:{version}@{hash}`: its grammar, and that of its parts.
//!
//! A newcomer's usual mistake is to split at the first separator found. The hash comes after the last `@`, the version
//! after the first `:`; a version may hold neither, but an id comes from a stranger.
//!
//! *Knows:* names. *Does not know:* what exists.

use portico_base::{Code, Error, Result, error::Detail, reason};

use crate::agents;

/// Longest version.
const VERSION_CHARACTERS_MAX: usize = 64;
/// Longest id: the longest type, version and hash.
const ID_CHARACTERS_MAX: usize = 193;
/// How many digits of the hash are in an id that we make. Fewer are never taken.
pub(super) const HASH_PREFIX_CHARACTERS: usize = 8;
/// A whole SHA-256.
const HASH_CHARACTERS: usize = 64;

/// One version of one agent type: there is at most one deployment of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The agent type.
    pub agent_type: String,
    /// The version.
    pub version: String,
}

impl Name {
    /// Checks both parts.
    ///
    /// # Errors
    /// `invalid_agent_type` or `invalid_version`.
    pub fn parse(agent_type: &str, version: &str) -> Result<Name> {
        agents::check_type(agent_type)?;
        check_version(version)?;
        Ok(Name { agent_type: agent_type.to_owned(), version: version.to_owned() })
    }

    /// The id of its record.
    pub(super) fn record_id(&self) -> String {
        record_id(&self.agent_type, &self.version)
    }

    /// Where its bundle lies.
    pub(super) fn blob_key(&self, environment: &str) -> String {
        let Name { agent_type, version } = self;
        format!("{}{agent_type}/{version}/{agent_type}-{version}.tar.gz", bundles(environment))
    }
}

/// What the keys of all bundles of an environment begin with.
pub fn bundles(environment: &str) -> String {
    format!("{environment}/deployments/")
}

/// The hash in an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hash {
    /// The first digits, at least eight.
    Prefix(String),
    /// Whatever is registered.
    Local,
}

/// A well-formed id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentId {
    /// The type and version.
    pub name: Name,
    /// The hash.
    pub hash: Hash,
}

impl DeploymentId {
    /// Reads an id.
    ///
    /// # Errors
    /// `invalid_deployment_id`.
    pub fn parse(text: &str, local_ids: bool) -> Result<DeploymentId> {
        let malformed = |problem: &str| {
            let message = format!("deployment_id {problem}; its form is type:version@hash");
            let field = Detail::Field { path: "deployment_id".to_owned(), reason: problem.to_owned() };
            Error::new(Code::InvalidArgument, reason::INVALID_DEPLOYMENT_ID, message).with(field)
        };
        if text.len() > ID_CHARACTERS_MAX {
            return Err(malformed("must have at most 193 characters"));
        }
        let (name, hash) = text.rsplit_once('@').ok_or_else(|| malformed("has no hash"))?;
        let (agent_type, version) = name.split_once(':').ok_or_else(|| malformed("has no version"))?;
        // A version that is too long to be stored is well-formed all the same: there is no such deployment.
        agents::check_type(agent_type)
            .and_then(|()| grammatical(version))
            .map_err(|error| malformed(error.message()))?;
        let name = Name { agent_type: agent_type.to_owned(), version: version.to_owned() };
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let hash = match hash {
            "local" if local_ids => Hash::Local,
            "local" => return Err(malformed("must name a hash here, not local")),
            digits if !(HASH_PREFIX_CHARACTERS..=HASH_CHARACTERS).contains(&digits.len()) => {
                return Err(malformed("must have 8 to 64 digits of the hash"));
            }
            digits if !digits.bytes().all(is_digit) => {
                return Err(malformed("must have the hash in lower-case hexadecimal digits"));
            }
            digits => Hash::Prefix(digits.to_owned()),
        };
        Ok(DeploymentId { name, hash })
    }
}

fn check_version(text: &str) -> Result<()> {
    if text.len() > VERSION_CHARACTERS_MAX { Err(no_version()) } else { grammatical(text) }
}

fn grammatical(version: &str) -> Result<()> {
    if semver::Version::parse(version).is_ok() { Ok(()) } else { Err(no_version()) }
}

fn no_version() -> Error {
    let problem = "must be a semantic version like 1.0.0, without a leading v, at most 64 characters";
    let detail = Detail::Field { path: "version".to_owned(), reason: problem.to_owned() };
    Error::new(Code::InvalidArgument, reason::INVALID_VERSION, format!("version {problem}")).with(detail)
}

/// The id of the record of a version. No agent type contains a colon.
pub(super) fn record_id(agent_type: &str, version: &str) -> String {
    [agent_type, ":", version].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_by_their_grammar() {
        let id = DeploymentId::parse("claude-agent:1.0.0-rc.1+build-5@2b795103", true).unwrap();
        assert_eq!((id.name.agent_type.as_str(), id.name.version.as_str()), ("claude-agent", "1.0.0-rc.1+build-5"));
        assert_eq!(id.hash, Hash::Prefix("2b795103".to_owned()));
        assert_eq!(DeploymentId::parse("a:1.0.0@local", true).unwrap().hash, Hash::Local);
        for text in [
            "",
            "a",
            "a:1.0.0",
            "a@2b795103",
            "a:1.0@2b795103",
            "a:v1.0.0@2b795103",
            "a:01.0.0@2b795103",
            "a/b:1.0.0@2b795103",
            "-a:1.0.0@2b795103",
            ":1.0.0@2b795103",
            "a:1.0.0@2b79510",
            "a:1.0.0@2B795103",
            "a:1.0.0@2b795103@",
            "a:1.0.0@LOCAL",
        ] {
            let error = DeploymentId::parse(text, true).expect_err(text);
            assert_eq!(error.reason(), reason::INVALID_DEPLOYMENT_ID, "{text}");
        }
        assert!(DeploymentId::parse("a:1.0.0@local", false).is_err());
        let version = |letters: usize| DeploymentId::parse(&format!("a:1.0.0-{}@local", "a".repeat(letters)), true);
        assert!(version(179).is_ok() && version(180).is_err());
        assert!(Name::parse(&"a".repeat(64), "1.0.0").is_err());
        assert!(Name::parse("a", &format!("1.0.0-{}", "a".repeat(59))).is_err());
    }
}
