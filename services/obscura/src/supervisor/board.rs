//! What the supervisor knows, for its own page and for `obscura status` in another process.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use obscura_clock::{SharedClock, Timestamp};
use obscura_daemon::write_atomically;
use serde::{Deserialize, Serialize};

use super::{
    child::Event,
    log_file::{LIMIT, LogFile},
};
use crate::{
    problem::{Context as _, Result},
    when,
};

/// Notices that are kept for the page.
const NOTICES: usize = 5;

/// What is known about the children at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Process id of the supervisor.
    pub pid: u32,
    /// When `obscura up` was started.
    pub started: Timestamp,
    /// When the first segment since then was durable.
    pub first_acknowledged: Option<Timestamp>,
    /// In the order of their start.
    pub children: Vec<Child>,
    /// The newest remarks, oldest first.
    pub notices: VecDeque<String>,
}

/// What is known about one child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Child {
    /// Name, for example `ingest`.
    pub name: String,
    /// Process id while it runs.
    pub pid: Option<u32>,
    /// When it was started; while it does not run, when it ended.
    pub since: Option<Timestamp>,
    /// How often it had to be started again.
    pub restarts: u32,
    /// How it ended the last time it was not asked to.
    pub last_end: Option<String>,
}

/// Collects what happens.
#[derive(Debug)]
pub struct Board {
    report: Mutex<Report>,
    log: Mutex<LogFile>,
    file: PathBuf,
    clock: SharedClock,
    aloud: bool,
}

impl Board {
    /// An empty board whose report is kept in `file` and whose remarks go to `log`, and where `aloud`
    /// also to standard error.
    pub fn new(file: &Path, log: &Path, clock: SharedClock, started: Timestamp, aloud: bool) -> Result<Self> {
        let report = Report {
            pid: std::process::id(),
            started,
            first_acknowledged: None,
            children: Vec::new(),
            notices: VecDeque::new(),
        };
        let log = LogFile::open(log, LIMIT).doing(format_args!("open {}", log.display()))?;
        let board =
            Self { report: Mutex::new(report), log: Mutex::new(log), file: file.to_owned(), clock, aloud };
        board.save();
        Ok(board)
    }

    /// A copy of what is known.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// Makes room for a child that is about to be started.
    pub fn expect(&self, name: &str) {
        let child = Child { name: name.to_owned(), pid: None, since: None, restarts: 0, last_end: None };
        self.lock().children.push(child);
    }

    /// Takes note of what happened to a child.
    pub fn happened(&self, name: &str, event: Event) {
        if let Event::Died { how, again_in } = &event {
            self.notice(format_args!("{name} {how}; starting it again in {}", when::words(*again_in)));
        }
        let now = self.clock.wall();
        if let Some(child) = self.lock().children.iter_mut().find(|child| child.name == name) {
            child.apply(event, now);
        }
        self.save();
    }

    /// Takes note of the first durable segment; later ones change nothing.
    pub fn acknowledged(&self, at: Timestamp) {
        let started = {
            let mut report = self.lock();
            if report.first_acknowledged.is_some() || at < report.started {
                return;
            }
            report.first_acknowledged = Some(at);
            report.started
        };
        self.notice(format_args!("recording after {}", when::words(at.since(started))));
    }

    /// Tells a person something.
    pub fn notice(&self, text: impl fmt::Display) {
        let line = format!("{} {text}", when::local(self.clock.wall()));
        {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let _lost_where_the_disk_is_full = log.append(format!("{line}\n").as_bytes());
        }
        if self.aloud {
            // Nobody is left to tell where the terminal was closed.
            let _ = writeln!(io::stderr(), "{line}");
        }
        {
            let mut report = self.lock();
            report.notices.push_back(line);
            if report.notices.len() > NOTICES {
                report.notices.pop_front();
            }
        }
        self.save();
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file only informs `obscura status`; a full disk must not stop the supervisor.
    fn save(&self) {
        if let Ok(text) = serde_json::to_vec(&self.report()) {
            let _informs_only = write_atomically(&self.file, &text, 0o600);
        }
    }

    #[cfg(test)]
    pub fn quiet(folder: &Path) -> Self {
        let clock = obscura_clock::SystemClock::shared();
        let started = clock.wall();
        Self::new(&folder.join("supervisor.json"), &folder.join("supervisor.log"), clock, started, false)
            .unwrap()
    }
}

impl Child {
    fn apply(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Started { pid } => {
                self.restarts += u32::from(self.last_end.is_some() || self.since.is_some());
                (self.pid, self.since) = (Some(pid), Some(now));
            }
            Event::Died { how, .. } => {
                (self.pid, self.since, self.last_end) = (None, Some(now), Some(how));
            }
            Event::Stopped => (self.pid, self.since) = (None, Some(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn died() -> Event {
        Event::Died { how: "ended with exit code 1".to_owned(), again_in: Duration::from_millis(200) }
    }

    #[test]
    fn another_process_reads_what_the_supervisor_knows() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::quiet(folder.path());
        board.expect("keys");
        for event in [Event::Started { pid: 7 }, died(), Event::Started { pid: 8 }] {
            board.happened("keys", event);
        }
        let text = std::fs::read_to_string(folder.path().join("supervisor.json")).unwrap();
        let report: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((report.children[0].pid, report.children[0].restarts), (Some(8), 1));
        assert!(report.notices[0].contains("keys ended with exit code 1; starting it again in 0.2 s"));
    }

    #[test]
    fn only_the_newest_remarks_are_kept_but_all_are_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::quiet(folder.path());
        for number in 0..9 {
            board.notice(format_args!("remark {number}"));
        }
        assert_eq!(board.report().notices.len(), NOTICES);
        let log = std::fs::read_to_string(folder.path().join("supervisor.log")).unwrap();
        assert_eq!(log.lines().count(), 9);
    }

    #[test]
    fn the_first_segment_counts_once_and_not_one_of_an_earlier_life() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::quiet(folder.path());
        let started = board.report().started;
        board.acknowledged(started - Duration::from_secs(1));
        assert_eq!(board.report().first_acknowledged, None);
        board.acknowledged(started + Duration::from_secs(2));
        board.acknowledged(started + Duration::from_secs(9));
        assert_eq!(board.report().first_acknowledged, Some(started + Duration::from_secs(2)));
    }
}
