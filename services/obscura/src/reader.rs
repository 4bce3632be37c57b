//! Reading footage back: the index, a grant, the keys it releases, sealed bytes, and their opening.
//!
//! Footage is read in stretches, one page of the index at a time. Each stretch gets a grant of its
//! own that covers exactly its segments, so that memory, grants and released keys stay bounded
//! however long the asked span is. Nothing here prints.

mod fault;
mod fetch;
mod find;
mod interrupt;
pub mod manifests;
mod open;
mod release;
pub mod verify;
mod viewing;

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use obscura_access::LocalIssuer;
use obscura_clock::{SharedClock, Span, Timestamp};
use obscura_daemon::Trust;
use obscura_ids::{CameraId, Digest};
use obscura_pack::Directory;
use obscura_proto::{
    audit::v1::View,
    footage::v1::Layer,
    ingest::v1::FlushRequest,
    registry::v1::Camera,
    storage::v1::{ListRecordingsRequest, ListRecordingsResponse},
};
use obscura_seal::ClearSegment;

pub use fault::{Cause, Fault};
pub use find::Located;
pub use interrupt::Interrupt;
pub use open::has_no_frame;

use crate::{
    log::Log,
    problem::{Context as _, Result},
    services::{PATIENT, Services},
};
use fetch::{Fetch, Source};
use find::Pages;
use release::Released;
use viewing::Viewing;

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
    clock: SharedClock,
    interrupt: Interrupt,
}

impl<'a> Reader<'a> {
    /// A reader for the installation that the services belong to.
    pub fn new(services: &'a Services, clock: &SharedClock) -> Result<Self> {
        let installation = services.installation();
        let issuer = LocalIssuer::open(&installation.issuer_dir(), clock.clone())
            .doing("open the issuer of grants")?;
        let audit = Trust::load(&installation.trust_file()).doing("read whose receipts count")?.audit;
        let issuing = Issuing { issuer, log: Log::of(services, clock.clone()), audit };
        let (source, clock) = (Source::of(services)?, clock.clone());
        Ok(Self { services, issuing, source, clock, interrupt: Interrupt::never() })
    }

    /// Closes its viewings in good order when this comes.
    #[must_use]
    pub fn until(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
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
        let _unclosed = self.interrupt.unclosed();
        let about = self.about(wanted, &released);
        let mut viewing =
            Viewing::open(&self.issuing.log, self.clock.clone(), &self.interrupt, about).await?;
        let read = self.read_released(&mut viewing, released, segments, sink).await;
        viewing.close(read).await
    }

    fn about(&self, wanted: &Wanted, released: &Released) -> View {
        View {
            grant_id: released.grant_id.clone(),
            camera_id: wanted.camera.to_string(),
            layer: Layer::Original.into(),
            released_by: self.services.identity().id().to_string(),
            ..View::default()
        }
    }

    async fn read_released(
        &self,
        viewing: &mut Viewing<'_, Log<'_>>,
        released: Released,
        segments: Vec<Located>,
        sink: &mut impl Sink,
    ) -> Result<()> {
        let Released { grant_id, urls, keys } = released;
        let fetch = Fetch::new(self.source.clone(), urls);
        let stretch = Stretch { segments: &segments, grant_id: &grant_id, fetch: &fetch };
        viewing.during(sink.stretch(&stretch)).await??;
        let (keys, examine) = (Arc::new(keys), sink.examines());
        let fetches = fetch::runs(segments).into_iter().map(|run| run_of(&fetch, run, keys.clone(), examine));
        let mut opened = stream::iter(fetches).buffered(PARALLEL);
        while let Some(run) = viewing.during(opened.next()).await? {
            for (located, opened) in run? {
                if opened.is_ok() {
                    viewing.release(located.entry.span).await?;
                }
                sink.segment(&located, opened)?;
            }
        }
        Ok(())
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

fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    Digest::from_bytes(hash)
}
