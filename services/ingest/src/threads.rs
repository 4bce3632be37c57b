//! The threads that recorders run on.
//!
//! Frames of one camera are worked on in one place anyway. Threads that do not steal work from each
//! other need no calls to wake each other, which at 25 frames a second and camera is most of what a
//! work-stealing scheduler does here. A thread is used only when those before it have enough to do.
//!
//! A thread that has nothing to do sleeps for [`GATHER`] before it asks for news: at 100 cameras there is some every
//! 0.4 ms, and falling asleep and waking up for each would be an eighth of what recording costs.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    thread::available_parallelism,
    time::Duration,
};

use tokio::runtime::{Builder, Handle};

/// Cameras that are given to a thread before the next one is used.
const CAMERAS_PER_THREAD: usize = 150;

/// How much later than it came a frame may be noticed. Wall time follows the least delayed frame of a window
/// ([`crate::timeline`]), and among hundreds some come just when the thread wakes up.
const GATHER: Duration = Duration::from_millis(8);

/// Runtimes of one thread each.
#[derive(Debug)]
pub struct Threads {
    handles: Vec<Handle>,
    given: AtomicUsize,
}

impl Threads {
    /// As many threads as the machine runs at the same time. They end with the process.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn start() -> io::Result<Self> {
        let count = available_parallelism().map_or(1, std::num::NonZero::get);
        let handles = (0..count).map(start_one).collect::<io::Result<_>>()?;
        Ok(Self { handles, given: AtomicUsize::new(0) })
    }

    /// The thread for one more camera.
    pub fn next(&self) -> &Handle {
        let index = self.given.fetch_add(1, Ordering::Relaxed) / CAMERAS_PER_THREAD;
        let wrapped = index % self.handles.len().max(1);
        #[expect(
            clippy::expect_used,
            reason = "there is at least one thread and the index is smaller than their number"
        )]
        self.handles.get(wrapped).expect("there is at least one thread")
    }
}

fn start_one(index: usize) -> io::Result<Handle> {
    let gather = || std::thread::sleep(GATHER);
    let runtime = Builder::new_current_thread().enable_all().on_thread_park(gather).build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(format!("recorders-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_cameras_share_one_thread_and_many_use_all() {
        let threads = Threads::start().unwrap();
        let first = threads.next().id();
        assert!((1..CAMERAS_PER_THREAD).all(|_| threads.next().id() == first));
        if threads.handles.len() > 1 {
            assert_ne!(threads.next().id(), first);
        }
    }
}
