//! Compiles the gateway's own deployments.proto for connectrpc-axum and tonic.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let protos = "../../proto";
    let file = format!("{protos}/podium/v1/deployments.proto");
    println!("cargo::rerun-if-changed={protos}");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Both generators would start protoc; they are given what protox compiled instead. connectrpc-axum-build reads and
    // removes its descriptor.bin, so tonic gets a copy of its own.
    let compiled = protox::compile([&file], [protos])?.encode_to_vec();
    fs::write(out.join("descriptor.bin"), &compiled)?;
    let copy = out.join("tonic.bin");
    fs::write(&copy, &compiled)?;
    connectrpc_axum_build::compile_protos(&[file.as_str()], &[protos])
        .include_file("protos.rs")
        .with_prost_config(|config| {
            config.skip_protoc_run();
        })
        .with_tonic()
        .with_tonic_prost_config(move |config| config.skip_protoc_run().file_descriptor_set_path(&copy))
        .compile()?;
    Ok(())
}
