//! Servers that speak TLS alone and ask for a certificate, and the files that it takes.

use tempfile::TempDir;

use crate::support::certificates::{authority, issue};

/// Certificates of an authority of their own, for this machine and for a client.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn issue() -> Certificates {
        let files = Certificates(tempfile::tempdir().unwrap());
        files.renew();
        files
    }

    /// Puts others in their place, of another authority.
    pub(crate) fn renew(&self) {
        let folder = self.0.path();
        authority(folder, "issuer");
        issue(folder, "issuer", "server", "DNS:localhost,IP:127.0.0.1");
        issue(folder, "issuer", "client", "DNS:client");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// What makes a server speak TLS on its port, and between servers too.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let file = |option: &str, name: &str| [option.to_owned(), self.path(name)];
        let files = [
            file("--tls-ca-cert-file", "issuer.pem"),
            file("--tls-cert-file", "server.pem"),
            file("--tls-key-file", "server.key"),
        ];
        let yes = ["--tls-replication", "yes", "--tls-cluster", "yes", "--tls-auth-clients", "yes"];
        files.into_iter().flatten().chain(yes.map(str::to_owned)).collect()
    }

    /// The query of a URL that trusts these alone, and shows the client's.
    pub(crate) fn query(&self) -> String {
        let path = |name| self.path(name);
        format!("ca={}&certificate={}&key={}", path("issuer.pem"), path("client.pem"), path("client.key"))
    }
}
