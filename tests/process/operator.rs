//! What an operator is told when something is wrong: the cause, the place, and what to do.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::process::{Process, command};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn portico(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portico")).args(arguments).env_clear().output().unwrap()
}

/// Under a file nobody can make a folder, root neither.
fn impossible(folder: &Path) -> String {
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    file.join("data").display().to_string()
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_the_setting_that_chooses_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = impossible(folder.path());
    let text = said(&portico(&["serve", "--listen", "127.0.0.1:0", "--data", &data]));
    assert!(text.contains(&data) && text.contains("PORTICO_DATA") && text.contains("PORTICO_BLOBS"), "{text}");

    let checked = portico(&["check", "--connect", "--data", &data]);
    assert!(!checked.status.success() && said(&checked).contains("\ndata     out of reach"), "{}", said(&checked));
    let fine = folder.path().join("a/b");
    let checked = portico(&["check", "--connect", "--data", fine.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(!folder.path().join("a").exists(), "nothing is made");
}

#[test]
fn a_folder_that_another_process_uses_is_named() {
    let first = Process::start("");
    let second = command("serve", first.folder(), &[]).output().unwrap();
    let text = said(&second);
    let blobs = first.folder().join("data/blobs").display().to_string();
    assert!(text.contains("another process uses this blob folder") && text.contains(&blobs), "{text}");
}

#[test]
fn what_is_no_bundle_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "rate = 3\n").unwrap();
    let file = file.to_str().unwrap();
    let text = said(&portico(&["deploy", file]));
    assert!(text.contains(&format!("{file} is neither a folder nor a .tar.gz file")), "{text}");

    let text = said(&portico(&["check", "--config", file]));
    assert!(text.contains("rate\n  cause: it is a group of settings") && text.contains("burst"), "{text}");
}

#[test]
fn only_a_terminal_is_shown_that_an_instance_is_still_starting() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let create =
        |address: &str| format!("{} instance create echo --url http://{address}", env!("CARGO_BIN_EXE_portico"));
    let begun = create(&silent.local_addr().unwrap().to_string());
    let mut watched = Command::new("script");
    watched.args(["-qec", &begun, "/dev/null"]).env("PORTICO_KEY", "pod_x").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut watched = watched.spawn().unwrap();
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let mut out = watched.stdout.take().unwrap();
    while !shown.ends_with(b"starting echo, 0 s") && out.read(&mut byte).unwrap() > 0 {
        shown.push(byte[0]);
    }
    watched.kill().unwrap();
    watched.wait().unwrap();
    assert!(shown.ends_with(b"starting echo, 0 s"), "{}", String::from_utf8_lossy(&shown));

    let piped = Command::new("sh").args(["-c", &create("127.0.0.1:1")]).env("PORTICO_KEY", "pod_x").output().unwrap();
    assert!(!said(&piped).contains("starting"), "{}", said(&piped));
}
