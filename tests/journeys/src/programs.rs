//! Where the built programs are.

use std::{path::PathBuf, process::Command};

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

/// The command as if a terminal started it: whatever started the tests may ignore that a terminal is closed (SIGHUP),
/// as `nohup` does, and children inherit that.
#[must_use]
pub fn from_a_terminal(command: &Command) -> Command {
    let mut from_a_terminal = Command::new("env");
    from_a_terminal.arg("--default-signal=HUP").arg(command.get_program()).args(command.get_args());
    from_a_terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    from_a_terminal
}
