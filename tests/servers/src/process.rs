//! A server as a child process that never outlives the tests.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A running server. Killed when dropped, and when the tests end or are killed themselves.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a program as the user that runs the tests. What it says is appended to `log`.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let mut guarded = Command::new("setpriv");
        guarded.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
        guarded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            guarded.current_dir(directory);
        }
        let log = File::options().create(true).append(true).open(log).context("cannot write its log")?;
        guarded.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (answer, child) = mpsc::channel();
        let spawner = spawner().lock().unwrap_or_else(PoisonError::into_inner).clone();
        spawner.send((guarded, answer)).context("the thread that starts servers is gone")?;
        Ok(Self(child.recv().context("the thread that starts servers is gone")?.context("cannot start it")?))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Stops it in the middle of whatever it does; the kernel goes on taking bytes for it.
    ///
    /// # Errors
    /// Where it is gone.
    pub fn pause(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), Signal::STOP)?)
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        // Both fail only where it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Linux ends a child together with the *thread* that started it, and threads of tests are
/// short-lived: one thread that lives as long as the process starts them all.
fn spawner() -> &'static Mutex<mpsc::Sender<Order>> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in orders {
                // Whoever asked waits for it.
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    })
}
