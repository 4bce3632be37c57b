//! The demonstration: everything that `up` starts, with a site and a camera, in a directory of its own.

mod folder;

use std::{path::PathBuf, time::Duration};

use obscura_clock::{SharedClock, Timestamp};
use obscura_proto::{
    footage::v1::Gap,
    registry::v1::{AddCameraRequest, AddSiteRequest, Attestation, Camera, Coordinates, ListSitesRequest},
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    camera::{add, await_demo_camera, demo_purpose, seal, test_video},
    ending::ending,
    installation::Installation,
    output::{Output, on_terminal},
    problem::{Context as _, Problem, Result},
    reader::{
        Interrupt, Reader, Wanted, everything,
        verify::{Verdict, verify},
    },
    services::{PROMPT, Services, command},
    source::Rtsp,
    up::Up,
    when,
    words::{bytes, count, shell},
};

/// Name of the site and of the camera.
const NAME: &str = "demo";
/// Berlin, Alexanderplatz.
const PLACE: Coordinates = Coordinates { latitude: 52.52, longitude: 13.405 };
/// How long the first durable footage may take.
const FIRST_FOOTAGE: Duration = Duration::from_secs(60);
/// Part of the asked time that must really have been recorded.
const ENOUGH: f64 = 0.8;

/// What is recorded.
#[derive(Clone, Debug)]
pub enum Footage {
    /// The drawn scene of the demo camera.
    Scene,
    /// A video file, played by the demo camera.
    Video(PathBuf),
    /// A camera of the person who watches.
    Rtsp(Rtsp),
}

/// What is demonstrated, and where.
#[derive(Debug)]
pub struct Demo {
    /// The state directory; a new one under the directory for temporary files where none.
    pub root: Option<PathBuf>,
    /// What is recorded.
    pub footage: Footage,
    /// How long from the first durable footage on; until a signal where not set.
    pub length: Option<Duration>,
    /// Whether a new state directory is kept.
    pub keep: bool,
}

/// How a demonstration of limited length went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Segments in the index.
    pub segments: u64,
    /// Sealed bytes.
    pub bytes: u64,
    /// Gaps, except the one from the end on.
    pub gaps: usize,
    /// Recorded time.
    pub seconds_recorded: f64,
    /// Segments that were read back, decrypted and verified.
    pub verified: u64,
    /// Things that are wrong.
    pub failures: u64,
    /// Seconds from the start to the first durable footage.
    pub first_acknowledged_after_s: Option<f64>,
}

impl Summary {
    fn passes(&self, asked: Duration) -> bool {
        self.failures == 0
            && self.segments > 0
            && self.verified == self.segments
            && self.seconds_recorded >= asked.as_secs_f64() * ENOUGH
    }

    fn in_words(&self, asked: Duration) -> String {
        let after = self
            .first_acknowledged_after_s
            .map_or_else(String::new, |after| format!(", recording after {after:.1} s"));
        format!(
            "{} {} of {} verified, {}, {:.1} s recorded of {} asked for, {}, {}{after}.",
            if self.passes(asked) { "Passed:" } else { "FAILED:" },
            self.verified,
            count(self.segments, "segment"),
            bytes(self.bytes),
            self.seconds_recorded,
            when::words(asked),
            count(u64::try_from(self.gaps).unwrap_or(u64::MAX), "gap"),
            count(self.failures, "failure"),
        )
    }
}

/// The state directory and, where it is a new one that goes again, its guard.
struct State {
    root: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl State {
    fn choose(demo: &Demo) -> Result<Self> {
        if let Some(root) = &demo.root {
            return Ok(Self { root: root.clone(), temporary: None });
        }
        let parent = std::env::temp_dir();
        if demo.keep {
            return Ok(Self { root: folder::kept(&parent)?, temporary: None });
        }
        let folder = folder::temporary(&parent)?;
        Ok(Self { root: folder.path().to_owned(), temporary: Some(folder) })
    }
}

/// Runs a demonstration. Whether it went well.
pub async fn run(demo: Demo, out: Output, clock: &SharedClock) -> Result<bool> {
    let ending = ending()?;
    remove_leftovers(out);
    let state = State::choose(&demo)?;
    let aloud = !out.is_json() && (demo.length.is_some() || !on_terminal());
    let mut stem = None;
    let mut up = Up::start(&state.root, clock, aloud, &ending, |installation| {
        stem = prepare(installation, &demo.footage)?;
        Ok(())
    })
    .await?;
    let outcome = demonstrate(&demo, &mut up, stem.as_deref(), out, clock, &ending).await;
    up.stop().await;
    match state.temporary {
        Some(folder) => folder.close().doing("remove the state directory")?,
        None => out.remark(format_args!("The footage is kept in {}.", state.root.display())),
    }
    outcome
}

/// Removes what earlier demonstrations left that did not come to their end.
fn remove_leftovers(out: Output) {
    for (path, removed) in folder::remove_leftovers(&std::env::temp_dir()) {
        let path = path.display();
        match removed {
            Ok(()) => out.remark(format_args!("Removed {path} of a demonstration that was cut short.")),
            Err(error) => out.complain(format_args!(
                "{path} of a demonstration that was cut short cannot be removed: {error}"
            )),
        }
    }
}

/// Has the demo camera show what is wanted. The stem of the video file, where there is one.
fn prepare(installation: &mut Installation, footage: &Footage) -> Result<Option<String>> {
    match footage {
        Footage::Scene => installation.show_scene().map(|_| None),
        Footage::Video(path) => installation.add_video(path).map(Some),
        Footage::Rtsp(_) => Ok(None),
    }
}

async fn demonstrate(
    demo: &Demo,
    up: &mut Up,
    stem: Option<&str>,
    out: Output,
    clock: &SharedClock,
    ending: &CancellationToken,
) -> Result<bool> {
    if ending.is_cancelled() {
        return Err(interrupted());
    }
    let camera = set_up(up.services(), &demo.footage, stem, clock.wall()).await?;
    let Some(length) = demo.length else {
        let hints = hints(up.services().installation(), &camera.name);
        if !on_terminal() {
            out.remark(&hints);
        }
        up.watch(ending, &hints).await?;
        return Ok(true);
    };
    let first_acknowledged_after_s = Some(await_footage(up, ending).await?);
    record(up, length, out, ending).await?;
    let summary = Summary {
        first_acknowledged_after_s,
        ..verify_all(up.services(), &camera, out, clock, ending).await?
    };
    out.result(&summary, summary.in_words(length))?;
    Ok(summary.passes(length))
}

fn interrupted() -> Problem {
    Problem::new("the demonstration was interrupted before its end")
}

/// A site and a camera, unless an earlier demonstration in the same directory made them.
async fn set_up(
    services: &Services,
    footage: &Footage,
    stem: Option<&str>,
    now: Timestamp,
) -> Result<Camera> {
    let mut registry = services.registry();
    let sites =
        services.ask("registry", "list sites", PROMPT, registry.list_sites(ListSitesRequest {})).await?.sites;
    if !sites.iter().any(|site| site.name == NAME) {
        let attestation =
            Attestation { coordinates: Some(PLACE), attested_by: NAME.to_owned(), attested_unix_ns: 0 };
        let request = AddSiteRequest { name: NAME.to_owned(), attestation: Some(attestation) };
        services.ask("registry", "add the site", PROMPT, registry.add_site(request)).await?;
    }
    let name = stem.map_or_else(|| NAME.to_owned(), |stem| format!("{NAME}-{stem}"));
    let cameras = services.cameras(false).await?;
    match cameras.into_iter().find(|camera| camera.name == name) {
        Some(camera) if !matches!(footage, Footage::Rtsp(_)) => Ok(camera),
        Some(_) => Err(Problem::new("the state directory holds a demo camera with another source already")
            .next(command(services.installation(), "camera remove demo"))),
        None => add_camera(services, name, footage, stem, now).await,
    }
}

async fn add_camera(
    services: &Services,
    name: String,
    footage: &Footage,
    stem: Option<&str>,
    now: Timestamp,
) -> Result<Camera> {
    let path = stem.map_or_else(|| "scene".to_owned(), |stem| format!("video/{stem}"));
    let source = match footage {
        Footage::Rtsp(rtsp) => rtsp.clone(),
        Footage::Scene | Footage::Video(_) => {
            let port = demo_camera_port(services)?;
            await_demo_camera(port).await?;
            Rtsp::local(port, &path).map_err(Problem::new)?
        }
    };
    let sealed_source = seal(services, &source).await?;
    if matches!(footage, Footage::Video(_)) {
        // Else the first try of the recorder would leave a gap.
        test_video(services, &sealed_source).await?.into_problem().map_or(Ok(()), Err)?;
    }
    let request = AddCameraRequest {
        name,
        site_name: NAME.to_owned(),
        purpose: Some(demo_purpose(when::in_a_year(now))),
        sealed_source: Some(sealed_source),
        plaintext_source: true,
        ..AddCameraRequest::default()
    };
    add(services, request).await
}

/// The port as the supervisor wrote it down when it started the camera.
fn demo_camera_port(services: &Services) -> Result<u16> {
    let camera = Installation::open(services.installation().root())?.settings().demo_camera;
    camera.map(|camera| camera.port).ok_or_else(|| Problem::new("the demo camera has no port yet"))
}

/// Waits for the first durable footage; seconds from the start to it.
async fn await_footage(up: &mut Up, ending: &CancellationToken) -> Result<f64> {
    let deadline = tokio::time::Instant::now() + FIRST_FOOTAGE;
    loop {
        let status = up.status().await;
        let after = status.supervisor.as_ref().and_then(|supervisor| supervisor.recording_after_s);
        if let Some(after) = after {
            return Ok(after);
        }
        if tokio::time::Instant::now() >= deadline {
            let reason = status.cameras.iter().find_map(|camera| camera.reason.clone());
            let reason = reason.unwrap_or_else(|| "no reason is known".to_owned());
            return Err(Problem::new(format_args!(
                "nothing was recorded within {}: {reason}",
                when::words(FIRST_FOOTAGE)
            ))
            .next(format_args!("run it again with --keep and read {}/logs", status.state_directory)));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = ending.cancelled() => return Err(interrupted()),
        }
    }
}

/// Lets time pass.
async fn record(up: &mut Up, length: Duration, out: Output, ending: &CancellationToken) -> Result<()> {
    let bar = out.progress(length.as_secs(), "recording {wide_bar} {pos} of {len} s");
    let end = tokio::time::Instant::now() + length;
    while tokio::time::Instant::now() < end {
        let _remarks_on_changes = up.status().await;
        let left = end.saturating_duration_since(tokio::time::Instant::now());
        bar.set_position(length.saturating_sub(left).as_secs());
        tokio::select! {
            () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
            () = ending.cancelled() => return Err(interrupted()),
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Has the recorder end and hand over everything, reads it all back and verifies it.
async fn verify_all(
    services: &Services,
    camera: &Camera,
    out: Output,
    clock: &SharedClock,
    ending: &CancellationToken,
) -> Result<Summary> {
    let wanted = Wanted::of(camera, "proving that the demonstration recorded what it should", everything())?;
    let reader = Reader::new(services, clock)?.until(Interrupt::of(ending.clone()));
    reader.flush(None, true).await?;
    let recordings = reader.recordings(Some(wanted.camera), None).await?;
    let verdict = verify(&reader, &wanted, &recordings, |_| {}).await?;
    for trouble in verdict.troubles() {
        out.complain(trouble);
    }
    Ok(summary(&verdict, &recordings.gaps))
}

fn summary(verdict: &Verdict, gaps: &[Gap]) -> Summary {
    Summary {
        segments: verdict.segments,
        bytes: verdict.bytes,
        gaps: gaps.len(),
        seconds_recorded: verdict.recorded.as_secs_f64(),
        verified: verdict.verified,
        failures: verdict.failures(),
        first_acknowledged_after_s: None,
    }
}

/// What to try next, as commands that can be copied.
fn hints(installation: &Installation, camera: &str) -> String {
    let program = std::env::current_exe().map_or_else(|_| "obscura".to_owned(), |path| shell(&path));
    let own = format!("{program} --state {}", shell(installation.root()));
    format!(
        "Try in another terminal:\n  \
         {own} status\n  \
         {own} recording list\n  \
         {own} recording get {camera} --from -30s --to now -o clip.mp4 --reason \"trying it out\"\n  \
         {own} recording verify\n  \
         {own} camera add yours rtsp://HOST/PATH --username NAME --purpose \"why\" --legal-basis consent\n  \
         {own} key rotate\n\
         Ctrl-C ends the demonstration."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Summary {
        Summary {
            segments: 10,
            bytes: 1_000_000,
            gaps: 0,
            seconds_recorded: 29.0,
            verified: 10,
            failures: 0,
            first_acknowledged_after_s: Some(2.5),
        }
    }

    #[test]
    fn a_demonstration_passes_only_if_everything_was_recorded_and_verified() {
        let asked = Duration::from_secs(30);
        assert!(good().passes(asked));
        assert!(!Summary { verified: 9, ..good() }.passes(asked));
        assert!(!Summary { failures: 1, ..good() }.passes(asked));
        assert!(!Summary { segments: 0, verified: 0, ..good() }.passes(asked));
        assert!(!Summary { seconds_recorded: 23.9, ..good() }.passes(asked));
    }

    #[test]
    fn the_summary_is_one_sentence() {
        let text = good().in_words(Duration::from_secs(30));
        assert_eq!(
            text,
            "Passed: 10 of 10 segments verified, 976.56 KiB, 29.0 s recorded of 30 s asked for, 0 gaps, 0 failures, \
             recording after 2.5 s."
        );
    }
}
