//! Compiles `proto/` without protoc and writes the table of who may call what.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost_reflect::{DescriptorPool, ExtensionDescriptor, MethodDescriptor, Value};

const FILES: [&str; 9] = [
    "obscura/access/v1/callers.proto",
    "obscura/access/v1/grant.proto",
    "obscura/audit/v1/audit.proto",
    "obscura/audit/v1/event.proto",
    "obscura/footage/v1/footage.proto",
    "obscura/ingest/v1/ingest.proto",
    "obscura/keys/v1/keys.proto",
    "obscura/registry/v1/registry.proto",
    "obscura/storage/v1/storage.proto",
];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;
    let table = caller_table(&compiler.descriptor_pool())?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("callers.rs"), table)?;
    fs::write(out.join("descriptors.binpb"), compiler.file_descriptor_set().encode_to_vec())?;
    Ok(())
}

/// One row per rpc. An rpc without callers stops the build: nothing is callable by accident.
fn caller_table(pool: &DescriptorPool) -> Result<String> {
    let callers = pool.get_extension_by_name("obscura.access.v1.callers").context("option callers")?;
    let releases = pool.get_extension_by_name("obscura.access.v1.releases").context("option releases")?;
    let mut rows = String::from("pub const RPCS: &[Rpc] = &[\n");
    for service in pool.services() {
        for method in service.methods() {
            let names = strings(&method, &callers);
            if names.is_empty() {
                bail!("{} names no callers", method.full_name());
            }
            let releases = method.options().get_extension(&releases).as_bool().unwrap_or(false);
            writeln!(
                rows,
                "    Rpc {{ path: \"/{}/{}\", callers: &{names:?}, releases: {releases} }},",
                service.full_name(),
                method.name()
            )?;
        }
    }
    rows.push_str("];\n");
    Ok(rows)
}

fn strings(method: &MethodDescriptor, option: &ExtensionDescriptor) -> Vec<String> {
    let options = method.options();
    let value = options.get_extension(option).into_owned();
    let Value::List(items) = value else { return Vec::new() };
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
