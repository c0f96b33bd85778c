//! A client certificate is as good as the key that it stands for, and no better. Seen by a real TLS client, with
//! certificates of OpenSSL.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use crate::support::{
    certificates,
    gateway::{ADMIN, TestHouse},
};

#[tokio::test]
async fn a_certificate_calls_as_the_key_that_it_stands_for() {
    let folder = tempfile::tempdir().unwrap();
    let (files, data) = (folder.path(), folder.path().join("data"));
    issue(files);
    let data = ("PORTICO_DATA", data.to_str().unwrap());
    let house = TestHouse::with(&[data]).await;
    let mut ids = Vec::new();
    for tenant in ["acme", "globex"] {
        let made = house.ask(ADMIN, "POST", "/api/v1/keys").json(&json!({"tenant_id": tenant})).await.expect(201);
        ids.push(made);
    }
    house.close().await;

    let id = |at: usize| ids[at]["key_id"].as_str().unwrap();
    let key = |at: usize| ids[at]["key"].as_str().unwrap();
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let (certificate, server_key, issuer) = (path("server.pem"), path("server.key"), path("issuer.pem"));
    let keys = format!("spiffe://acme/ci={}, ops.globex.example={}", id(0), id(1));
    let house = TestHouse::with(&[
        data,
        ("PORTICO_TLS_CERTIFICATE", &certificate),
        ("PORTICO_TLS_KEY", &server_key),
        ("PORTICO_TLS_CLIENT_CA", &issuer),
        ("PORTICO_TLS_CLIENT_KEYS", &keys),
    ])
    .await;

    let get = async |certificate, key| get(&house, files, certificate, key).await;
    // The URI comes before the DNS name, which this certificate has too.
    assert_eq!(get(Some("ci"), "").await, (200, String::new()));
    assert_eq!(get(Some("ops"), "").await.0, 200);
    assert_eq!(get(Some("ci"), key(0)).await.0, 200, "the key it stands for is no second credential");
    assert_eq!(get(Some("ci"), key(1)).await, (400, "conflicting_credentials".to_owned()));
    assert_eq!(get(Some("ci"), ADMIN).await, (400, "conflicting_credentials".to_owned()));
    // A name that stands for no key says nothing, neither for nor against.
    assert_eq!(get(Some("stranger"), "").await, (401, "unauthorized".to_owned()));
    assert_eq!(get(Some("stranger"), key(1)).await.0, 200);
    assert_eq!(get(None, "").await, (401, "unauthorized".to_owned()));
    // It ends with its key.
    house.ask(ADMIN, "DELETE", &format!("/api/v1/keys/{}", id(0))).send().await.expect(204);
    assert_eq!(get(Some("ci"), "").await, (401, "unauthorized".to_owned()));
    assert_eq!(get(Some("ops"), "").await.0, 200);
    house.close().await;
}

/// Lists instances through the listener: the status and the error's code.
async fn get(house: &TestHouse, files: &Path, certificate: Option<&str>, key: &str) -> (u16, String) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(files.join("issuer.pem")).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some(name) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(files.join(format!("{name}.pem"))).unwrap()],
                PrivateKeyDer::from_pem_file(files.join(format!("{name}.key"))).unwrap(),
            )
            .unwrap(),
    };
    let stream = TcpStream::connect(house.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut request = Request::get("/api/v1/instances").header(header::HOST, "localhost");
    if !key.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let exchange = async {
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    tokio::select! {
        told = exchange => told,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

/// An issuer, the server's certificate, and three of clients.
fn issue(files: &Path) {
    certificates::authority(files, "issuer");
    for (name, names) in [
        ("server", "DNS:localhost"),
        ("ci", "DNS:ops.globex.example,URI:spiffe://acme/ci"),
        ("ops", "DNS:ops.globex.example"),
        ("stranger", "URI:spiffe://nobody/knows"),
    ] {
        certificates::issue(files, "issuer", name, names);
    }
}
