//! The gate of a host: gateways come in, by what both sides know or by a certificate.
//!
//! A newcomer's usual mistake is to open a host to a network because "it is internal". A host runs code; without a token and
//! without client certificates it answers this machine alone, which whoever starts it must see to by its address. Pages in a
//! browser on this machine are strangers nevertheless: a browser sends what any page wants to any address, but says so.
//!
//! *Knows:* the shared token, proven certificates, where pages show. *Does not know:* keys, tenants' rights.

use std::{net::IpAddr, sync::Arc};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use http::{HeaderMap, HeaderName, header, uri::Authority};
use portico_base::{
    Caller, Clock, Context, Facts, IdentityId, Secret, TenantId,
    caller::{Proof, Role},
    metadata::Metadata,
    reply::Reply,
};
use portico_schema::{Access, Method};
use portico_wire::BoxFuture;

use super::{
    Admission, Admit, Admitted, Entry, Head, Ledger, Peer, Stray, TRACEPARENT, credential, ledger::Line, limits::Permit,
};

/// Carries what gateways and hosts know and nobody else.
pub const TOKEN: HeaderName = HeaderName::from_static(TOKEN_NAME);
pub(super) const TOKEN_NAME: &str = "x-podium-internal-token";
/// Carries whose call it is, as the gateway has settled it.
pub const TENANT: HeaderName = HeaderName::from_static("x-podium-tenant");
/// Longest name of a tenant that is taken from a gateway.
const TENANT_BYTES_MAX: usize = 64;

/// Whom a host believes.
#[derive(Clone)]
pub enum Trust {
    /// Who is on this machine, which the listener sees to, and no page in a browser there: who asks for this machine by an
    /// address of the loopback or as `localhost`, and names no origin.
    Loopback,
    /// Who knows the token, has a certificate that the listener has proven, or both ways when both are set up.
    Proven {
        /// The token.
        token: Option<Secret>,
    },
}

/// Lets gateways in. Cheap to clone.
#[derive(Clone)]
pub struct Trusted(Arc<Parts>);

struct Parts {
    trust: Trust,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
}

impl Trusted {
    /// A gate that believes a token or certificates; this machine alone when `token` is not set and no certificate can be
    /// proven.
    pub fn new(token: Option<Secret>, proves_certificates: bool, ledger: Ledger, clock: Arc<dyn Clock>) -> Trusted {
        let trust = if token.is_none() && !proves_certificates { Trust::Loopback } else { Trust::Proven { token } };
        Trusted(Arc::new(Parts { trust, ledger, clock }))
    }
}

impl Admit for Trusted {
    fn admit(&self, method: Arc<Method>, head: Head) -> BoxFuture<Admitted> {
        let parts = Arc::clone(&self.0);
        Box::pin(async move { parts.admit(method, head) })
    }

    fn astray(&self, stray: &Stray<'_>) -> Option<Entry> {
        Some(self.0.ledger.astray(stray))
    }
}

impl Parts {
    fn admit(&self, method: Arc<Method>, mut head: Head) -> Admitted {
        let traceparent = head.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        let trace = self.ledger.entered(traceparent);
        let believed = self.trust.believes(&head.headers, head.authority.as_ref(), &head.peer);
        let caller = if believed { Arc::new(gateway(&head.headers)) } else { Caller::anonymous() };
        let (door, id, peer) = (head.door, head.id.clone(), head.peer.clone());
        let reply = Reply::default();
        let line = Line { method, door, id, trace, caller: Arc::clone(&caller), peer, reply: reply.clone() };
        if !believed && line.method.access != Access::Public {
            let error = credential::unauthorized();
            line.peer.note_failure();
            return Err(self.ledger.refused(line, error));
        }
        credential::strip(&mut head.headers);
        let context = Context::new(Facts {
            caller,
            procedure: line.method.path,
            deadline: head.deadline,
            id: head.id,
            trace,
            metadata: Metadata::new(head.headers),
            reply,
            clock: Arc::clone(&self.clock),
        });
        Ok(Admission { context, entry: self.ledger.admitted(line, Permit::none(), Arc::default()) })
    }
}

impl Trust {
    fn believes(&self, headers: &HeaderMap, authority: Option<&Authority>, peer: &Peer) -> bool {
        match self {
            Trust::Loopback => {
                peer.address().ip().to_canonical().is_loopback()
                    && !headers.contains_key(header::ORIGIN)
                    && is_for_loopback(headers, authority)
            }
            Trust::Proven { token } => {
                peer.certificate().is_some() || token.as_ref().is_some_and(|token| knows(headers, token))
            }
        }
    }
}

/// Whether a request is for this machine by a name that nobody else can give it. A page's own name may be made to lead here
/// once the page is there, and its requests then need no other origin; but they are still for that name.
fn is_for_loopback(headers: &HeaderMap, authority: Option<&Authority>) -> bool {
    let named = headers.get_all(header::HOST).iter().map(|host| Authority::try_from(host.as_bytes()).ok());
    let mut asked = authority.cloned().map(Some).into_iter().chain(named).peekable();
    asked.peek().is_some() && asked.all(|authority| authority.is_some_and(|authority| is_loopback(authority.host())))
}

fn is_loopback(host: &str) -> bool {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || literal.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// Whether the token came, in a time that does not depend on how much of it is right.
fn knows(headers: &HeaderMap, token: &Secret) -> bool {
    let Some(given) = headers.get(&TOKEN) else { return false };
    let (given, known) = (digest(&SHA256, given.as_bytes()), digest(&SHA256, token.reveal().as_bytes()));
    verify_slices_are_equal(given.as_ref(), known.as_ref()).is_ok()
}

/// A gateway, which may do everything on a host, for the tenant that it names.
fn gateway(headers: &HeaderMap) -> Caller {
    let named = headers.get(&TENANT).and_then(|value| value.to_str().ok());
    let tenant = named.filter(|name| (1..=TENANT_BYTES_MAX).contains(&name.len()));
    Caller {
        identity: IdentityId::new("gateway"),
        tenant: tenant.map_or_else(TenantId::shared, TenantId::new),
        role: Role::Admin,
        permissions: Arc::from([]),
        proof: Proof::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_believes_a_token_a_certificate_or_its_own_machine_and_nobody_else() {
        let peer = |address: &str, certificate: Option<&[u8]>| {
            Peer::new(format!("{address}:1").parse().unwrap(), certificate.map(Box::from))
        };
        let here = || HeaderMap::from_iter([(header::HOST, "127.0.0.1:9090".parse().unwrap())]);
        let token = |value: &str| HeaderMap::from_iter([(TOKEN, value.parse().unwrap())]);
        let by_token = Trust::Proven { token: Some(Secret::new("both-know")) };
        let by_certificate = Trust::Proven { token: None };
        for (trust, headers, peer, expected) in [
            (&by_token, token("both-know"), peer("10.0.0.1", None), true),
            (&by_token, token("both-knew"), peer("127.0.0.1", None), false),
            (&by_token, HeaderMap::new(), peer("127.0.0.1", None), false),
            (&by_token, HeaderMap::new(), peer("10.0.0.1", Some(b"proven")), true),
            (&by_certificate, token(""), peer("127.0.0.1", None), false),
            (&by_certificate, HeaderMap::new(), peer("10.0.0.1", Some(b"proven")), true),
            (&Trust::Loopback, here(), peer("127.0.0.1", None), true),
            (&Trust::Loopback, here(), peer("10.0.0.1", None), false),
            (&Trust::Loopback, token("both-know"), peer("10.0.0.1", None), false),
        ] {
            assert_eq!(trust.believes(&headers, None, &peer), expected, "{peer:?}");
        }
    }

    #[test]
    fn without_a_proof_a_host_believes_no_page_in_a_browser_of_its_machine() {
        let peer = Peer::new("127.0.0.1:1".parse().unwrap(), None);
        let host = |value: &'static str| HeaderMap::from_iter([(header::HOST, value.parse().unwrap())]);
        let from = |origin: &str, mut headers: HeaderMap| {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            headers
        };
        let target = Authority::from_static;
        for (headers, authority, expected) in [
            (host("127.0.0.1:9090"), None, true),
            (host("127.8.8.8"), None, true),
            (host("[::1]:9090"), None, true),
            (host("[::ffff:127.0.0.1]"), None, true),
            (host("LocalHost:1"), None, true),
            (HeaderMap::new(), Some(target("localhost:9090")), true),
            (host("localhost"), Some(target("127.0.0.1:9090")), true),
            // A page that asks for this machine says where it is from; one whose name leads here asks for that name.
            (from("https://hostile.example", host("127.0.0.1:9090")), None, false),
            (from("null", host("127.0.0.1:9090")), None, false),
            (from("http://localhost:9090", host("localhost:9090")), None, false),
            (host("hostile.example:9090"), None, false),
            (host("127.0.0.1.hostile.example"), None, false),
            (host("localhost.hostile.example"), None, false),
            (host("10.0.0.1"), None, false),
            (host("127.0.0.1"), Some(target("hostile.example")), false),
            (host("hostile.example"), Some(target("localhost")), false),
            (HeaderMap::new(), None, false),
        ] {
            assert_eq!(Trust::Loopback.believes(&headers, authority.as_ref(), &peer), expected, "{headers:?}");
        }
    }
}
