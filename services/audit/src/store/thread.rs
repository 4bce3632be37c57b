//! The thread on which the log is written.
//!
//! A batch waits for the database about ten times. On the threads that serve requests each of these waits would
//! end behind the encoding of other events; on a thread of its own it ends when the database answers.

use std::{io, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A runtime on one thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Thread {
    handle: Handle,
    _until: oneshot::Sender<()>,
}

impl Thread {
    /// Starts it.
    ///
    /// # Errors
    /// Where the operating system refuses a thread.
    pub fn start() -> io::Result<Self> {
        let (until, dropped) = oneshot::channel::<()>();
        let (started, handle) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name("sequencer".to_owned()).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
            // Whoever asked waits for exactly this.
            let _ = started.send(handle.map_err(|error| io::Error::from(error.kind())));
            if let Ok(runtime) = runtime {
                // Nothing is ever sent; the end comes when the other side is gone.
                let _ = runtime.block_on(dropped);
            }
        })?;
        let handle = handle.recv().map_err(io::Error::other)??;
        Ok(Self { handle, _until: until })
    }

    /// To have something done there.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}
