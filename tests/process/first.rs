//! The very first start: it makes the administrator's key, and shows it once.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    process::Stdio,
};

use crate::support::process::command;

#[test]
fn a_start_that_fails_leaves_the_first_key_to_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let configure = |listen: &str, more: &str| {
        let file = format!("listen = '{listen}'\ndata = '{}'\n{more}", place("data"));
        fs::write(place("portico.toml"), file).unwrap();
    };
    fs::write(place("bad.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let tls = format!("[tls]\ncertificate = '{0}'\nkey = '{0}'\n", place("bad.pem"));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    for (listen, more) in [(taken.as_str(), ""), ("127.0.0.1:0", &tls)] {
        configure(listen, more);
        let ended = command("serve", folder.path(), &[]).output().unwrap();
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(!ended.status.success() && !said.contains("pod_admin_"), "{said}");
    }

    configure("127.0.0.1:0", "");
    let mut process =
        command("serve", folder.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut banner = BufReader::new(process.stdout.take().unwrap());
    let mut said = String::new();
    // What it says is written in one piece, so all of it is there as soon as this line is.
    while !said.contains("/docs/api") && banner.read_line(&mut said).unwrap() > 0 {}
    process.kill().unwrap();
    process.wait().unwrap();
    banner.read_to_string(&mut said).unwrap();
    assert!(said.contains("export PORTICO_KEY=pod_admin_"), "{said}");
    for (name, mode) in [("data", 0o700), ("data/records.sqlite/records.db", 0o600), ("data/secrets.key", 0o600)] {
        assert_eq!(fs::metadata(place(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}
