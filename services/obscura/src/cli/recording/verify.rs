use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Args;
use obscura_clock::{Span, Timestamp};
use obscura_ids::CameraId;
use obscura_proto::registry::v1::Camera;
use serde::Serialize;

use super::{super::audit::own_key, Between, Session, hand_over, is_fresh, totals};
use crate::{
    problem::{Context as _, Result},
    reader::{
        Fault, Interrupt, Reader, Wanted,
        manifests::{self, Compared, Deletions, Destroyed, Manifests, missing},
        verify::{Missing, Verdict, verify},
    },
    services::Services,
    when,
    words::{bytes, count, gap_reason},
};

/// Reason that stands in the grants of a verification.
const REASON: &str = "verifying that the recordings are unchanged";

/// Arguments of `recording verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  obscura recording verify\n  obscura recording verify door --from -24h\n\n\
    Heads of packs are compared with the manifests in the audit log, so that a pack that was changed, shortened\n\
    or dropped is found even where index and objects agree. That the log itself is whole: obscura audit export,\n\
    obscura audit verify.\n\n\
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
    /// How many runs of recorders made the segments.
    recorder_runs: usize,
    from: Option<String>,
    to: Option<String>,
    gaps: usize,
    /// Segments of which a second pack has a copy.
    copies: u64,
    failures: u64,
    faults: Vec<FaultLine>,
    missing: Vec<MissingLine>,
    audit_log: LogLine,
}

/// What came of comparing packs with the audit log.
#[derive(Debug, Serialize)]
struct LogLine {
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

/// What the audit log says, before and after the footage was read.
struct Vouched {
    manifests: Manifests,
    destroyed: Destroyed,
    deletions: Deletions,
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

impl Verify {
    pub async fn run(self, session: &Session) -> Result<ExitCode> {
        Interrupt::watch(async |interrupt| self.read(session, interrupt).await).await
    }

    async fn read(&self, session: &Session, interrupt: Interrupt) -> Result<ExitCode> {
        let now = session.clock.wall();
        let span = self.between.span(now)?;
        let services = session.services()?;
        let cameras = match &self.camera {
            Some(name) => vec![services.camera(name, true).await?],
            None => services.cameras(true).await?,
        };
        let reader = Reader::new(&services, &session.clock)?.until(interrupt);
        if is_fresh(span, now) {
            hand_over(session, &reader, None, false).await;
        }
        // Before the index is asked: what is named there then must be in it.
        let manifests = listed(session, &services, &cameras, span).await?;
        let mut verified = Vec::new();
        for camera in &cameras {
            verified.push(verify_camera(session, &reader, camera, span).await?);
        }
        let vouched = vouch(&services, manifests, &verified, now).await?;
        let found = cameras.iter().zip(&verified).map(|(camera, verified)| {
            let compared = verified.compare(&vouched, span, now);
            let log = LogLine::new(verified.camera, &compared, &vouched, now);
            let found = Found::new(camera, verified, &compared, log);
            let told = found.in_words(&verified.verdict, &compared);
            (found, told)
        });
        let (found, told): (Vec<Found>, Vec<String>) = found.unzip();
        session.out.result(&found, words(&told))?;
        Ok(if found.iter().all(|found| found.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn verify_camera(
    session: &Session,
    reader: &Reader<'_>,
    camera: &Camera,
    span: Span,
) -> Result<Verified> {
    let wanted = Wanted::of(camera, REASON, span)?;
    let recordings = reader.recordings(Some(wanted.camera), Some(span)).await?;
    let (segments, _) = totals(&recordings);
    let bar = session.out.progress(segments, "verifying {msg} {wide_bar} {pos} of {len} segments {eta}");
    bar.set_message(camera.name.clone());
    let verdict = verify(reader, &wanted, &recordings, |_| bar.inc(1)).await?;
    bar.finish_and_clear();
    Ok(Verified { camera: wanted.camera, verdict, gaps: recordings.gaps.len() })
}

/// The footage of one camera as it was found.
struct Verified {
    camera: CameraId,
    verdict: Verdict,
    gaps: usize,
}

impl Verified {
    fn compare(&self, vouched: &Vouched, span: Span, now: Timestamp) -> Compared {
        let Vouched { manifests, destroyed, .. } = vouched;
        Compared::new(manifests, self.camera, span, &self.verdict.statements, destroyed, now)
    }
}

/// What the audit log names of these cameras.
async fn listed(session: &Session, services: &Services, cameras: &[Camera], span: Span) -> Result<Manifests> {
    let ids = cameras.iter().map(|camera| camera.camera_id.parse());
    let ids: BTreeSet<CameraId> = ids.collect::<Result<_, _>>().doing("read the ids of cameras")?;
    let log = own_key(services.installation())?;
    let bar = session.out.progress(0, "reading the audit log {spinner} {pos} manifests");
    let manifests = manifests::read(services, &log, &ids, span, || bar.inc(1)).await;
    bar.finish_and_clear();
    manifests
}

/// Asks custody for its receipts where something is gone.
async fn vouch(
    services: &Services,
    manifests: Manifests,
    verified: &[Verified],
    now: Timestamp,
) -> Result<Vouched> {
    let span = manifests.span();
    let gone =
        |one: &Verified| missing(&manifests, one.camera, span, &one.verdict.statements).next().is_some();
    let is_whole = manifests.deleted.is_empty() && manifests.unknown.is_empty() && !verified.iter().any(gone);
    let destroyed = if is_whole {
        Destroyed::default()
    } else {
        let near = Duration::from_secs(6 * 3_600);
        let (from, to) = (span.start() - near, span.end() + near);
        Destroyed::read(services, |_, hour| from <= hour && hour <= to).await?
    };
    let log = own_key(services.installation())?;
    let deletions = Deletions::read(services, &log, &manifests).await?;
    let troubles = troubles(&manifests, &destroyed, &deletions, now);
    Ok(Vouched { manifests, destroyed, deletions, troubles })
}

/// What is wrong with manifests, whichever camera it is about.
fn troubles(
    manifests: &Manifests,
    destroyed: &Destroyed,
    deletions: &Deletions,
    now: Timestamp,
) -> Vec<String> {
    let claimed = manifests.deleted.beyond(destroyed).into_iter().map(|(camera, hour)| {
        format!(
            "storage says that it deleted packs of camera {camera} of the hour from {hour}, and no receipt of \
             destruction covers them"
        )
    });
    // Once the index was lost nobody can tell of which camera they were.
    let explained = |pack, at| deletions.names(pack) && destroyed.touches_hour_of(at);
    let lost = manifests.unknown_within().filter(|(pack, _, at)| !explained(*pack, *at));
    let untold = deletions.troubles(manifests, now);
    let lost = lost.map(|(pack, entry, _)| {
        format!("entry {entry} of the audit log names pack {pack}, which storage does not know any more")
    });
    manifests.troubles.iter().cloned().chain(claimed).chain(untold).chain(lost).collect()
}

impl Found {
    fn new(camera: &Camera, verified: &Verified, compared: &Compared, audit_log: LogLine) -> Self {
        let Verified { verdict, gaps, .. } = verified;
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
            copies: verdict.copies,
            failures,
            faults: faults.map(FaultLine::new).collect(),
            missing: verdict.missing.iter().map(MissingLine::new).collect(),
            audit_log,
        }
    }

    fn in_words(&self, verdict: &Verdict, compared: &Compared) -> String {
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
        let of_log = compared.faults.iter().map(ToString::to_string).chain(self.audit_log.troubles.clone());
        for trouble in verdict.troubles().into_iter().chain(of_log).chain([self.audit_log.in_words()]) {
            text.push_str("\n  ");
            text.push_str(&trouble);
        }
        text
    }
}

impl LogLine {
    fn new(camera: CameraId, compared: &Compared, vouched: &Vouched, now: Timestamp) -> Self {
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

fn words(told: &[String]) -> String {
    if told.is_empty() {
        return "There are no cameras, so there is nothing to verify.".to_owned();
    }
    told.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{Cause, everything};

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
        let verified = Verified { camera: CameraId::generate(), verdict, gaps: 1 };
        let compared = Compared { same: 3, not_yet: 1, ..Compared::default() };
        let log = LogLine::new(verified.camera, &compared, &vouched(), time);
        let found = Found::new(&camera, &verified, &compared, log);
        let text = found.in_words(&verified.verdict, &compared);
        assert!(text.starts_with("door: 1 of 2 segments verified"), "{text}");
        assert!(
            text.contains("FAILED\n  2026-11-23T10:00:00.000Z: object swapped: the header names camera B")
        );
        assert!(text.contains("in object eea/x.pack, bytes 100 to 199"), "{text}");
        assert!(text.contains("and 3 more faults"), "{text}");
        let log = "0 manifests read and proved; 3 packs as the log has them; 1 pack too new to be in a manifest yet";
        assert!(text.ends_with(log), "{text}");
    }

    fn vouched() -> Vouched {
        let manifests = Manifests::new(BTreeSet::new(), everything());
        let (destroyed, deletions) = (Destroyed::default(), Deletions::default());
        Vouched { manifests, destroyed, deletions, troubles: Vec::new() }
    }

    #[test]
    fn what_is_wrong_with_a_manifest_fails_every_camera() {
        let (camera, compared) = (Camera::default(), Compared::default());
        let verified = Verified { camera: CameraId::generate(), verdict: Verdict::default(), gaps: 0 };
        let good = vouched();
        let now = Timestamp::from_unix_nanos(0);
        let log = |vouched: &Vouched| LogLine::new(verified.camera, &compared, vouched, now);
        assert!(Found::new(&camera, &verified, &compared, log(&good)).ok);
        let bad = Vouched { troubles: vec!["entry 7 is not proved".into()], ..good };
        let found = Found::new(&camera, &verified, &compared, log(&bad));
        assert!(!found.ok && found.in_words(&verified.verdict, &compared).contains("entry 7 is not proved"));
    }

    #[test]
    fn a_pack_that_nobody_knows_is_a_trouble_unless_its_deletion_is_logged_and_keys_of_its_hour_are_destroyed()
     {
        let mut manifests = Manifests::new(BTreeSet::new(), everything());
        let pack: obscura_ids::PackId = "0193d5a0-1c00-7000-8000-000000000000".parse().unwrap();
        manifests.unknown.push((pack, 7));
        let at = Timestamp::from_unix_nanos(0x0193_d5a0_1c00 * 1_000_000);
        let told =
            |destroyed: &Destroyed, deletions: &Deletions| troubles(&manifests, destroyed, deletions, at);
        let lost = told(&Destroyed::default(), &Deletions::default());
        assert!(lost[0].contains("entry 7 of the audit log names pack 0193d5a0"), "{lost:?}");
        let mut destroyed = Destroyed::default();
        let span = Span::try_new(at, at + Duration::from_secs(60)).unwrap();
        destroyed.add_inside(CameraId::generate(), obscura_ids::Layer::Original, span);
        assert_eq!(told(&destroyed, &Deletions::default()), lost, "no event names it");
        let named = Deletions::naming(pack);
        assert_eq!(told(&Destroyed::default(), &named), lost, "no key of that hour is destroyed");
        assert!(told(&destroyed, &named).is_empty());
    }
}
