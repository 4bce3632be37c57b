//! Time that passed without a test waiting for it, and clocks that are wrong.
//!
//! The wall clock of a program is moved by libfaketime (Debian `faketime`), its monotonic clocks go on as
//! they are. The time since the machine was started, which the key service compares the wall clock with,
//! is moved by a time namespace of Linux. Both together are a machine that ran on.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{program, target_dir};

/// Programs that stand in for others, and the clock of the one service.
const BESIDE: &str = "programs";
const CLOCK: &str = "clock";
const SERVICES: [&str; 6] = ["keys", "audit", "registry", "storage", "ingest", "demo-camera"];

/// What the programs of an installation take for the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct MovedTime {
    wall_ahead: Duration,
    uptime_ahead: Duration,
    /// The one service whose clocks are moved; those of all programs where none is named.
    only: Option<&'static str>,
}

impl MovedTime {
    /// Whether clocks can be moved here.
    #[must_use]
    pub fn is_possible() -> bool {
        find_library().is_some()
    }

    /// So much time passed since the test began, on every clock.
    #[must_use]
    pub const fn passed(time: Duration) -> Self {
        Self { wall_ahead: time, uptime_ahead: time, only: None }
    }

    /// Somebody set the wall clock of one service, and nothing else. Told to an installation that runs in
    /// this way already, it is set again at once.
    #[must_use]
    pub const fn wrong_clock(service: &'static str, ahead: Duration) -> Self {
        Self { wall_ahead: ahead, uptime_ahead: Duration::ZERO, only: Some(service) }
    }

    /// One service runs on a machine of its own whose clocks agree with each other and are all wrong.
    #[must_use]
    pub const fn wrong_machine(service: &'static str, ahead: Duration) -> Self {
        Self { wall_ahead: ahead, uptime_ahead: ahead, only: Some(service) }
    }

    /// `obscura`, which takes this for the time unless only one service does.
    pub(crate) fn obscura(self) -> Command {
        let time = if self.only.is_some() { Self::default() } else { self };
        let moved = time.wall_ahead > Duration::ZERO;
        let words = time.words(&program("obscura"), moved.then(|| format!("FAKETIME={}", time.offset())));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// `obscura` that starts services, and so the one that takes this for the time. `folder` is for programs
    /// that stand in for others.
    pub(crate) fn supervisor(self, folder: &Path) -> Command {
        self.only.map_or_else(|| self.obscura(), |service| Command::new(self.stand_ins(folder, service)))
    }

    /// `obscura` starts the services that lie beside it. libfaketime can leave programs out, and then some
    /// of their calls fail: so the clocks of one service are moved by a script in its place.
    fn stand_ins(self, folder: &Path, moved: &str) -> PathBuf {
        let beside = folder.join(BESIDE);
        let obscura = beside.join("obscura");
        // It may differ in everything from the last.
        let _ = fs::remove_dir_all(&beside);
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join(CLOCK), self.offset()).unwrap();
        for service in SERVICES.iter().filter(|service| **service != moved) {
            let name = format!("obscura-{service}");
            symlink(target_dir().join(&name), beside.join(&name)).unwrap();
        }
        let name = format!("obscura-{moved}");
        let script = beside.join(&name);
        let clock = format!("FAKETIME_TIMESTAMP_FILE={}", beside.join(CLOCK).display());
        let words = self.words(&program(&name), Some(clock));
        fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // A copy and no link: it looks for the others where it really lies.
        fs::copy(program("obscura"), &obscura).unwrap();
        obscura
    }

    /// Sets the clock of the service that runs with one of its own.
    pub(crate) fn set(self, folder: &Path) {
        let clock = folder.join(BESIDE).join(CLOCK);
        if self.only.is_some() && clock.exists() {
            let new = clock.with_extension("new");
            fs::write(&new, self.offset()).unwrap();
            fs::rename(new, clock).unwrap();
        }
    }

    fn offset(self) -> String {
        format!("+{}", self.wall_ahead.as_secs())
    }

    /// The words of a command that starts a program with these clocks; `wall` says where its wall clock is.
    fn words(self, program: &Path, wall: Option<String>) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        if let Some(wall) = wall {
            add(&["env", &format!("LD_PRELOAD={}", library().display()), &wall]);
            add(&["FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"]);
        }
        if self.uptime_ahead > Duration::ZERO {
            add(&["unshare"]);
            // Not as root it takes a user namespace to make one for time.
            if fs::metadata("/proc/self").unwrap().uid() != 0 {
                add(&["--user", "--map-current-user"]);
            }
            add(&["--time", "--boottime", &self.uptime_ahead.as_secs().to_string(), "--"]);
        }
        add(&[&program.display().to_string()]);
        words
    }
}

/// Where Debian puts it, one folder for each architecture.
fn find_library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists())
}

fn library() -> PathBuf {
    find_library().expect("libfaketime: `tools/need.sh test` installs it")
}
