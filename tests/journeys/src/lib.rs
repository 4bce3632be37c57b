//! What people do with Obscura, from end to end against real servers: the programs as they are
//! shipped, started the way a person starts them, driven through the command line.
//!
//! Ports are chosen by the system and every installation has a state directory of its own, so
//! tests run side by side. Nothing here asserts how long something takes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic in a test is a failed test with a line number"
)]

mod account;
mod camera;
mod installation;
mod programs;
mod replica;

pub use account::unaccounted;
pub use camera::{Auth, PASSWORD, TestCamera, USER};
pub use installation::{Installation, Outcome};
pub use programs::{program, target_dir};
pub use replica::Replica;

use std::time::Duration;

/// How long a journey waits for something that should happen soon, on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Looks every tenth of a second whether something is there, and gives it back.
///
/// # Panics
/// Where it is not there within [`PATIENCE`]: the test has failed.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(pause);
        waited += pause;
    }
    panic!("waited {} s in vain for {what}", PATIENCE.as_secs());
}
