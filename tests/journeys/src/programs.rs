//! Where the built programs are.

use std::path::PathBuf;

/// The folder with the programs of this build: the one above the running test or bench.
///
/// # Panics
/// Where the running program is nowhere in a target folder.
#[must_use]
pub fn target_dir() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps") && !folder.ends_with("examples"))
        .unwrap()
        .to_owned()
}

/// A program of this build.
///
/// # Panics
/// Where it was not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = target_dir().join(name);
    assert!(path.is_file(), "{} is not built; run `make journeys`, which builds it", path.display());
    path
}
