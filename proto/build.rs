//! Compiles `proto/hot/v1/*.proto` without `protoc`, and keeps the descriptors for reflection.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message;

const FILES: [&str; 7] = [
    "hot/v1/artifacts.proto",
    "hot/v1/common.proto",
    "hot/v1/events.proto",
    "hot/v1/modules.proto",
    "hot/v1/nodes.proto",
    "hot/v1/plan.proto",
    "hot/v1/rollouts.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?);
    // With the comments, so that a client that only knows reflection can show them.
    fs::write(out.join("hot_v1_descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Chunks of an upload are slices of what came off the network, not copies.
        .bytes(".hot.v1.UploadRequest.chunk")
        .bytes(".hot.v1.FetchResponse.chunk")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
