//! Objects over HTTP: one PUT of exactly the signed size, ranged GETs.
//!
//! The peer's identity was checked before a request comes here; here the signature in the URL is.
//! Footage streams through in both directions and is never held whole.

mod range;
#[cfg(test)]
mod tests;

use std::{io, ops::Range, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::State, response::Response, routing::get};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use obscura_blob::{BlobStore, ByteStream, Error as BlobError};
use obscura_clock::SharedClock;
use obscura_hand_over::Handed;
use obscura_status::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::range::Unsatisfiable;
use crate::{
    Error, MAX_OBJECT_BYTES,
    metrics::Metrics,
    url_signer::{Method, Ticket, UrlSigner},
};

/// Uploads under way at once: each holds a megabyte or so.
const MAX_UPLOADS: usize = 64;
/// Downloads under way at once.
const MAX_DOWNLOADS: usize = 128;
/// How long a transfer waits for its turn.
const TURN: Duration = Duration::from_secs(10);
/// How long one upload may take.
const UPLOAD: Duration = Duration::from_secs(300);

/// What the handlers need.
#[derive(Debug)]
pub struct Objects {
    blobs: Arc<dyn BlobStore>,
    signer: Arc<UrlSigner>,
    clock: SharedClock,
    metrics: Metrics,
    uploads: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl Objects {
    /// Handlers over this store.
    #[must_use]
    pub fn new(
        blobs: Arc<dyn BlobStore>,
        signer: Arc<UrlSigner>,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        let (uploads, downloads) = (Semaphore::new(MAX_UPLOADS), Semaphore::new(MAX_DOWNLOADS));
        Self { blobs, signer, clock, metrics, uploads: Arc::new(uploads), downloads: Arc::new(downloads) }
    }

    /// The routes below `/objects/`.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new().route("/objects/{*key}", get(download).put(upload)).with_state(self)
    }

    fn ticket(&self, method: Method, uri: &Uri) -> Result<Ticket, Error> {
        let key = uri.path().strip_prefix("/objects/").unwrap_or_default().parse()?;
        Ok(self.signer.verify(method, key, uri.query().unwrap_or_default(), self.clock.wall())?)
    }

    async fn receive(&self, request: Request<Body>) -> Result<StatusCode, Error> {
        let admitted = self.admit(request.uri(), announced(request.headers())?).await?;
        let body = Box::pin(request.into_body().into_data_stream().map_err(io::Error::other));
        self.keep(&admitted, body).await
    }

    /// Takes an upload that a recorder on this machine hands over, and answers it.
    ///
    /// # Errors
    /// Those of answering.
    pub async fn take(&self, handed: Handed) -> io::Result<()> {
        match self.admit(handed.target(), handed.size()).await {
            Ok(admitted) => {
                let (body, waiting) = handed.open();
                let kept = self.keep(&admitted, Box::pin(body)).await;
                waiting.answer(kept.unwrap_or_else(|error| self.failed(error).code().http())).await
            }
            Err(error) => handed.refuse(self.failed(error).code().http()).await,
        }
    }

    /// Checks what was signed, and waits for a turn.
    async fn admit(&self, uri: &Uri, announced: u64) -> Result<Admitted, Error> {
        let ticket = self.ticket(Method::Put, uri)?;
        if announced != ticket.size || announced > MAX_OBJECT_BYTES {
            return Err(BlobError::WrongSize { announced: ticket.size, received: announced }.into());
        }
        Ok(Admitted { ticket, _turn: turn(&self.uploads, MAX_UPLOADS).await? })
    }

    async fn keep(&self, admitted: &Admitted, body: ByteStream) -> Result<StatusCode, Error> {
        let ticket = &admitted.ticket;
        let stored = tokio::time::timeout(UPLOAD, store(&*self.blobs, ticket, body)).await;
        let status = stored.map_err(|_| Error::TooSlow)??;
        if status == StatusCode::CREATED {
            self.metrics.uploads.inc();
            self.metrics.uploaded_bytes.inc_by(ticket.size);
        }
        Ok(status)
    }

    /// Counts and logs an upload that failed.
    fn failed(&self, error: Error) -> Failure {
        self.metrics.failed_uploads.inc();
        let failure = Failure::from(error);
        failure.log();
        failure
    }

    async fn send(&self, uri: &Uri, headers: &HeaderMap) -> Result<Response, Error> {
        let ticket = self.ticket(Method::Get, uri)?;
        // Not the signed size: of an object that was cut, a reader gets what is left and can say so.
        let size = self.blobs.size(&ticket.key).await?;
        let wanted = match Wanted::read(headers, size) {
            Ok(wanted) => wanted,
            Err(unsatisfiable) => return Ok(not_satisfiable(unsatisfiable, size)),
        };
        let turn = turn(&self.downloads, MAX_DOWNLOADS).await?;
        let bytes = self.blobs.get(&ticket.key, wanted.range.clone()).await?;
        self.metrics.downloaded_bytes.inc_by(wanted.length());
        Ok(wanted.answer(size, keep_turn(bytes, turn)))
    }
}

async fn upload(State(objects): State<Arc<Objects>>, request: Request<Body>) -> Response {
    match objects.receive(request).await {
        Ok(status) => plain(status, Body::empty()),
        Err(error) => words(&objects.failed(error)),
    }
}

async fn download(State(objects): State<Arc<Objects>>, uri: Uri, headers: HeaderMap) -> Response {
    objects.send(&uri, &headers).await.unwrap_or_else(refusal)
}

/// An upload that may come.
struct Admitted {
    ticket: Ticket,
    _turn: OwnedSemaphorePermit,
}

/// The length must be announced: a body that would not fit is refused before a byte of it is read.
fn announced(headers: &HeaderMap) -> Result<u64, Error> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    announced.ok_or_else(|| Error::invalid("Content-Length", "send it: uploads have an exact size"))
}

async fn turn(semaphore: &Arc<Semaphore>, limit: usize) -> Result<OwnedSemaphorePermit, Error> {
    let turn = tokio::time::timeout(TURN, Arc::clone(semaphore).acquire_owned()).await;
    turn.ok().and_then(Result::ok).ok_or(Error::Busy(limit))
}

/// Stores the object. An upload whose answer was lost comes again: it is answered like the first,
/// provided the object has the same size; its content is checked when it is committed.
async fn store(blobs: &dyn BlobStore, ticket: &Ticket, mut body: ByteStream) -> Result<StatusCode, Error> {
    match blobs.size(&ticket.key).await {
        Err(BlobError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => {
            // Read to the end: a client that is still writing might not see an early answer.
            while body.try_next().await.map_err(BlobError::Body)?.is_some() {}
            body = Box::pin(stream::empty());
        }
    }
    // Of an object that is there, `put` says so only once it is durable.
    match blobs.put(&ticket.key, body, ticket.size).await {
        Ok(()) => Ok(StatusCode::CREATED),
        Err(BlobError::AlreadyExists(_)) => same_size(blobs, ticket).await,
        Err(error) => Err(error.into()),
    }
}

async fn same_size(blobs: &dyn BlobStore, ticket: &Ticket) -> Result<StatusCode, Error> {
    if blobs.size(&ticket.key).await? == ticket.size {
        Ok(StatusCode::OK)
    } else {
        Err(BlobError::AlreadyExists(ticket.key.clone()).into())
    }
}

/// The bytes that a GET asks for.
struct Wanted {
    range: Range<u64>,
    is_part: bool,
}

impl Wanted {
    fn read(headers: &HeaderMap, size: u64) -> Result<Self, Unsatisfiable> {
        let mut ranges = headers.get_all(header::RANGE).iter();
        match (ranges.next(), ranges.next()) {
            (None, _) => Ok(Self { range: 0..size, is_part: false }),
            (Some(range), None) => {
                let range = range.to_str().map_err(|_| Unsatisfiable::Malformed)?;
                Ok(Self { range: range::parse(range, size)?, is_part: true })
            }
            (Some(_), Some(_)) => Err(Unsatisfiable::Several),
        }
    }

    const fn length(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    fn answer(&self, size: u64, bytes: ByteStream) -> Response {
        let status = if self.is_part { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut response = plain(status, Body::from_stream(bytes));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, self.length().into());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if self.is_part {
            let last = self.range.end.saturating_sub(1);
            insert_content_range(headers, &format!("bytes {}-{last}/{size}", self.range.start));
        }
        response
    }
}

/// A download keeps its turn until its last byte was taken, or it was given up.
fn keep_turn(bytes: ByteStream, turn: OwnedSemaphorePermit) -> ByteStream {
    Box::pin(bytes.inspect(move |_| {
        let _ = &turn;
    }))
}

fn not_satisfiable(why: Unsatisfiable, size: u64) -> Response {
    let mut response = plain(StatusCode::RANGE_NOT_SATISFIABLE, Body::from(why.to_string()));
    insert_content_range(response.headers_mut(), &format!("bytes */{size}"));
    response
}

fn insert_content_range(headers: &mut HeaderMap, range: &str) {
    if let Ok(range) = HeaderValue::from_str(range) {
        headers.insert(header::CONTENT_RANGE, range);
    }
}

fn refusal(error: Error) -> Response {
    let failure = Failure::from(error);
    failure.log();
    words(&failure)
}

fn words(failure: &Failure) -> Response {
    plain(failure.code().http(), Body::from(failure.external().to_owned()))
}

fn plain(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // Whoever stores footage on its way would keep it beyond its retention.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
