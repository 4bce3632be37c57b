mod found;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use clap::Args;
use obscura_clock::{Span, Timestamp};
use obscura_ids::CameraId;
use obscura_proto::registry::v1::Camera;

use self::found::{Found, LogLine};
use super::{super::audit::own_key, Between, Session, hand_over, is_fresh, totals};
use crate::{
    problem::{Context as _, Result},
    reader::{
        Interrupt, Reader, Wanted,
        manifests::{self, Compared, Deletions, Destroyed, Manifests, missing},
        verify::{Verdict, verify},
    },
    services::Services,
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

/// What the audit log says, before and after the footage was read.
struct Vouched {
    manifests: Manifests,
    destroyed: Destroyed,
    deletions: Deletions,
    troubles: Vec<String>,
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
    Ok(Verified {
        camera: wanted.camera,
        verdict,
        gaps: recordings.gaps.len(),
        truncated: recordings.truncated,
    })
}

/// The footage of one camera as it was found.
struct Verified {
    camera: CameraId,
    verdict: Verdict,
    gaps: usize,
    /// Whether the index could not tell all gaps and runs in one answer.
    truncated: bool,
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

fn words(told: &[String]) -> String {
    if told.is_empty() {
        return "There are no cameras, so there is nothing to verify.".to_owned();
    }
    told.join("\n")
}
