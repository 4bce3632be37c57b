//! Reading footage back: the index, a grant, the keys it releases, sealed bytes, and their opening.
//!
//! Footage is read in stretches, one page of the index at a time. Each stretch gets a grant of its
//! own that covers exactly its segments, so that memory, grants and released keys stay bounded
//! however long the asked span is. Nothing here prints.

mod fault;
mod fetch;
mod find;
pub mod manifests;
mod open;
mod release;
pub mod verify;

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use obscura_access::LocalIssuer;
use obscura_clock::{SharedClock, Span, Timestamp};
use obscura_daemon::Trust;
use obscura_identity::SpiffeId;
use obscura_ids::CameraId;
use obscura_pack::Directory;
use obscura_proto::{
    audit::v1::{View, view::Phase},
    footage::v1::Layer,
    ingest::v1::FlushRequest,
    registry::v1::Camera,
    storage::v1::{ListRecordingsRequest, ListRecordingsResponse},
};
use obscura_seal::ClearSegment;

pub use fault::{Cause, Fault};
pub use find::Located;
pub use open::has_no_frame;

use crate::{
    log::Log,
    problem::{Context as _, Result},
    services::{PATIENT, Services},
};
use fetch::{Fetch, Source};
use find::Pages;
use release::Released;

/// Fetches that are under way at the same time.
const PARALLEL: usize = 4;

/// What is to be read, and what for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The camera.
    pub camera: CameraId,
    /// Purpose for which the camera films; part of the grant.
    pub purpose: String,
    /// Reason given by the person; part of the grant.
    pub reason: String,
    /// Segments that overlap this span.
    pub span: Span,
}

impl Wanted {
    /// Footage of this camera.
    pub fn of(camera: &Camera, reason: &str, span: Span) -> Result<Self> {
        Ok(Self {
            camera: camera.camera_id.parse().doing("read the camera's id")?,
            purpose: camera.purpose.as_ref().map(|purpose| purpose.text.clone()).unwrap_or_default(),
            reason: reason.to_owned(),
            span,
        })
    }
}

/// Takes what is read, in the order of time.
pub trait Sink {
    /// One page of the index, before its segments come, with what it needs to be fetched again.
    fn stretch(&mut self, stretch: &Stretch<'_>) -> impl Future<Output = Result<()>>;
    /// One segment, or what is wrong with it.
    fn segment(&mut self, located: &Located, opened: Result<ClearSegment, Cause>) -> Result<()>;
    /// A segment whose keys are destroyed, while others keep its object.
    fn shredded(&mut self, located: &Located);
    /// A row of the index that makes no sense.
    fn malformed(&mut self, fault: Fault) -> Result<()>;
    /// Whether segments are also to be examined as media, and those that are shredded are told.
    fn examines(&self) -> bool;
}

/// One page of the index and the way to its objects.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// Segments in the order of time.
    pub segments: &'a [Located],
    /// UUID of the grant that it is read under.
    pub grant_id: &'a str,
    fetch: &'a Fetch,
}

impl Stretch<'_> {
    /// The head of an object. Where it states another length than the index expects, all of what it
    /// states, so that a swapped object can say whose it is.
    pub async fn head(&self, located: &Located) -> Result<bytes::Bytes, Cause> {
        let expected = located.head_length();
        let head = self.fetch.range(&located.object_key, 0..expected).await?;
        let stated = head.first_chunk().and_then(|first| Directory::head_length(first).ok());
        match stated.and_then(|stated| u64::try_from(stated).ok()) {
            Some(stated) if stated != expected => self.fetch.range(&located.object_key, 0..stated).await,
            _ => Ok(head),
        }
    }
}

/// How a grant comes to be: decided here, written into the log, signed here.
#[derive(Debug)]
struct Issuing<'a> {
    issuer: LocalIssuer,
    log: Log<'a>,
    /// Public key of the log.
    audit: [u8; 32],
}

/// Reads with grants of the local issuer.
#[derive(Debug)]
pub struct Reader<'a> {
    services: &'a Services,
    issuing: Issuing<'a>,
    source: Source,
}

impl<'a> Reader<'a> {
    /// A reader for the installation that the services belong to.
    pub fn new(services: &'a Services, clock: &SharedClock) -> Result<Self> {
        let installation = services.installation();
        let issuer = LocalIssuer::open(&installation.issuer_dir(), clock.clone())
            .doing("open the issuer of grants")?;
        let audit = Trust::load(&installation.trust_file()).doing("read whose receipts count")?.audit;
        let issuing = Issuing { issuer, log: Log::of(services, clock.clone()), audit };
        Ok(Self { services, issuing, source: Source::of(services)? })
    }

    /// The audit log that every reading is written into.
    pub const fn log(&self) -> &Log<'a> {
        &self.issuing.log
    }

    /// Runs and gaps of one camera, or of all, without opening anything.
    pub async fn recordings(
        &self,
        camera: Option<CameraId>,
        span: Option<Span>,
    ) -> Result<ListRecordingsResponse> {
        recordings(self.services, camera, span).await
    }

    /// Has the recorder hand over what it has sealed so far, so that the newest footage can be read.
    pub async fn flush(&self, camera: Option<CameraId>, end_open_segments: bool) -> Result<()> {
        let camera_id = camera.map(|id| id.to_string()).unwrap_or_default();
        let mut ingest = self.services.ingest();
        let call = ingest.flush(FlushRequest { camera_id, end_open_segments });
        self.services.ask("ingest", "hand over the newest footage", PATIENT, call).await.map(drop)
    }

    /// Reads everything that is wanted into the sink.
    pub async fn read(&self, wanted: &Wanted, sink: &mut impl Sink) -> Result<()> {
        let mut pages = Pages::of(self.services, wanted, sink.examines());
        while let Some(page) = pages.next().await? {
            for fault in page.malformed {
                sink.malformed(fault)?;
            }
            page.shredded.iter().for_each(|located| sink.shredded(located));
            if !page.segments.is_empty() {
                self.read_stretch(wanted, page.segments, sink).await?;
            }
        }
        Ok(())
    }

    async fn read_stretch(
        &self,
        wanted: &Wanted,
        segments: Vec<Located>,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let released = release::release(self.services, &self.issuing, wanted, &segments).await?;
        let viewing = Viewing {
            log: &self.issuing.log,
            by: self.services.identity().id(),
            wanted,
            grant_id: released.grant_id,
            span: released.span,
        };
        viewing.tell(Phase::Open).await?;
        let Released { urls, keys, .. } = released;
        let fetch = Fetch::new(self.source.clone(), urls);
        sink.stretch(&Stretch { segments: &segments, grant_id: &viewing.grant_id, fetch: &fetch }).await?;
        let (keys, examine) = (Arc::new(keys), sink.examines());
        let fetches = fetch::runs(segments).into_iter().map(|run| run_of(&fetch, run, keys.clone(), examine));
        let mut opened = stream::iter(fetches).buffered(PARALLEL);
        while let Some(run) = opened.next().await {
            for (located, opened) in run? {
                sink.segment(&located, opened)?;
            }
        }
        viewing.tell(Phase::Close).await
    }
}

/// One stretch that is being viewed. A stretch is an hour or so and is read in seconds, so that there is
/// nothing to tell between its opening and its closing.
struct Viewing<'a> {
    log: &'a Log<'a>,
    wanted: &'a Wanted,
    by: &'a SpiffeId,
    grant_id: String,
    span: Span,
}

impl Viewing<'_> {
    async fn tell(&self, phase: Phase) -> Result<()> {
        let view = view(&self.grant_id, self.wanted.camera, self.by, self.span, phase);
        self.log.view(view).await.map(drop)
    }
}

fn view(grant_id: &str, camera: CameraId, by: &SpiffeId, span: Span, phase: Phase) -> View {
    let released = match phase {
        Phase::Close => vec![find::span_message(span)],
        _ => Vec::new(),
    };
    View {
        grant_id: grant_id.to_owned(),
        camera_id: camera.to_string(),
        layer: Layer::Original.into(),
        phase: phase.into(),
        released,
        released_by: by.to_string(),
    }
}

/// Fetches neighbouring segments at once and opens each; hashing and decrypting leave the thread that
/// serves connections.
async fn run_of(
    fetch: &Fetch,
    run: Vec<Located>,
    keys: Arc<BTreeMap<obscura_ids::LayerKeyId, obscura_seal::NodeSet>>,
    examine: bool,
) -> Result<Vec<(Located, Result<ClearSegment, Cause>)>> {
    let sealed = fetch.run(&run).await;
    let open_all = move || {
        let parts = run.into_iter().zip(sealed);
        parts
            .map(|(located, sealed)| {
                let opened = sealed.and_then(|sealed| open::open(&sealed, &located, &keys, examine));
                (located, opened)
            })
            .collect()
    };
    tokio::task::spawn_blocking(open_all).await.doing("open segments")
}

/// Runs and gaps of one camera, or of all.
pub async fn recordings(
    services: &Services,
    camera: Option<CameraId>,
    span: Option<Span>,
) -> Result<ListRecordingsResponse> {
    let request = ListRecordingsRequest {
        camera_id: camera.map(|id| id.to_string()).unwrap_or_default(),
        span: span.map(find::span_message),
    };
    let mut storage = services.storage();
    services.ask("storage", "list recordings", PATIENT, storage.list_recordings(request)).await
}

/// From the Unix epoch to the end of time as messages can say it.
pub fn everything() -> Span {
    let (start, end) = (Timestamp::from_unix_nanos(0), Timestamp::from_unix_nanos(i64::MAX));
    Span::try_new(start, end).unwrap_or_else(|| unreachable!("0 is before i64::MAX"))
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_proto::audit::v1::event::Body;

    use super::*;

    #[test]
    fn a_viewing_is_told_in_events_that_the_log_takes() {
        let clock = SystemClock::shared();
        let now = clock.wall();
        let span = Span::try_new(now - std::time::Duration::from_secs(60), now).unwrap();
        let by = "spiffe://example.org/obscura/cli".parse().unwrap();
        let grant = uuid::Uuid::now_v7().to_string();
        for phase in [Phase::Open, Phase::Close] {
            let view = view(&grant, CameraId::generate(), &by, span, phase);
            obscura_ocsf::validate(&crate::log::event(&clock, Body::View(view))).unwrap();
        }
    }
}
