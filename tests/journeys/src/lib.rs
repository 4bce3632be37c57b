//! What people do with Obscura, from end to end against real servers: the programs as they are
//! shipped, started the way a person starts them, driven through the command line.
//!
//! Ports are chosen by the system and every installation has a state directory of its own, so
//! tests run side by side. Nothing here asserts how long something takes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

mod account;
mod back_ends;
mod camera;
mod installation;
mod moved_time;
mod programs;
mod replica;

pub use account::unaccounted;
pub use back_ends::back_ends;
pub use camera::{Auth, PASSWORD, TestCamera, USER};
pub use installation::{Installation, OFFICER, Outcome, SECOND_AUDITOR, me, signal};
pub use moved_time::MovedTime;
pub use programs::{from_a_terminal, program, target_dir};
pub use replica::Replica;

use std::time::Duration;

/// How long a journey waits for something that should happen soon, on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// For what services do once a minute.
pub const LONG_PATIENCE: Duration = Duration::from_secs(180);

/// Looks every tenth of a second whether something is there, and gives it back.
///
/// # Panics
/// Where it is not there within [`PATIENCE`]: the test has failed.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, look)
}

/// As [`wait_for`], with another patience.
///
/// # Panics
/// Where it is not there within it.
pub fn wait_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    while waited < patience {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(pause);
        waited += pause;
    }
    panic!("waited {} s in vain for {what}", patience.as_secs());
}
