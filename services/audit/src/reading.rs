//! Entries for whoever may read them, with names where they ask for names.

use std::{collections::HashMap, sync::Arc};

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_ocsf::{Entry, Sealed};
use obscura_proto::audit::v1::{
    Event, Outcome, Person, ReadEntriesRequest, ReadEntriesResponse, Search, event::Body,
};
use tokio::sync::mpsc;
use tonic::Status;

use crate::{
    error::Error,
    event_id::EventId,
    grpc::status,
    log::Log,
    persons::PeriodKey,
    store::{Filter, Row},
};

/// Entries that one look into the database takes.
const PAGE: u64 = 256;
/// Indexes that one look goes over, so that a rare kind does not hold a connection for long.
const STRIDE: u64 = 65_536;
/// End of the name of custody, which reads the receipts of destruction after it was put back from a backup.
const CUSTODY: &str = "/obscura/keys";
/// Kinds that a request may name.
const MAX_KINDS: usize = 32;

/// A checked request.
#[derive(Debug)]
pub struct Reading {
    from: u64,
    limit: u64,
    follow: bool,
    open_names: bool,
    filter: Filter,
    person_id: Option<String>,
    reader: Option<Person>,
    producer: String,
}

impl Reading {
    /// Checks the request of `producer` (the SPIFFE id of the caller).
    ///
    /// # Errors
    /// [`Error::Malformed`] names the part; [`Error::NotYours`] for what is not the caller's business.
    pub fn try_new(request: ReadEntriesRequest, producer: String) -> Result<Self, Error> {
        if producer.ends_with(CUSTODY) && !is_about_destruction(&request) {
            return Err(Error::NotYours);
        }
        if request.kinds.len() > MAX_KINDS || !request.kinds.iter().all(|kind| is_kind(kind)) {
            return Err(Error::malformed(
                "kinds",
                "expected names of fields in `Event.body`, for example `view`",
            ));
        }
        let person_id = Some(request.person_id).filter(|id| !id.is_empty());
        let reader = request.reader.filter(|reader| !reader.id.is_empty());
        if reader.is_none() && (request.open_names || person_id.is_some()) {
            return Err(Error::malformed(
                "reader",
                "who asks for names or for a person has to say who they are",
            ));
        }
        let moment = |nanos: i64| (nanos != 0).then(|| Timestamp::from_unix_nanos(nanos));
        let filter = Filter {
            kinds: request.kinds,
            from: moment(request.from_unix_ns),
            to: moment(request.to_unix_ns),
            camera: camera(&request.camera_id)?,
            pseudonyms: None,
        };
        Ok(Self {
            from: request.from_index,
            limit: if request.limit == 0 { u64::MAX } else { request.limit },
            follow: request.follow,
            open_names: request.open_names,
            filter,
            person_id,
            reader,
            producer,
        })
    }

    /// Sends what was asked for until there is no more, nobody listens, or the log ends.
    pub async fn run(mut self, log: Arc<Log>, to: mpsc::Sender<Result<ReadEntriesResponse, Status>>) {
        if let Err(error) = self.send_all(&log, &to).await {
            // Whoever went away needs no answer.
            let _ = to.send(Err(status(error))).await;
        }
    }

    async fn send_all(
        &mut self,
        log: &Log,
        to: &mpsc::Sender<Result<ReadEntriesResponse, Status>>,
    ) -> Result<(), Error> {
        self.confess(log).await?;
        if let Some(id) = &self.person_id {
            self.filter.pseudonyms = Some(log.parts.persons.pseudonyms(id).await?);
        }
        let mut size = log.parts.sequencer.size();
        let mut next = self.from.max(log.parts.store.head().await?.first_kept);
        if !self.follow && (self.filter.from.is_some() || self.filter.to.is_some()) {
            let within = log.parts.store.indexes_between(self.filter.from, self.filter.to).await?;
            let Some((first, end)) = within else { return Ok(()) };
            return self.send_range(log, to, next.max(first), end).await.map(drop);
        }
        loop {
            let end = *size.borrow_and_update();
            if !self.send_range(log, to, next, end).await? || !self.follow {
                return Ok(());
            }
            next = next.max(end);
            tokio::select! {
                changed = size.changed() => if changed.is_err() { return Ok(()) },
                () = to.closed() => return Ok(()),
            }
        }
    }

    /// Who opens names or looks for a person is in the log first.
    async fn confess(&self, log: &Log) -> Result<(), Error> {
        let Some(reader) = self.reader.as_ref().filter(|_| self.open_names || self.person_id.is_some())
        else {
            return Ok(());
        };
        let searched = if self.person_id.is_some() { "entries of one person" } else { "entries with names" };
        let search = Search {
            subject: "audit".to_owned(),
            camera_ids: self
                .filter
                .camera
                .map(|id| CameraId::from_bytes(id).to_string())
                .into_iter()
                .collect(),
            span: None,
            query: searched.to_owned(),
            results: 0,
        };
        let event = Event {
            event_id: EventId::generate().to_string(),
            time_unix_ns: log.parts.clock.wall().unix_nanos(),
            outcome: Outcome::Success.into(),
            actor: Some(reader.clone()),
            body: Some(Body::Search(search)),
        };
        log.append(&self.producer, &event).await.map(drop)
    }

    /// Whether to go on.
    async fn send_range(
        &mut self,
        log: &Log,
        to: &mpsc::Sender<Result<ReadEntriesResponse, Status>>,
        from: u64,
        end: u64,
    ) -> Result<bool, Error> {
        let mut next = from;
        while next < end && self.limit > 0 {
            let until = next.saturating_add(STRIDE).min(end);
            let limit = self.limit.min(PAGE);
            let rows = log.parts.store.entries(next, until, limit, &self.filter).await?;
            let is_full_page = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
            next = match rows.last() {
                Some(last) if is_full_page => last.index.saturating_add(1),
                _ => until,
            };
            let mut names = Names::new(self.open_names);
            for row in rows {
                self.limit = self.limit.saturating_sub(1);
                let message = names.message(log, row).await?;
                if to.send(Ok(message)).await.is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(self.limit > 0)
    }
}

fn is_about_destruction(request: &ReadEntriesRequest) -> bool {
    request.kinds == ["destruction"] && !request.open_names && request.person_id.is_empty()
}

fn is_kind(kind: &str) -> bool {
    obscura_ocsf::KINDS.contains(&kind)
}

fn camera(id: &str) -> Result<Option<[u8; 16]>, Error> {
    if id.is_empty() {
        return Ok(None);
    }
    let id: CameraId = id.parse().map_err(|_| Error::malformed("camera id", "expected a UUID"))?;
    Ok(Some(*id.as_bytes()))
}

/// Opens what is sealed. The keys are forgotten with the page, so that one that is destroyed opens no more.
struct Names {
    wanted: bool,
    keys: HashMap<String, Option<PeriodKey>>,
}

impl Names {
    fn new(wanted: bool) -> Self {
        Self { wanted, keys: HashMap::new() }
    }

    async fn message(&mut self, log: &Log, row: Row) -> Result<ReadEntriesResponse, Error> {
        let opened = if self.wanted { self.open(log, &row.leaf).await? } else { HashMap::new() };
        Ok(ReadEntriesResponse {
            index: row.index,
            leaf: row.leaf,
            committed_unix_ns: row.committed.unix_nanos(),
            opened,
        })
    }

    async fn open(&mut self, log: &Log, leaf: &[u8]) -> Result<HashMap<String, String>, Error> {
        let Ok(entry) = obscura_ocsf::read(leaf) else { return Ok(HashMap::new()) };
        let (id, mut opened) = (entry.event_id.clone(), HashMap::new());
        for Sealed { person, pointer, sealed } in everything_sealed(entry) {
            let clear = self.key(log, &person).await?.and_then(|key| key.open(&id, &pointer, &sealed));
            opened.extend(clear.map(|clear| (pointer, clear.to_string())));
        }
        Ok(opened)
    }

    /// The key behind a pseudonym, where it was not destroyed.
    async fn key(&mut self, log: &Log, pseudonym: &str) -> Result<Option<&PeriodKey>, Error> {
        if !self.keys.contains_key(pseudonym) {
            let key = log.parts.persons.key_of(pseudonym).await?;
            self.keys.insert(pseudonym.to_owned(), key);
        }
        Ok(self.keys.get(pseudonym).and_then(Option::as_ref))
    }
}

/// What is about the person who acted, and what is about others.
fn everything_sealed(entry: Entry) -> Vec<Sealed> {
    let mut all = entry.others;
    if let Some(person) = entry.pseudonym {
        let own = entry.sealed.into_iter();
        all.extend(own.map(|(pointer, sealed)| Sealed { person: person.clone(), pointer, sealed }));
    }
    all
}
