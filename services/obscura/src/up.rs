//! An installation that runs, and shows how it does.

use std::{collections::BTreeMap, io::Write as _, path::Path, sync::Arc, time::Duration};

use obscura_clock::SharedClock;
use tokio_util::sync::CancellationToken;

use crate::{
    installation::Installation,
    output::on_terminal,
    problem::{Context as _, Result},
    services::Services,
    status::{self, CameraStatusLine, Status},
    supervisor::{Board, Supervisor},
};

/// How often the page is drawn anew.
const REDRAW: Duration = Duration::from_secs(1);
/// How often the cameras are looked at where nobody watches.
const LOOK: Duration = Duration::from_secs(5);

/// A running installation.
#[derive(Debug)]
pub struct Up {
    supervisor: Supervisor,
    services: Services,
    clock: SharedClock,
    /// What the cameras were last seen doing, by id.
    seen: BTreeMap<String, String>,
}

impl Up {
    /// Starts the installation in `root`, making it first where there is none. `prepare` may change it
    /// before anything runs; remarks go to standard error where `aloud`.
    pub async fn start(
        root: &Path,
        clock: &SharedClock,
        aloud: bool,
        ending: &CancellationToken,
        prepare: impl FnOnce(&mut Installation) -> Result<()>,
    ) -> Result<Self> {
        let started = clock.wall();
        let lock = Installation::lock(root)?;
        let mut installation = Installation::prepare(root, clock)?;
        prepare(&mut installation)?;
        let (report, log) = (installation.report_file(), installation.log_file("supervisor"));
        let board = Arc::new(Board::new(&report, &log, clock.clone(), started, aloud)?);
        board.notice(format_args!("starting Obscura in {}", installation.root().display()));
        let services = Services::of(&installation)?;
        let supervisor = Supervisor::start(installation, lock, board, clock.clone(), ending).await?;
        Ok(Self { supervisor, services, clock: clock.clone(), seen: BTreeMap::new() })
    }

    /// Connections to the services.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Tells a person something.
    pub fn notice(&self, text: impl std::fmt::Display) {
        self.supervisor.board().notice(text);
    }

    /// How it does now.
    pub async fn status(&mut self) -> Status {
        let report = self.supervisor.board().report();
        let (status, first_acknowledged) = status::collect(&self.services, Some(&report), &self.clock).await;
        if let Some(at) = first_acknowledged {
            self.supervisor.board().acknowledged(at);
        }
        for change in changes(&mut self.seen, &status.cameras) {
            self.notice(change);
        }
        status
    }

    /// Shows the page, and `below` it, until it is time to end. Where nobody watches, remarks about what
    /// changes go to the log.
    pub async fn watch(&mut self, ending: &CancellationToken, below: &str) -> Result<()> {
        let every = if on_terminal() { REDRAW } else { LOOK };
        while !ending.is_cancelled() {
            let status = tokio::select! {
                status = self.status() => status,
                () = ending.cancelled() => return Ok(()),
            };
            if on_terminal() {
                draw(&status, below).doing("draw the page")?;
            }
            let recording =
                status.supervisor.is_some_and(|supervisor| supervisor.recording_after_s.is_some());
            let pause = if recording { every } else { REDRAW };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Ends all children in order.
    pub async fn stop(self) {
        self.notice("ending");
        self.supervisor.stop().await;
    }
}

/// Sends the cursor home, clears the screen and writes the page.
fn draw(status: &Status, below: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "\x1b[H\x1b[2J{}\n\n{below}\n", status::page(status))?;
    out.flush()
}

/// Remarks about cameras that do something else than when last seen.
fn changes(seen: &mut BTreeMap<String, String>, cameras: &[CameraStatusLine]) -> Vec<String> {
    let mut changes = Vec::new();
    for camera in cameras.iter().filter(|camera| camera.told_by_recorder) {
        let reason = camera.reason.as_deref().filter(|_| !camera.recording);
        let does =
            reason.map_or_else(|| camera.state.clone(), |reason| format!("{}: {reason}", camera.state));
        if seen.get(&camera.id) != Some(&does) {
            changes.push(format!("camera {}: {does}", camera.id));
            seen.insert(camera.id.clone(), does);
        }
    }
    seen.retain(|id, _| cameras.iter().any(|camera| camera.id == *id));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(state: &str, reason: Option<&str>) -> CameraStatusLine {
        CameraStatusLine {
            state: state.into(),
            reason: reason.map(str::to_owned),
            told_by_recorder: true,
            ..CameraStatusLine::unknown("7", "gate", "")
        }
    }

    #[test]
    fn a_camera_is_remarked_on_when_it_changes_and_not_otherwise() {
        let mut seen = BTreeMap::new();
        let waiting = [camera("waiting", Some("the connection broke"))];
        assert_eq!(changes(&mut seen, &waiting), ["camera 7: waiting: the connection broke"]);
        assert!(changes(&mut seen, &waiting).is_empty());
        assert_eq!(changes(&mut seen, &[camera("recording", None)]), ["camera 7: recording"]);
        assert!(changes(&mut seen, &[]).is_empty() && seen.is_empty());
    }
}
