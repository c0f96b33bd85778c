//! Certificates of OpenSSL: authorities, and what they issue.

use std::{path::Path, process::Command};

/// Makes an authority: `NAME.pem` and `NAME.key` in this folder.
pub(crate) fn authority(files: &Path, name: &str) {
    make(files, name, "keyUsage=critical,keyCertSign", &[]);
}

/// Issues a certificate with these names, such as `DNS:localhost`, by an authority that was made here.
pub(crate) fn issue(files: &Path, authority: &str, name: &str, names: &str) {
    let (certificate, key) = (format!("{authority}.pem"), format!("{authority}.key"));
    let leaf = ["-CA", &certificate, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE"];
    make(files, name, &format!("subjectAltName={names}"), &leaf);
}

fn make(files: &Path, name: &str, says: &str, more: &[&str]) {
    let made = Command::new("openssl")
        .current_dir(files)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .args(["-addext", says])
        .args(more)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
