//! What a verification found about one camera, as JSON and in words.

use std::time::Duration;

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_proto::registry::v1::Camera;
use serde::Serialize;

use super::{Verified, Vouched};
use crate::{
    reader::{
        Fault,
        manifests::Compared,
        verify::{Missing, Verdict},
    },
    when,
    words::{bytes, count, gap_reason},
};

/// What was found about one camera.
#[derive(Debug, Serialize)]
pub struct Found {
    camera: String,
    camera_id: String,
    pub ok: bool,
    segments: u64,
    verified: u64,
    bytes: u64,
    seconds_recorded: f64,
    /// How many runs of recorders made the segments.
    recorder_runs: usize,
    from: Option<String>,
    to: Option<String>,
    gaps: usize,
    /// Whether there may be more gaps than those; each hole was held against all of them.
    truncated: bool,
    /// Segments of which a second pack has a copy.
    copies: u64,
    failures: u64,
    faults: Vec<FaultLine>,
    missing: Vec<MissingLine>,
    audit_log: LogLine,
}

/// What came of comparing packs with the audit log.
#[derive(Debug, Serialize)]
pub struct LogLine {
    manifests: u64,
    packs_compared: u64,
    packs_destroyed_with_receipt: u64,
    packs_deleted_as_logged: u64,
    packs_deleted_not_yet_logged: u64,
    packs_not_yet_in_a_manifest: u64,
    packs_in_no_manifest: u64,
    packs_that_cannot_be_compared: u64,
    /// What is wrong with the manifests themselves, for all cameras alike.
    troubles: Vec<String>,
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

impl Found {
    pub fn new(camera: &Camera, verified: &Verified, compared: &Compared, audit_log: LogLine) -> Self {
        let Verified { verdict, gaps, truncated, .. } = verified;
        let of_log = compared.faults.len().saturating_add(audit_log.troubles.len());
        let failures = verdict.failures().saturating_add(u64::try_from(of_log).unwrap_or(u64::MAX));
        let faults = verdict.faults.iter().chain(&compared.faults);
        Self {
            camera: camera.name.clone(),
            camera_id: camera.camera_id.clone(),
            ok: failures == 0,
            segments: verdict.segments,
            verified: verdict.verified,
            bytes: verdict.bytes,
            seconds_recorded: verdict.recorded.as_secs_f64(),
            recorder_runs: verdict.recorder_runs.len(),
            from: verdict.span.map(|span| span.start().to_string()),
            to: verdict.span.map(|span| span.end().to_string()),
            gaps: *gaps,
            truncated: *truncated,
            copies: verdict.copies,
            failures,
            faults: faults.map(FaultLine::new).collect(),
            missing: verdict.missing.iter().map(MissingLine::new).collect(),
            audit_log,
        }
    }

    pub fn in_words(&self, verdict: &Verdict, compared: &Compared) -> String {
        let recorded = Duration::try_from_secs_f64(self.seconds_recorded).unwrap_or_default();
        let mut text = format!(
            "{}: {} of {} verified, {}, {} recorded, {}{}",
            self.camera,
            self.verified,
            count(self.segments, "segment"),
            bytes(self.bytes),
            when::words(recorded),
            count(u64::try_from(self.gaps).unwrap_or(u64::MAX), "gap"),
            if self.truncated { " or more" } else { "" },
        );
        text.push_str(match (self.ok, self.segments) {
            (true, 0) => " - nothing was recorded there",
            (true, _) => " - everything is there and unchanged",
            (false, _) => " - FAILED",
        });
        let of_log = compared.faults.iter().map(ToString::to_string).chain(self.audit_log.troubles.clone());
        for trouble in verdict.troubles().into_iter().chain(of_log).chain([self.audit_log.in_words()]) {
            text.push_str("\n  ");
            text.push_str(&trouble);
        }
        text
    }
}

impl LogLine {
    pub fn new(camera: CameraId, compared: &Compared, vouched: &Vouched, now: Timestamp) -> Self {
        let (named, not_yet) = vouched.deletions.count(&vouched.manifests, camera, now);
        Self {
            manifests: vouched.manifests.proved,
            packs_compared: compared.same,
            packs_destroyed_with_receipt: compared.destroyed,
            packs_deleted_as_logged: named,
            packs_deleted_not_yet_logged: not_yet,
            packs_not_yet_in_a_manifest: compared.not_yet,
            packs_in_no_manifest: compared.unlisted,
            packs_that_cannot_be_compared: compared.unproved,
            troubles: vouched.troubles.clone(),
        }
    }

    fn in_words(&self) -> String {
        let mut text = format!(
            "audit log: {} read and proved; {} as the log has them",
            count(self.manifests, "manifest"),
            count(self.packs_compared, "pack")
        );
        for (packs, what) in [
            (self.packs_destroyed_with_receipt, "destroyed by receipt"),
            (self.packs_deleted_as_logged, "deleted, as events of destruction say"),
            (self.packs_deleted_not_yet_logged, "deleted too lately for an event of destruction"),
            (self.packs_not_yet_in_a_manifest, "too new to be in a manifest yet"),
            (self.packs_in_no_manifest, "in no manifest, so that the log cannot vouch for them"),
            (self.packs_that_cannot_be_compared, "not comparable, because storage lost their neighbours"),
        ] {
            if packs > 0 {
                text.push_str(&format!("; {} {what}", count(packs, "pack")));
            }
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
