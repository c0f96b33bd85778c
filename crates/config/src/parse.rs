//! From the text of one value to its meaning.
//!
//! A newcomer's usual mistake is to quote the value in the cause: it may be a secret. A cause is what may follow "it":
//! *is not a whole number*. Who reports it knows whether the value may be shown.
//!
//! *Knows:* the forms of values. *Does not know:* which setting a value belongs to, or where it was written.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};
use portico_base::Secret;

use super::{Host, Origins, SealingKey};

/// What an administrator's key begins with.
const ADMIN_PREFIX: &str = "pod_admin_";
/// Fewer characters could be guessed.
const ADMIN_KEY_CHARACTERS_MIN: usize = 32;
/// More than any header should carry.
const ADMIN_KEY_CHARACTERS_MAX: usize = 256;
/// A day: longer is a mistyped unit.
const SECONDS_MAX: u64 = 86_400;
/// No door waits longer for a body, so more could not come true.
const UPLOAD_SECONDS_MAX: u64 = 600;

/// What is wrong with a value, for use after "it": `is not a whole number`.
pub(super) type Parsed<T> = Result<T, String>;

/// One of these words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| "is none of the known words".to_owned())
}

/// A whole number of at least one.
pub(super) fn count(text: &str) -> Parsed<NonZeroU32> {
    text.parse().map_err(|_| "is not a whole number from 1 to 4294967295".to_owned())
}

/// A whole number where zero means that there is no limit.
pub(super) fn limit(text: &str) -> Parsed<Option<NonZeroU32>> {
    text.parse().map(NonZeroU32::new).map_err(|_| "is not a whole number from 0 to 4294967295".to_owned())
}

/// A whole number of seconds within a day.
pub(super) fn seconds(text: &str) -> Parsed<Duration> {
    match text.parse() {
        Ok(number) if number <= SECONDS_MAX => Ok(Duration::from_secs(number)),
        Ok(_) => Err("is longer than a day".to_owned()),
        Err(_) => Err("is not a whole number of seconds".to_owned()),
    }
}

/// A whole number of seconds that one upload may take.
pub(super) fn upload_seconds(text: &str) -> Parsed<Duration> {
    let whole = seconds(text)?;
    if (1..=UPLOAD_SECONDS_MAX).contains(&whole.as_secs()) {
        return Ok(whole);
    }
    Err(format!("is not between 1 and {UPLOAD_SECONDS_MAX} seconds"))
}

/// Anything with a text form of its own, between these bounds.
pub(super) fn between<T: FromStr<Err = &'static str> + PartialOrd>(text: &str, least: T, most: T) -> Parsed<T> {
    let value = text.parse::<T>()?;
    if value < least {
        return Err("is too small".to_owned());
    }
    if value > most {
        return Err("is too large".to_owned());
    }
    Ok(value)
}

/// A host and a port. A name may have several addresses; IPv4 comes first because that is what people type in curl.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let mut addresses: Vec<SocketAddr> =
        text.to_socket_addrs().map_err(|_| "is not a host and a port".to_owned())?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| "names a host without an address".to_owned())
}

/// A path that need not exist.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    match text {
        "" => Err("is empty".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// The path of a file that is there.
pub(super) fn file(text: &str) -> Parsed<PathBuf> {
    match Path::new(text).metadata() {
        Ok(metadata) if metadata.is_file() => Ok(PathBuf::from(text)),
        Ok(_) => Err("is not a file".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// An absolute URL with one of these schemes.
pub(super) fn url(text: &str, schemes: &[&str]) -> Parsed<Uri> {
    let uri: Uri = text.parse().map_err(|_| "is not a URL".to_owned())?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(authority)) if schemes.contains(&scheme) && !authority.as_str().contains('@') => Ok(uri),
        (Some(_), Some(authority)) if authority.as_str().contains('@') => Err("carries a user name".to_owned()),
        (Some(scheme), Some(_)) => Err(format!("has the scheme {scheme:?}")),
        _ => Err("is not an absolute URL".to_owned()),
    }
}

/// The backend that the scheme of a URL names, and what follows the scheme.
pub(super) fn backend<'a, T: Clone>(text: &'a str, known: &[(&str, T)]) -> Parsed<(T, &'a str)> {
    let (scheme, rest) = text.split_once(':').ok_or("has no scheme")?;
    match known.iter().find(|(name, _)| *name == scheme) {
        Some((_, kind)) => Ok((kind.clone(), rest.strip_prefix("//").unwrap_or(rest))),
        None => {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("{name}:")).collect();
            Err(format!("has the unknown scheme {scheme:?}; known: {}", names.join(", ")))
        }
    }
}

/// The same for backends that take nothing but their name.
pub(super) fn bare_backend<T: Clone>(text: &str, known: &[(&str, T)]) -> Parsed<T> {
    match backend(text, known)? {
        (kind, "") => Ok(kind),
        (_, _) => Err("has something after the scheme, where nothing is known".to_owned()),
    }
}

/// This process, or the URL of Valkey or Redis, whose details the backend checks when it is opened.
pub(super) fn valkey(text: &str) -> Parsed<Option<Secret>> {
    if text.starts_with("local:") {
        return bare_backend(text, &[("local", None)]);
    }
    let (scheme, rest) = text.split_once("://").ok_or("is neither local: nor the URL of a server")?;
    let known = match scheme.split_once('+') {
        Some((family, kind)) => is_valkey(family) && matches!(kind, "sentinel" | "cluster"),
        None => is_valkey(scheme),
    };
    match known && !rest.is_empty() {
        true => Ok(Some(Secret::new(text))),
        false => Err(format!("has the unknown scheme {scheme:?}; known: local:, valkey:, valkeys:, redis:, rediss:")),
    }
}

fn is_valkey(scheme: &str) -> bool {
    matches!(scheme, "valkey" | "valkeys" | "redis" | "rediss")
}

/// Where instances run: on this machine, or on hosts.
pub(super) fn fleet(text: &str) -> Parsed<Host> {
    match backend(text, &[("local", false), ("coordinator", true)])? {
        (false, "") => Ok(Host::Local),
        (false, _) => Err("has something after the scheme, where nothing is known".to_owned()),
        (true, listed) => Ok(Host::Coordinators(list(listed, |part| url(part, &["http", "https"]))?)),
    }
}

/// A name for a machine or a program.
pub(super) fn id(text: &str) -> Parsed<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("is not 1 to 64 letters, digits, `_` or `-`".to_owned()),
    }
}

/// An administrator's key chosen by the operator.
pub(super) fn admin_key(text: &str) -> Parsed<Secret> {
    let characters = text.len();
    if !text.starts_with(ADMIN_PREFIX) {
        return Err(format!("does not begin with {ADMIN_PREFIX}"));
    }
    if !(ADMIN_KEY_CHARACTERS_MIN..=ADMIN_KEY_CHARACTERS_MAX).contains(&characters) {
        return Err(format!("has {characters} characters"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has characters that a header cannot carry".to_owned());
    }
    Ok(Secret::new(text))
}

/// A key of another service.
pub(super) fn secret(text: &str) -> Parsed<Secret> {
    match text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err("is empty or has characters that a header cannot carry".to_owned()),
        false => Ok(Secret::new(text)),
    }
}

/// Thirty-two bytes as hex or base64.
pub(super) fn sealing_key(text: &str) -> Parsed<SealingKey> {
    let bytes = match text.len() {
        64 => hex(text).ok_or("has 64 characters, but is not hex")?,
        _ => STANDARD.decode(text).map_err(|_| "is neither hex nor base64".to_owned())?,
    };
    let bytes = zeroize::Zeroizing::new(bytes);
    let length = bytes.len();
    bytes.as_slice().try_into().map(SealingKey::new).map_err(|_| format!("is {length} bytes long"))
}

/// Several values, separated by commas.
pub(super) fn list<T>(text: &str, item: impl Fn(&str) -> Parsed<T>) -> Parsed<Vec<T>> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(item).collect()
}

/// Names with what they stand for, each name once.
pub(super) fn pairs(text: &str) -> Parsed<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    // A name may be a URI and hold an equals sign; an id never does.
    for part in list(text, |part| Ok(part.to_owned()))? {
        let Some((name, id)) = part.rsplit_once('=') else { return Err(format!("has no `=` in {part:?}")) };
        let (name, id) = (name.trim(), id.trim());
        if name.is_empty() || id.is_empty() {
            return Err("has a name or an id that is empty".to_owned());
        }
        if pairs.insert(name.to_owned(), id.to_owned()).is_some() {
            return Err(format!("has {name:?} twice"));
        }
    }
    Ok(pairs)
}

/// Origins as browsers spell them, or a star.
pub(super) fn origins(text: &str) -> Parsed<Origins> {
    let listed = list(text, |part| match part {
        "*" => Ok(HeaderValue::from_static("*")),
        part => origin(part),
    })?;
    match listed.as_slice() {
        [] => Ok(Origins::None),
        listed if listed.iter().any(|origin| origin == "*") => Ok(Origins::Any),
        _ => Ok(Origins::Listed(listed)),
    }
}

fn origin(text: &str) -> Parsed<HeaderValue> {
    let uri = url(text, &["http", "https"])?;
    // A browser sends no path; with one, the comparison could never succeed.
    if text.ends_with('/') || uri.path() != "/" || uri.query().is_some() {
        return Err("has a path, which an origin never has".to_owned());
    }
    if text.contains('*') {
        return Err(
            "has a star within an origin, which would match nothing; list every origin, or give * for all".to_owned()
        );
    }
    HeaderValue::from_str(text).map_err(|_| "is not an origin".to_owned())
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    text.as_bytes().chunks_exact(2).map(pair).collect()
}
