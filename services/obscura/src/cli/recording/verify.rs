use std::{process::ExitCode, time::Duration};

use clap::Args;
use obscura_clock::Span;
use obscura_proto::registry::v1::Camera;
use serde::Serialize;

use super::{Between, Session, hand_over, is_fresh, totals};
use crate::{
    problem::Result,
    reader::{
        Fault, Reader, Wanted,
        verify::{Missing, Verdict, verify},
    },
    when,
    words::{bytes, count, gap_reason},
};

/// Reason that stands in the grants of a verification.
const REASON: &str = "verifying that the recordings are unchanged";

/// Arguments of `recording verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  obscura recording verify\n  obscura recording verify door --from -24h\n\n\
    Exit code 0 only where everything that was recorded is there, unchanged and readable."
)]
pub struct Verify {
    /// Only this camera
    camera: Option<String>,
    #[command(flatten)]
    between: Between,
}

/// What was found about one camera.
#[derive(Debug, Serialize)]
struct Found {
    camera: String,
    camera_id: String,
    ok: bool,
    segments: u64,
    verified: u64,
    bytes: u64,
    seconds_recorded: f64,
    from: Option<String>,
    to: Option<String>,
    gaps: usize,
    failures: u64,
    faults: Vec<FaultLine>,
    missing: Vec<MissingLine>,
}

#[derive(Debug, Serialize)]
struct FaultLine {
    object: String,
    first_byte: u64,
    last_byte: u64,
    time: Option<String>,
    cause: String,
}

#[derive(Debug, Serialize)]
struct MissingLine {
    recorder_run: u64,
    first_sequence: u64,
    last_sequence: u64,
    from: String,
    to: String,
    explained_by: Option<&'static str>,
}

impl Verify {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        let now = session.clock.wall();
        let span = self.between.span(now)?;
        let services = session.services()?;
        let cameras = match &self.camera {
            Some(name) => vec![services.camera(name, true).await?],
            None => services.cameras(true).await?,
        };
        let reader = Reader::new(&services, &session.clock)?;
        if is_fresh(span, now) {
            hand_over(session, &reader, None, false).await;
        }
        let mut found = Vec::new();
        for camera in &cameras {
            found.push(verify_camera(session, &reader, camera, span).await?);
        }
        let (found, told): (Vec<Found>, Vec<String>) = found.into_iter().unzip();
        session.out.result(&found, words(&told))?;
        Ok(if found.iter().all(|found| found.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn verify_camera(
    session: &Session,
    reader: &Reader<'_>,
    camera: &Camera,
    span: Span,
) -> Result<(Found, String)> {
    let wanted = Wanted::of(camera, REASON, span)?;
    let recordings = reader.recordings(Some(wanted.camera), Some(span)).await?;
    let (segments, _) = totals(&recordings);
    let bar = session.out.progress(segments, "verifying {msg} {wide_bar} {pos} of {len} segments {eta}");
    bar.set_message(camera.name.clone());
    let verdict = verify(reader, &wanted, &recordings, |_| bar.inc(1)).await?;
    bar.finish_and_clear();
    let found = Found::new(camera, &verdict, recordings.gaps.len());
    let told = found.in_words(&verdict);
    Ok((found, told))
}

impl Found {
    fn new(camera: &Camera, verdict: &Verdict, gaps: usize) -> Self {
        Self {
            camera: camera.name.clone(),
            camera_id: camera.camera_id.clone(),
            ok: verdict.is_good(),
            segments: verdict.segments,
            verified: verdict.verified,
            bytes: verdict.bytes,
            seconds_recorded: verdict.recorded.as_secs_f64(),
            from: verdict.span.map(|span| span.start().to_string()),
            to: verdict.span.map(|span| span.end().to_string()),
            gaps,
            failures: verdict.failures(),
            faults: verdict.faults.iter().map(FaultLine::new).collect(),
            missing: verdict.missing.iter().map(MissingLine::new).collect(),
        }
    }

    fn in_words(&self, verdict: &Verdict) -> String {
        let recorded = Duration::try_from_secs_f64(self.seconds_recorded).unwrap_or_default();
        let mut text = format!(
            "{}: {} of {} verified, {}, {} recorded, {}",
            self.camera,
            self.verified,
            count(self.segments, "segment"),
            bytes(self.bytes),
            when::words(recorded),
            count(u64::try_from(self.gaps).unwrap_or(u64::MAX), "gap"),
        );
        text.push_str(match (self.ok, self.segments) {
            (true, 0) => " - nothing was recorded there",
            (true, _) => " - everything is there and unchanged",
            (false, _) => " - FAILED",
        });
        for trouble in verdict.troubles() {
            text.push_str("\n  ");
            text.push_str(&trouble);
        }
        text
    }
}

impl FaultLine {
    fn new(fault: &Fault) -> Self {
        Self {
            object: fault.object_key.clone(),
            first_byte: fault.bytes.start,
            last_byte: fault.bytes.end.saturating_sub(1),
            time: fault.time.map(|time| time.to_string()),
            cause: fault.cause.to_string(),
        }
    }
}

impl MissingLine {
    fn new(missing: &Missing) -> Self {
        Self {
            recorder_run: missing.writer_epoch.0,
            first_sequence: missing.first,
            last_sequence: missing.last,
            from: missing.between.start().to_string(),
            to: missing.between.end().to_string(),
            explained_by: missing.explained.map(gap_reason),
        }
    }
}

fn words(told: &[String]) -> String {
    if told.is_empty() {
        return "There are no cameras, so there is nothing to verify.".to_owned();
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use obscura_clock::Timestamp;

    use super::*;
    use crate::reader::Cause;

    #[test]
    fn a_verdict_names_place_and_cause_of_each_failure() {
        let time: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        let cause = Cause::Swapped { what: "camera", named: "B".into(), expected: "A".into() };
        let fault = Fault { object_key: "eea/x.pack".into(), bytes: 100..200, time: Some(time), cause };
        let verdict = Verdict {
            segments: 2,
            verified: 1,
            faults: vec![fault],
            further_faults: 3,
            ..Verdict::default()
        };
        let camera = Camera { name: "door".into(), ..Camera::default() };
        let text = Found::new(&camera, &verdict, 1).in_words(&verdict);
        assert!(text.starts_with("door: 1 of 2 segments verified"), "{text}");
        assert!(
            text.contains("FAILED\n  2026-11-23T10:00:00.000Z: object swapped: the header names camera B")
        );
        assert!(text.contains("in object eea/x.pack, bytes 100 to 199"), "{text}");
        assert!(text.ends_with("and 3 more faults"), "{text}");
    }
}
