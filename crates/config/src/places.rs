//! Where durable things are kept: the URLs of the stores.
//!
//! A newcomer's usual mistake is to print such a URL. It may carry a password; [`shown`] leaves that out, and what holds the
//! whole URL has no `Debug` that tells.
//!
//! *Knows:* the forms of URLs. *Does not know:* the stores.

use std::{fmt, path::PathBuf};

use http::Uri;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use super::{
    fields::{Blobs, Bucket, Encryption, Records},
    parse::Parsed,
};

/// A URL that may carry a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateUrl(Zeroizing<String>);

impl PrivateUrl {
    /// The URL itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Where durable facts are kept.
pub(super) fn records(text: &str) -> Parsed<Records> {
    match text.split_once(':').ok_or("has no scheme")? {
        ("sqlite", path) => Ok(Records::Sqlite(local(path))),
        ("postgres" | "postgresql", rest) => {
            let uri: Uri =
                rest.strip_prefix("//").and_then(|rest| format!("postgres://{rest}").parse().ok()).ok_or(MALFORMED)?;
            if uri.host().is_none_or(str::is_empty) || uri.path().len() < 2 {
                return Err("names no host or no database".to_owned());
            }
            Ok(Records::Postgres(PrivateUrl(Zeroizing::new(text.to_owned()))))
        }
        (scheme, _) => Err(format!("has the unknown scheme {scheme:?}; known: sqlite:, postgres:")),
    }
}

/// Where bundles are kept.
pub(super) fn blobs(text: &str) -> Parsed<Blobs> {
    match text.split_once(':').ok_or("has no scheme")? {
        ("file", path) => Ok(Blobs::File(local(path))),
        ("s3", rest) => bucket(rest).map(Blobs::S3),
        (scheme, _) => Err(format!("has the unknown scheme {scheme:?}; known: file:, s3:")),
    }
}

const MALFORMED: &str = "is not a URL";

fn local(path: &str) -> PathBuf {
    path.strip_prefix("//").unwrap_or(path).into()
}

fn bucket(rest: &str) -> Parsed<Bucket> {
    let rest = rest.strip_prefix("//").ok_or(MALFORMED)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
    if name.is_empty() || name.contains('@') {
        return Err("names no bucket".to_owned());
    }
    let prefix = prefix.trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    let mut bucket = Bucket { name: name.to_owned(), prefix, endpoint: None, region: None, encryption: None };
    let mut kms_key = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(|_| MALFORMED)?.into_owned();
        match (name, value.as_str()) {
            ("endpoint", url) => bucket.endpoint = Some(super::parse::url(url, &["http", "https"])?),
            ("region", _) => bucket.region = Some(value),
            ("sse", "AES256") => bucket.encryption = Some(Encryption::Aes256),
            ("sse", "aws:kms") => bucket.encryption = Some(Encryption::Kms(None)),
            ("sse", _) => return Err("has an sse that is neither AES256 nor aws:kms".to_owned()),
            ("kms_key", _) => kms_key = Some(value),
            (name, _) => return Err(format!("has the unknown option {name:?}; known: endpoint, region, sse, kms_key")),
        }
    }
    match (&mut bucket.encryption, kms_key) {
        (_, None) => {}
        (Some(Encryption::Kms(key)), some) => *key = some,
        _ => return Err("has a kms_key without sse=aws:kms".to_owned()),
    }
    Ok(bucket)
}

/// A value without the password that a URL in it may carry. What stands in the query of an http URL may be a key of any name.
pub(super) fn shown(text: &str) -> String {
    /// What the names of options that hold secrets end with.
    const SECRET_ENDINGS: [&str; 3] = ["password", "secret", "token"];
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let is_web = scheme.ends_with("http") || scheme.ends_with("https");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    // A password may hold an @ that nobody escaped; and what nobody escaped may end the authority early.
    let (authority, tail) = match (authority.contains('@'), rest.rfind('@')) {
        (false, Some(at)) => rest.split_at(at),
        _ => (authority, tail),
    };
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
        None if tail.starts_with('@') => format!("{}:***", authority.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    let tail = match tail.split_once('?') {
        Some((path, query)) => {
            let hidden = query.split('&').map(|pair| match pair.split_once('=') {
                Some((name, _))
                    if is_web || SECRET_ENDINGS.iter().any(|ending| name.to_lowercase().ends_with(ending)) =>
                {
                    format!("{name}=***")
                }
                _ => pair.to_owned(),
            });
            format!("{path}?{}", hidden.collect::<Vec<_>>().join("&"))
        }
        None => tail.to_owned(),
    };
    format!("{scheme}://{authority}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        for (url, expected) in [
            ("postgres://ann:hunter2@db:5432/portico", "postgres://ann:***@db:5432/portico"),
            ("postgres://ann@db/portico?sslmode=require", "postgres://ann:***@db/portico?sslmode=require"),
            ("postgres://db/portico?user=ann&password=hunter2", "postgres://db/portico?user=ann&password=***"),
            ("postgres://ann:hun@ter2@db/portico", "postgres://ann:***@db/portico"),
            ("postgres://ann:hunter2/x@db/portico", "postgres://ann:***@db/portico"),
            ("s3://bundles/here?region=eu-west-1", "s3://bundles/here?region=eu-west-1"),
            ("http://ensemble:8080/v1?key=hunter2&a=b", "http://ensemble:8080/v1?key=***&a=***"),
            ("coordinator:https://a:9090?t=hunter2", "coordinator:https://a:9090?t=***"),
            ("sqlite:", "sqlite:"),
        ] {
            assert_eq!(shown(url), expected);
        }
        let Ok(Records::Postgres(url)) = records("postgresql://ann:hunter2@db/portico") else {
            panic!("was not taken")
        };
        assert!(!format!("{url:?}").contains("hunter2"));
    }

    #[test]
    fn buckets_say_how_they_are_reached() {
        let url = "s3://bundles/a/b/?endpoint=http%3A%2F%2Fminio:9000&region=eu-west-1&sse=aws:kms&kms_key=arn";
        let expected = Bucket {
            name: "bundles".to_owned(),
            prefix: "a/b/".to_owned(),
            endpoint: Some("http://minio:9000".parse().unwrap()),
            region: Some("eu-west-1".to_owned()),
            encryption: Some(Encryption::Kms(Some("arn".to_owned()))),
        };
        assert_eq!(blobs(url), Ok(Blobs::S3(expected)));
        assert_eq!(blobs("s3://bundles?sse=AES256").is_ok(), blobs("s3://bundles").is_ok());
        for wrong in ["s3://", "s3:bundles", "s3://b?colour=red", "s3://b?sse=rot13", "s3://b?kms_key=arn", "gcs://b"] {
            assert!(blobs(wrong).is_err(), "{wrong}");
        }
        for wrong in ["postgres:", "postgres://", "postgres://db", "postgres://db/", "mysql://db/portico"] {
            assert!(records(wrong).is_err(), "{wrong}");
        }
    }
}
