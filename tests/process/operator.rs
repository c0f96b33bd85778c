//! What an operator is told when something is wrong: the cause, the place, and what to do.

use std::{
    io::Read,
    net::TcpListener,
    process::{Command, Output, Stdio},
};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
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
