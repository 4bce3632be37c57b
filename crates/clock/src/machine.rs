//! What the machine knows about time beside the wall clock: how long it has been running, and whether
//! its clock follows a time server.

use std::{fmt, fs, time::Duration};

/// The machine at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Differs after each start of the machine.
    pub boot: String,
    /// Since that start, suspended time included.
    pub up: Duration,
    /// Whether the kernel's clock is kept by a time server.
    pub synchronised: bool,
}

/// Where that comes from.
pub trait Machine: Send + Sync + fmt::Debug {
    /// The machine now; `None` where it does not say.
    fn uptime(&self) -> Option<Uptime>;
}

/// The Linux that this process runs on.
#[derive(Debug)]
pub struct Linux;

impl Machine for Linux {
    fn uptime(&self) -> Option<Uptime> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let up = Duration::try_from_secs_f64(seconds).ok()?;
        Some(Uptime { boot, up, synchronised: synchronised() })
    }
}

/// Asks the kernel without changing anything (`adjtimex(2)` with no modes).
#[expect(unsafe_code, reason = "libc has no safe interface to adjtimex")]
fn synchronised() -> bool {
    // SAFETY: all fields of `timex` are integers, for which zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` that lives and is ours for the whole call.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    state >= 0 && state != libc::TIME_ERROR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_knows_how_long_it_runs() {
        let first = Linux.uptime().unwrap();
        let second = Linux.uptime().unwrap();
        assert_eq!(first.boot, second.boot);
        assert!(first.up > Duration::ZERO && second.up >= first.up);
    }
}
