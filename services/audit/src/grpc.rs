//! The gRPC face: validates, calls, translates.

#[cfg(test)]
mod tests;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use obscura_identity::Peer;
use obscura_proto::audit::v1::{
    AppendRequest, AppendResponse, Change, ErasePersonRequest, ErasePersonResponse, Event, ExportLogRequest,
    ExportLogResponse, FeedStatus, GetAuditStatusRequest, GetAuditStatusResponse, GetCheckpointRequest,
    GetCheckpointResponse, Outcome, ProveRequest, ProveResponse, ReadEntriesRequest, ReadEntriesResponse,
    ReplayFeedRequest, ReplayFeedResponse, ReportRequest, ReportResponse, SendTestEventRequest,
    SendTestEventResponse, Test, audit_service_server::AuditService, event::Body, prove_request::What,
};
use obscura_status::{Code, Failure};
use tokio::{
    sync::{Mutex, Notify, mpsc, watch},
    time::timeout,
};
use tonic::{Request, Response, Status};

use crate::{
    copying::Copying,
    erasing::Erasing,
    error::Error,
    event_id::EventId,
    feed::Feeds,
    guard::Guard,
    log::Log,
    projection::{self, Published},
    reading::Reading,
    reports::Reports,
    roles::Reader,
};

/// Messages that may wait for a slow caller.
const STREAM_QUEUE: usize = 64;
/// How long a copy waits until what is in the log is published too, cosignatures included.
const PUBLISHING: Duration = Duration::from_secs(10);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers for one log.
pub struct AuditGrpc {
    log: Arc<Log>,
    reports: Reports,
    feeds: Arc<Feeds>,
    guard: Arc<Guard>,
    publication: Publication,
    /// The newest checkpoint that was handed out.
    newest: Mutex<Published>,
}

/// What is published, and how to ask for more.
#[derive(Debug)]
pub struct Publication {
    /// The newest published checkpoint.
    pub published: watch::Receiver<Published>,
    /// The size that was last cosigned.
    pub witnessed: watch::Receiver<u64>,
    /// Has what is in the log published now.
    pub wanted: Arc<Notify>,
}

impl AuditGrpc {
    /// The service in front of `log`.
    pub fn new(log: Arc<Log>, feeds: Arc<Feeds>, guard: Arc<Guard>, publication: Publication) -> Self {
        Self { log, reports: Reports::default(), feeds, guard, publication, newest: Mutex::default() }
    }

    fn published(&self) -> Published {
        self.publication.published.borrow().clone()
    }

    /// What is published once it covers the log of this moment, which is published at once; or nothing where that takes
    /// too long.
    async fn published_up_to_now(&self) -> Result<Published, Error> {
        let size = self.log.parts.store.head().await?.size;
        let mut published = self.publication.published.clone();
        let covers = |note: &Published| note.as_ref().is_some_and(|note| note.checkpoint().size >= size);
        if !covers(&published.borrow()) {
            self.publication.wanted.notify_one();
        }
        let waited = timeout(PUBLISHING, published.wait_for(covers)).await;
        Ok(waited.ok().and_then(Result::ok).and_then(|note| note.clone()))
    }

    async fn status(&self) -> Result<GetAuditStatusResponse, Error> {
        let store = &self.log.parts.store;
        let head = store.head().await?;
        let feed = |status: crate::feed::Status| FeedStatus {
            feed: status.feed,
            next_index: status.next_index,
            trouble: status.trouble,
        };
        let dropped = store.dropped().await?;
        let witnessed_size = *self.publication.witnessed.borrow();
        Ok(GetAuditStatusResponse {
            origin: self.log.parts.key.origin().to_owned(),
            size: head.size,
            root: head.root.as_bytes().to_vec().into(),
            first_kept_index: head.first_kept,
            published_size: self.published().map_or(0, |note| note.checkpoint().size),
            witnessed_size,
            feeds: self.feeds.status().into_iter().map(feed).collect(),
            dropped,
        })
    }

    /// The newest checkpoint that anybody was told of: before the first is published, or while publishing
    /// waits, that is one of the head; what is published later never looks like a log that was cut back.
    async fn checkpoint(&self) -> Result<String, Error> {
        let mut newest = self.newest.lock().await;
        let size = |note: &Published| note.as_ref().map(|note| note.checkpoint().size);
        let published = self.published();
        if published.is_some() && size(&published) >= size(&newest) {
            *newest = published;
        }
        let note = match newest.take() {
            Some(note) => note,
            None => Arc::new(projection::sign(&self.log.parts.key, &self.log.parts.store.head().await?)?),
        };
        let text = note.to_string();
        *newest = Some(note);
        Ok(text)
    }

    async fn report(&self, producer: &str, request: ReportRequest) -> Result<u64, Error> {
        let outbox = EventId::parse(&request.outbox_id);
        let outbox = outbox.ok_or(Error::malformed("outbox id", "expected a UUID"))?;
        self.reports.take(&self.log, producer, *outbox.as_bytes(), request.events).await
    }

    /// Tells who has a feed go on elsewhere before it does; where it then does not, the log hears that as well.
    async fn replay(&self, request: ReplayFeedRequest, reader: &Reader) -> Result<(), Error> {
        let ReplayFeedRequest { feed, from_index } = request;
        let position = self.feeds.status().into_iter().find(|status| status.feed == feed);
        let position = position.ok_or(Error::UnknownFeed)?.next_index;
        let event = |outcome: Outcome| -> Result<Event, Error> {
            let change = Change {
                object_kind: "feed".to_owned(),
                object_id: feed.clone(),
                before_json: format!("{{\"next_index\":{position}}}"),
                after_json: format!("{{\"next_index\":{from_index}}}"),
                changed_fields: vec!["next_index".to_owned()],
                ..Change::default()
            };
            let event = self.log.own(EventId::generate(), Body::Change(change));
            Ok(Event { actor: Some(reader.person()?.clone()), outcome: outcome.into(), ..event })
        };
        self.log.append(reader.program(), &event(Outcome::Success)?).await?;
        let replayed = self.feeds.replay(&feed, from_index).await;
        if replayed.is_err() {
            self.log.append(reader.program(), &event(Outcome::Failure)?).await?;
        }
        Ok(replayed?)
    }

    async fn prove(&self, what: Option<What>, reader: Reader) -> Result<ProveResponse, Error> {
        let published = self.published();
        let proof = match what.ok_or(Error::malformed("request", "it does not say what to prove"))? {
            What::LeafIndex(index) => self.log.prove_entry(index, published).await?,
            What::EventId(id) => {
                let id = EventId::parse(&id).ok_or(Error::malformed("event id", "expected a UUID"))?;
                self.log.prove_event(id, published).await?
            }
            What::FromSize(size) => self.log.prove_prefix(size, published).await?,
        };
        Ok(ProveResponse { proof: proof.text.clone(), leaf: proof.leaf_for(&self.log, reader).await? })
    }
}

#[tonic::async_trait]
impl AuditService for AuditGrpc {
    type ReadEntriesStream = Answers<ReadEntriesResponse>;
    type ExportLogStream = Answers<ExportLogResponse>;

    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendResponse>, Status> {
        let producer = caller(&request)?;
        let event = request.into_inner().event;
        let event = event.ok_or_else(|| status(Error::malformed("request", "it has no event")))?;
        let appended = self.log.append(&producer, &event).await.map_err(status)?;
        Ok(Response::new(AppendResponse { receipt: Some(appended.receipt) }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let producer = caller(&request)?;
        let through_counter = self.report(&producer, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(ReportResponse { through_counter }))
    }

    async fn get_checkpoint(
        &self,
        _request: Request<GetCheckpointRequest>,
    ) -> Result<Response<GetCheckpointResponse>, Status> {
        let checkpoint = self.checkpoint().await.map_err(status)?;
        Ok(Response::new(GetCheckpointResponse { checkpoint }))
    }

    async fn prove(&self, request: Request<ProveRequest>) -> Result<Response<ProveResponse>, Status> {
        let reader = reader(&request)?;
        Ok(Response::new(self.prove(request.into_inner().what, reader).await.map_err(status)?))
    }

    async fn read_entries(
        &self,
        request: Request<ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let reader = reader(&request)?;
        let reading = Reading::admit(&self.log, request.into_inner(), reader).await.map_err(status)?;
        let (to, answers) = mpsc::channel(STREAM_QUEUE);
        tokio::spawn(reading.run(self.log.clone(), to));
        Ok(Response::new(streamed(answers)))
    }

    async fn erase_person(
        &self,
        request: Request<ErasePersonRequest>,
    ) -> Result<Response<ErasePersonResponse>, Status> {
        let reader = reader(&request)?;
        let erasing =
            Erasing::try_new(request.into_inner(), &self.log.parts.roles, reader).map_err(status)?;
        let (keys, appended) = erasing.run(&self.log, &self.guard).await.map_err(status)?;
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        Ok(Response::new(ErasePersonResponse { keys, receipt: Some(appended.receipt) }))
    }

    async fn export_log(
        &self,
        request: Request<ExportLogRequest>,
    ) -> Result<Response<Self::ExportLogStream>, Status> {
        let reader = reader(&request)?;
        let view = Copying::permit(&self.log, &reader).await.map_err(status)?;
        let published = self.published_up_to_now().await.map_err(status)?;
        let copying = Copying::begin(&self.log, published, view, reader).await.map_err(status)?;
        let (to, answers) = mpsc::channel(STREAM_QUEUE);
        tokio::spawn(copying.send(self.log.clone(), to));
        Ok(Response::new(streamed(answers)))
    }

    async fn send_test_event(
        &self,
        request: Request<SendTestEventRequest>,
    ) -> Result<Response<SendTestEventResponse>, Status> {
        let reader = reader(&request)?;
        let person = reader.person().map_err(status)?.clone();
        let test = Body::Test(Test { text: request.into_inner().text });
        // The words are the person's, and are sealed under their key.
        let event = Event { actor: Some(person), ..self.log.own(EventId::generate(), test) };
        let appended = self.log.append(reader.program(), &event).await.map_err(status)?;
        Ok(Response::new(SendTestEventResponse { index: appended.index, event_id: event.event_id }))
    }

    async fn replay_feed(
        &self,
        request: Request<ReplayFeedRequest>,
    ) -> Result<Response<ReplayFeedResponse>, Status> {
        let reader = reader(&request)?;
        self.replay(request.into_inner(), &reader).await.map_err(status)?;
        Ok(Response::new(ReplayFeedResponse {}))
    }

    async fn get_audit_status(
        &self,
        _request: Request<GetAuditStatusRequest>,
    ) -> Result<Response<GetAuditStatusResponse>, Status> {
        Ok(Response::new(self.status().await.map_err(status)?))
    }
}

fn streamed<T: Send + 'static>(answers: mpsc::Receiver<Result<T, Status>>) -> Answers<T> {
    let next = |mut answers: mpsc::Receiver<_>| async move { Some((answers.recv().await?, answers)) };
    Box::pin(stream::unfold(answers, next))
}

/// The SPIFFE id of the service that calls, as the mTLS layer saw it.
fn caller<T>(request: &Request<T>) -> Result<String, Status> {
    let peer = request.extensions().get::<Peer>();
    let unknown = || Failure::new(Code::Unauthenticated, "nobody vouches for the caller: connect with mTLS");
    peer.map(|Peer(id)| id.to_string()).ok_or_else(|| unknown().into())
}

/// The program that calls and the person behind it.
fn reader<T>(request: &Request<T>) -> Result<Reader, Status> {
    Ok(Reader::new(caller(request)?, obscura_outbox::actor(request.metadata())))
}

/// What a caller sees of an error.
pub fn status(error: Error) -> Status {
    Failure::from(error).into()
}
