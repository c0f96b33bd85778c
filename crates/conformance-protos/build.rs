//! Compiles the protos of the Connect conformance suite, fetched as the Go module that the runner is built from.

use std::{path::PathBuf, process::Command};

/// The version of the runner in tests/tools/env.sh.
const MODULE: &str = "connectrpc.com/conformance@v1.0.7";
const FILES: [&str; 2] = ["connectrpc/conformance/v1/server_compat.proto", "connectrpc/conformance/v1/service.proto"];

fn main() -> Result<(), portico_codegen::Error> {
    let protos = module()?.join("proto");
    let compilation = portico_codegen::Compilation::foreign(vec![protos], FILES.map(PathBuf::from).to_vec());
    // The module's folder is read-only and of one version, so there is nothing to watch.
    println!("cargo::rerun-if-changed=build.rs");
    compilation.write()
}

/// The folder of the module in Go's cache.
fn module() -> Result<PathBuf, portico_codegen::Error> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", MODULE])
        // Outside of any Go module, so that none is asked which version it wants.
        .current_dir("/")
        .output()
        .map_err(|error| format!("Go is needed to fetch the protos of {MODULE}, but `go` does not start: {error}"))?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("go could not fetch {MODULE}: {}", String::from_utf8_lossy(&output.stderr)))?;
    match answer["Dir"].as_str() {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Err(format!("go could not fetch {MODULE}: {}", answer["Error"]).into()),
    }
}
