//! Where a host is, and whether it may be dialled.
//!
//! A newcomer's usual mistake is to check a name and then let a library resolve it again. What was resolved is checked, and
//! that address is dialled; a registry that somebody poisoned leads nowhere else.
//!
//! *Knows:* URLs, networks, names. *Does not know:* what is said to a host.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{Uri, uri::PathAndQuery};
use portico_base::network::Network;

/// The base of a host's URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    base: Uri,
    host: String,
    port: u16,
    secure: bool,
}

impl Address {
    /// The address that a URL names. `None` when it is not one of `http` or `https`, carries a user name, a query or a
    /// fragment, or is a number outside of these networks.
    pub(super) fn parse(url: &str, networks: &[Network]) -> Option<Address> {
        let base: Uri = url.trim_end_matches('/').parse().ok()?;
        let secure = match base.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = base.authority()?;
        if authority.as_str().contains('@') || base.query().is_some() {
            return None;
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let number = host.parse::<IpAddr>().ok();
        if number.is_some_and(|number| !inside(networks, number)) {
            return None;
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Address { host, port, secure, base: base.clone() })
    }

    /// The URL of a path below it.
    pub(super) fn at(&self, path: &str) -> Option<Uri> {
        let prefix = self.base.path().trim_end_matches('/');
        let path: PathAndQuery = format!("{prefix}{path}").parse().ok()?;
        let mut parts = self.base.clone().into_parts();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok()
    }

    /// The URL of a WebSocket at a path below it.
    pub(super) fn socket_at(&self, path: &str) -> Option<Uri> {
        let mut parts = self.at(path)?.into_parts();
        parts.scheme = Some(if self.secure { "wss" } else { "ws" }.parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Its name or number.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }
}

/// The addresses of a name that lie in these networks.
///
/// # Errors
/// When the name is not known, or all its addresses lie elsewhere.
pub(super) async fn resolve(networks: Arc<[Network]>, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> =
        tokio::net::lookup_host((host, port)).await?.filter(|address| inside(&networks, address.ip())).collect();
    match found.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the host lies outside of fleet.networks")),
        false => Ok(found),
    }
}

fn inside(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_in_the_networks_is_dialled() {
        let networks = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let at = |url: &str| Address::parse(url, &networks).and_then(|address| address.at("/health"));
        assert_eq!(at("http://127.0.0.1:9090/").unwrap(), "http://127.0.0.1:9090/health");
        assert_eq!(at("https://[::1]/base").unwrap(), "https://[::1]/base/health");
        assert!(at("http://a.internal:9090").is_some(), "a name is checked when it is resolved");
        for refused in [
            "ftp://127.0.0.1",
            "file:///etc/passwd",
            "http://169.254.169.254",
            "http://8.8.8.8",
            "http://u:p@127.0.0.1",
            "http://127.0.0.1/?q",
            "127.0.0.1:9090",
        ] {
            assert!(at(refused).is_none(), "{refused}");
        }
    }
}
