//! Writes `docs/audit-events.md`.

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit-events.md");
    fs::write(page, obscura_ocsf::catalogue_markdown())
}
