//! A child that is a process of the operating system.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{
    child::{Launch, Running},
    log_file::{self, LogFile},
};

/// How to start one process.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// File that takes what it says on standard error.
    pub log: PathBuf,
    /// File in which it will say where it listens; removed before each start, so that nobody is sent
    /// to the port of its predecessor.
    pub address_file: Option<PathBuf>,
}

/// The C library gives freed memory back to the system at every chance, and buffers of packs and bodies
/// are as large as what it asks the system for one by one (`mallopt(3)`): the allocator and page faults
/// were about a twelfth of what recording costs.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "8388608"),
    ("MALLOC_TRIM_THRESHOLD_", "33554432"),
    ("MALLOC_ARENA_MAX", "2"),
];

impl Launch for Program {
    type Running = Process;

    /// The child gets a process group of its own: Ctrl-C on the terminal reaches the supervisor only,
    /// which then ends its children in order. `OBSCURA_SUPERVISOR` makes a service follow its parent
    /// into death, should the parent be killed.
    fn launch(&mut self) -> io::Result<Process> {
        if let Some(file) = &self.address_file {
            let _absent_is_fine = fs::remove_file(file);
        }
        let log = LogFile::open(&self.log, log_file::LIMIT)?;
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .env("OBSCURA_SUPERVISOR", std::process::id().to_string())
            .envs(ALLOCATOR)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended while it was started"))?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log_file::carry(stderr, log));
        }
        Ok(Process { child, pid })
    }
}

/// A process that was started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pid: u32,
}

impl Running for Process {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn terminate(&mut self) {
        // While `id` is there the process has not been waited for, so the number cannot name another.
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = id {
            let _ended_meanwhile = kill_process(pid, Signal::TERM);
        }
    }

    fn kill(&mut self) {
        let _ended_meanwhile = self.child.start_kill();
    }

    async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => in_words(status),
            Err(error) => format!("was lost: {error}"),
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended by itself without an error".to_owned(),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(9)) => "was killed (signal 9)".to_owned(),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc, time::Duration};

    use super::*;
    use crate::supervisor::child::{Event, Orders, keep_alive};

    fn shell(script: &str, folder: &Path) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: folder.join("child.log"),
            address_file: Some(folder.join("child.addr")),
        }
    }

    /// Runs the script until `enough` says so of an event, then ends it; all events in order.
    async fn run(program: Program, enough: impl Fn(&Event) -> bool) -> Vec<Event> {
        let (sender, receiver) = mpsc::channel();
        let orders = Orders::default();
        let child = tokio::spawn(keep_alive(program, orders.clone(), move |event| {
            let _ = sender.send(event);
        }));
        let mut events = Vec::new();
        loop {
            let received = receiver.try_recv();
            let Ok(event) = received else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            events.push(event);
            if events.last().is_some_and(&enough) {
                break;
            }
        }
        orders.terminate.cancel();
        child.await.unwrap();
        events.extend(receiver.try_iter());
        events
    }

    /// Waits until the log has these words: they are carried into it beside the life of the process.
    async fn comes_to_say(log: &Path, words: &str) {
        for _ in 0..6_000 {
            if fs::read_to_string(log).unwrap().contains(words) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the log lacks `{words}`");
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_and_its_words_are_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let program = shell("echo a complaint >&2; exit 3", folder.path());
        let log = program.log.clone();
        let restarts = std::sync::atomic::AtomicU32::new(0);
        let third = |event: &Event| {
            matches!(event, Event::Died { .. })
                && restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 2
        };
        let events = run(program, third).await;
        let first_death = events.iter().find_map(|event| match event {
            Event::Died { how, .. } => Some(how.as_str()),
            _ => None,
        });
        assert_eq!(first_death, Some("ended with exit code 3"));
        comes_to_say(&log, "a complaint\na complaint\n").await;
    }

    #[tokio::test]
    async fn a_process_is_asked_to_end_and_its_last_words_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("child.addr");
        let script = format!(
            "trap 'echo goodbye >&2; exit 0' TERM; echo up > {}; while :; do sleep 0.05; done",
            ready.display()
        );
        let program = shell(&script, folder.path());
        let log = program.log.clone();
        let orders = Orders::default();
        let child = tokio::spawn(keep_alive(program, orders.clone(), |_| {}));
        while !ready.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        orders.terminate.cancel();
        child.await.unwrap();
        comes_to_say(&log, "goodbye").await;
    }

    #[tokio::test]
    async fn an_address_file_of_an_earlier_life_is_gone_before_the_next_begins() {
        let folder = tempfile::tempdir().unwrap();
        let stale = folder.path().join("child.addr");
        fs::write(&stale, "127.0.0.1:1").unwrap();
        run(shell("sleep 60", folder.path()), |event| matches!(event, Event::Started { .. })).await;
        assert!(!stale.exists());
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(in_words(ExitStatus::from_raw(9)), "was killed (signal 9)");
        assert_eq!(in_words(ExitStatus::from_raw(2 << 8)), "ended with exit code 2");
    }
}
