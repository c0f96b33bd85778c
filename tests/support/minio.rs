//! S3 stores of two makers: MinIO and versitygw.

use std::process::Command;

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use portico::{backend::s3, base::Secret};

use super::server::{Recipe, Server, accepts, tools};

pub(crate) const USER: &str = "portico-tests";
pub(crate) const PASSWORD: &str = "portico-hunter2";
pub(crate) const BUCKET: &str = "bundles";

/// MinIO with the bucket, which is a folder to it when it starts.
pub(crate) fn minio() -> Server {
    start(&[])
}

/// The same with a key of its own, so that it can encrypt.
pub(crate) fn encrypting() -> Server {
    start(&[("MINIO_KMS_SECRET_KEY", "portico-tests:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")])
}

fn start(variables: &'static [(&'static str, &'static str)]) -> Server {
    Server::start(Recipe {
        name: "minio",
        command: Box::new(move |port, folder| {
            let data = folder.join("data");
            std::fs::create_dir_all(data.join(BUCKET)).unwrap();
            let mut command = Command::new(tools().join("bin/minio"));
            command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")]).arg(data);
            command.env("MINIO_ROOT_USER", USER).env("MINIO_ROOT_PASSWORD", PASSWORD).env("MINIO_BROWSER", "off");
            command.envs(variables.iter().copied());
            command
        }),
        ready: |address| accepts(address) && answers(address, "/minio/health/ready"),
    })
}

/// versitygw over a folder.
pub(crate) fn versitygw() -> Server {
    Server::start(Recipe {
        name: "versitygw",
        command: Box::new(|port, folder| {
            let data = folder.join("data");
            std::fs::create_dir_all(data.join(BUCKET)).unwrap();
            let mut command = Command::new(tools().join("bin/versitygw"));
            command.args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "--health", "/health", "posix"]).arg(data);
            command.env("ROOT_ACCESS_KEY", USER).env("ROOT_SECRET_KEY", PASSWORD);
            command
        }),
        ready: |address| accepts(address) && answers(address, "/health"),
    })
}

/// How the bucket of a server is reached.
pub(crate) fn options(server: &Server) -> s3::Options {
    options_at(server.address())
}

/// The same at another address.
pub(crate) fn options_at(address: std::net::SocketAddr) -> s3::Options {
    s3::Options {
        bucket: BUCKET.to_owned(),
        prefix: String::new(),
        own: "ours/".to_owned(),
        endpoint: Some(format!("http://{address}")),
        region: "us-east-1".to_owned(),
        credentials: Some((USER.to_owned(), Secret::new(PASSWORD))),
        encryption: None,
    }
}

/// Whether a GET there is answered with 200.
pub(crate) fn answers(address: std::net::SocketAddr, path: &str) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let asked = write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut head = [0; 12];
    asked.is_ok() && stream.read_exact(&mut head).is_ok() && head.ends_with(b" 200")
}

/// A client that speaks to the server directly.
pub(crate) fn client(server: &Server) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{}", server.address()))
        .force_path_style(true)
        .credentials_provider(Credentials::new(USER, PASSWORD, None, None, "tests"));
    Client::from_conf(config.build())
}
