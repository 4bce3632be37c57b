//! The supervisor of one machine: one child process per service, kept alive.
//!
//! Children start in the order in which they need each other and end in the reverse order. A child
//! that does not come up does not keep the later ones from starting: recording outlives everything
//! else. Certificates are renewed while all run, and the demo camera joins when it has something to
//! show.

mod backoff;
mod board;
pub mod child;
mod log_file;
mod process;

use std::{path::PathBuf, sync::Arc, time::Duration};

use obscura_clock::SharedClock;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use board::{Board, Child, Report};
use child::{Orders, keep_alive};
use process::Program;

use crate::{
    installation::{Installation, Lock, SERVICES},
    problem::{Context as _, Problem, Result},
};

/// How long a service may take to say where it listens before the next one is started anyway.
const COMING_UP: Duration = Duration::from_secs(10);
/// How long the demo camera may take before the recorder is started anyway.
const CAMERA_COMING_UP: Duration = Duration::from_secs(3);
/// How long all children together may take to end.
const DRAIN: Duration = Duration::from_secs(15);
/// What each child may count on at the end of [`DRAIN`], however slow the ones before it were.
const DRAIN_SHARE: Duration = Duration::from_secs(2);
/// How often it is looked whether the demo camera has something to show.
const VIDEOS_EVERY: Duration = Duration::from_secs(1);
/// How often certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);
/// Name of the demo camera among the children.
const DEMO_CAMERA: &str = "demo-camera";

/// A running installation.
#[derive(Debug)]
pub struct Supervisor {
    board: Arc<Board>,
    /// In the order of their start.
    children: Vec<Kept>,
    demo_camera: JoinHandle<Option<Kept>>,
    chores: CancellationToken,
    _lock: Lock,
}

#[derive(Debug)]
struct Kept {
    orders: Orders,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Starts every service of an installation whose lock is held. Once `ending` is cancelled no further
    /// one is started or waited for.
    pub async fn start(
        installation: Installation,
        lock: Lock,
        board: Arc<Board>,
        clock: SharedClock,
        ending: &CancellationToken,
    ) -> Result<Self> {
        for service in SERVICES {
            program_of(service)?;
        }
        let chores = CancellationToken::new();
        tokio::spawn(renew(installation.clone(), board.clone(), clock, chores.clone()));
        let demo_camera = tokio::spawn(await_videos(installation.clone(), board.clone(), chores.clone()));
        let mut children = Vec::new();
        for service in SERVICES {
            if ending.is_cancelled() {
                break;
            }
            if service == "ingest" && installation.wants_demo_camera() && program_of(DEMO_CAMERA).is_ok() {
                // Else the recorder's first try would find nobody and leave a gap of a second or two.
                comes_up(&installation, DEMO_CAMERA, CAMERA_COMING_UP, ending).await;
            }
            children.push(start_service(&installation, service, &board)?);
            if !comes_up(&installation, service, COMING_UP, ending).await {
                board.notice(format_args!(
                    "{service} has not come up within {} s; going on without it for now (log: {})",
                    COMING_UP.as_secs(),
                    installation.log_file(service).display()
                ));
            }
        }
        Ok(Self { board, children, demo_camera, chores, _lock: lock })
    }

    /// What is known about the children.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Ends all children, the last one first: `ingest` still finds `storage` to hand over to.
    pub async fn stop(self) {
        self.chores.cancel();
        let mut children = self.children;
        // The camera started first and ends last, so that no gap is recorded on the way out.
        children.splice(0..0, self.demo_camera.await.ok().flatten());
        let deadline = Instant::now() + DRAIN;
        let last_to_end = (0_u32..).zip(children);
        for (still_to_come, child) in last_to_end.collect::<Vec<_>>().into_iter().rev() {
            end(child, deadline - DRAIN_SHARE * still_to_come).await;
        }
    }
}

async fn end(mut child: Kept, deadline: Instant) {
    child.orders.terminate.cancel();
    if timeout_at(deadline, &mut child.task).await.is_err() {
        child.orders.kill.cancel();
        let _ended_either_way = child.task.await;
    }
}

fn start_service(installation: &Installation, service: &'static str, board: &Arc<Board>) -> Result<Kept> {
    let program = Program {
        path: program_of(service)?,
        arguments: vec!["--config".into(), installation.config_file(service).into()],
        log: installation.log_file(service),
        address_file: Some(installation.address_file(service)),
    };
    Ok(keep(service, program, board))
}

fn keep(name: &'static str, program: Program, board: &Arc<Board>) -> Kept {
    let (orders, board) = (Orders::default(), board.clone());
    board.expect(name);
    let task = tokio::spawn(keep_alive(program, orders.clone(), move |event| board.happened(name, event)));
    Kept { orders, task }
}

/// The executable of a child, beside this one.
fn program_of(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().doing("find the folder of this program")?;
    let path = own.with_file_name(format!("obscura-{name}"));
    if path.is_file() {
        return Ok(path);
    }
    Err(Problem::new(format_args!("{} is missing: it belongs beside this program", path.display()))
        .next(format_args!("build it: cargo build -p obscura-{name}")))
}

async fn comes_up(
    installation: &Installation,
    child: &str,
    within: Duration,
    ending: &CancellationToken,
) -> bool {
    let file = installation.address_file(child);
    let waiting = async {
        while !file.exists() && !ending.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, waiting).await.is_ok()
}

/// Renews certificates until the supervisor ends, at once for the first time: a start goes on without. What
/// cannot be renewed is tried again.
async fn renew(installation: Installation, board: Arc<Board>, clock: SharedClock, until: CancellationToken) {
    let mut failing = false;
    loop {
        let (installation, clock) = (installation.clone(), clock.clone());
        let renewed = tokio::task::spawn_blocking(move || installation.renew_certificates(&*clock)).await;
        match renewed {
            Ok(Ok(names)) if !names.is_empty() => {
                board.notice(format_args!("renewed the certificates of {}", names.join(", ")));
                failing = false;
            }
            Ok(Err(problem)) if !failing => {
                board.notice(format_args!("certificates are not renewed: {problem}"));
                failing = true;
            }
            _ => {}
        }
        if !pause(CERTIFICATES_EVERY, &until).await {
            return;
        }
    }
}

/// Waits until the demo camera has something to show, and starts it. `None` where that never came.
async fn await_videos(
    installation: Installation,
    board: Arc<Board>,
    until: CancellationToken,
) -> Option<Kept> {
    loop {
        // Another process, `camera add`, may have changed what the installation says.
        match Installation::open(installation.root()) {
            Ok(current) if current.wants_demo_camera() => match start_demo_camera(current, &board) {
                Ok(camera) => return Some(camera),
                Err(problem) => {
                    board.notice(problem);
                    until.cancelled().await;
                    return None;
                }
            },
            _ => {}
        }
        if !pause(VIDEOS_EVERY, &until).await {
            return None;
        }
    }
}

fn start_demo_camera(mut installation: Installation, board: &Arc<Board>) -> Result<Kept> {
    let path = program_of(DEMO_CAMERA)?;
    let (port, given_up) = installation.free_demo_camera_port()?;
    if let Some(taken) = given_up {
        board.notice(format_args!(
            "port {taken} is taken by another program, so the demo camera moves to port {port}; cameras that were \
             added from video files before need to be removed and added again"
        ));
    }
    let address_file = installation.address_file(DEMO_CAMERA);
    let program = Program {
        path,
        arguments: vec![
            "--port".into(),
            port.to_string().into(),
            "--videos".into(),
            installation.videos_dir().into(),
            "--address-file".into(),
            address_file.clone().into(),
        ],
        log: installation.log_file(DEMO_CAMERA),
        address_file: Some(address_file),
    };
    Ok(keep(DEMO_CAMERA, program, board))
}

/// Waits; `false` where that was cut short for good.
async fn pause(length: Duration, until: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(length) => true,
        () = until.cancelled() => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_command_that_builds_it() {
        let problem = program_of("no-such-service").unwrap_err();
        assert!(problem.what().contains("obscura-no-such-service is missing"), "{problem}");
        assert_eq!(problem.next_step(), Some("build it: cargo build -p obscura-no-such-service"));
    }

    fn shell(script: &str, folder: &std::path::Path, name: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            log: folder.join(name),
            address_file: None,
        }
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_order_is_killed_at_its_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let board = Arc::new(Board::quiet(folder.path()));
        let stubborn =
            format!("trap '' TERM; touch {}/up; while :; do sleep 0.05; done", folder.path().display());
        let child = keep("stubborn", shell(&stubborn, folder.path(), "x.log"), &board);
        while !folder.path().join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let pid = board.report().children[0].pid.unwrap();
        end(child, Instant::now() + Duration::from_millis(200)).await;
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(board.report().children[0].pid, None);
    }
}
