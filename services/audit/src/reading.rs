//! Entries for whoever may read them, with names where they ask for names and may.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use obscura_ocsf::{Entry, Sealed};
use obscura_proto::audit::v1::{ReadEntriesRequest, ReadEntriesResponse};
use tokio::{sync::mpsc, time::interval};
use tonic::Status;

use crate::{
    disclosure::Disclosure,
    error::Error,
    grpc::status,
    log::Log,
    persons::PeriodKey,
    roles::{Asked, Reader, Scope, View},
    store::{Filter, Row},
};

/// Entries that one look into the database takes.
const PAGE: u64 = 256;
/// Indexes that one look goes over, so that a rare kind does not hold a connection for long.
const STRIDE: u64 = 65_536;
/// Kinds that a request may name.
const MAX_KINDS: usize = 32;
/// Newest entries that a request may begin with.
const MAX_NEWEST: u64 = 100_000;
/// How often the log hears how far a reading has come that goes on.
const TELL_EVERY: Duration = Duration::from_mins(15);

/// Where entries are sent.
type Answers = mpsc::Sender<Result<ReadEntriesResponse, Status>>;

/// A request that makes sense.
#[derive(Debug)]
struct Question {
    from: u64,
    limit: u64,
    newest: u64,
    follow: bool,
    open_names: bool,
    own: bool,
    filter: Filter,
    person_id: Option<String>,
}

/// A reading that is permitted.
#[derive(Debug)]
pub struct Reading {
    question: Question,
    view: View,
    disclosure: Disclosure,
    /// Entries that were given out.
    results: u64,
    /// Everything before it, from the first index on, was looked at.
    next: u64,
}

impl Question {
    fn try_new(request: ReadEntriesRequest) -> Result<Self, Error> {
        if request.kinds.len() > MAX_KINDS || !request.kinds.iter().all(|kind| is_kind(kind)) {
            return Err(Error::malformed(
                "kinds",
                "expected names of fields in `Event.body`, for example `view`",
            ));
        }
        if request.newest > MAX_NEWEST {
            return Err(Error::malformed("number of newest entries", "expected at most 100,000"));
        }
        let moment = |nanos: i64| (nanos != 0).then(|| Timestamp::from_unix_nanos(nanos));
        let filter = Filter {
            kinds: request.kinds,
            from: moment(request.from_unix_ns),
            to: moment(request.to_unix_ns),
            camera: camera(&request.camera_id)?,
            ..Filter::default()
        };
        Ok(Self {
            from: request.from_index,
            limit: if request.limit == 0 { u64::MAX } else { request.limit },
            newest: request.newest,
            follow: request.follow,
            open_names: request.open_names,
            own: request.own,
            filter,
            person_id: Some(request.person_id).filter(|id| !id.is_empty()),
        })
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            kinds: &self.filter.kinds,
            person_id: self.person_id.as_deref(),
            open_names: self.open_names,
            own: self.own,
        }
    }

    /// What is read, in words.
    fn words(&self) -> String {
        let own = if self.own { "own " } else { "" };
        let kinds = match self.filter.kinds.join(", ") {
            kinds if kinds.is_empty() => String::new(),
            kinds => format!(" of kind {kinds}"),
        };
        let person = if self.person_id.is_some() { " of one person" } else { "" };
        let names = if self.open_names { " with names" } else { "" };
        format!("{own}entries{kinds}{person}{names}")
    }

    /// Indexes that it is about at this moment, as far as time bounds them.
    async fn bounds(&self, log: &Log) -> Result<Range<u64>, Error> {
        let head = log.parts.store.head().await?;
        let all = self.from.max(head.first_kept)..head.size;
        if self.follow || (self.filter.from.is_none() && self.filter.to.is_none()) {
            return Ok(all);
        }
        let within = log.parts.store.indexes_between(self.filter.from, self.filter.to).await?;
        Ok(within.map_or(all.end..all.end, |(first, end)| all.start.max(first)..all.end.min(end)))
    }
}

impl Reading {
    /// Permits what `reader` asks for, or refuses it, which the log hears.
    ///
    /// # Errors
    /// [`Error::Malformed`] names the part; [`Error::NotAuditor`] and [`Error::NotYours`] for what is not the
    /// reader's to see.
    pub async fn admit(log: &Log, request: ReadEntriesRequest, reader: Reader) -> Result<Self, Error> {
        let question = Question::try_new(request)?;
        let view = log.parts.roles.view(&reader, question.asked());
        let disclosure = Disclosure::new(reader, question.filter.camera, question.words());
        match view {
            Ok(view) => Ok(Self { next: question.from, question, view, disclosure, results: 0 }),
            Err(refusal @ Error::Malformed { .. }) => Err(refusal),
            Err(refusal) => {
                disclosure.refused(log, question.bounds(log).await?).await?;
                Err(refusal)
            }
        }
    }

    /// Sends what was asked for until there is no more, nobody listens, or the log ends.
    pub async fn run(mut self, log: Arc<Log>, to: Answers) {
        if let Err(error) = self.send_all(&log, &to).await {
            // Whoever went away needs no answer.
            let _ = to.send(Err(status(error))).await;
        }
    }

    /// The log hears first what may be read. Where other indexes were read in the end, because the limit was reached,
    /// the reader went away or new entries came, it hears that as well.
    async fn send_all(&mut self, log: &Log, to: &Answers) -> Result<(), Error> {
        let mut size = log.parts.sequencer.size();
        size.borrow_and_update();
        let bounds = self.question.bounds(log).await?;
        let first = self.first(log, &bounds).await?;
        let mut told = bounds.end.max(first);
        self.disclosure.read(log, first..told, 0).await?;
        self.next = first;
        let mut again = interval(TELL_EVERY);
        again.tick().await;
        let mut outcome = self.send_range(log, to, told).await;
        while self.question.follow && matches!(outcome, Ok(true)) {
            tokio::select! {
                changed = size.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let end = *size.borrow_and_update();
                    outcome = self.send_range(log, to, end).await;
                }
                _ = again.tick() => self.settle(log, first, &mut told).await?,
                () = to.closed() => break,
            }
        }
        self.settle(log, first, &mut told).await?;
        outcome.map(drop)
    }

    /// Tells how far it really went, where that is not what the log knows.
    async fn settle(&self, log: &Log, first: u64, told: &mut u64) -> Result<(), Error> {
        if self.next == *told {
            return Ok(());
        }
        self.disclosure.read(log, first..self.next, self.results).await?;
        *told = self.next;
        Ok(())
    }

    /// Where the newest entries begin that were asked for.
    async fn first(&self, log: &Log, bounds: &Range<u64>) -> Result<u64, Error> {
        let (mut left, mut first, mut end) = (self.question.newest, bounds.end, bounds.end);
        if left == 0 {
            return Ok(bounds.start);
        }
        let scope = self.scope(log).await?;
        while end > bounds.start && left > 0 {
            let start = end.saturating_sub(STRIDE).max(bounds.start);
            let found = scope.newest(log, start, end, left).await?;
            left = left.saturating_sub(u64::try_from(found.len()).unwrap_or(u64::MAX));
            first = found.last().copied().unwrap_or(first);
            end = start;
        }
        Ok(first)
    }

    async fn scope(&self, log: &Log) -> Result<Scope, Error> {
        self.view.scope(log, &self.question.filter, self.question.person_id.as_deref()).await
    }

    /// Sends entries from the next one on, before `end`. Whether to go on.
    async fn send_range(&mut self, log: &Log, to: &Answers, end: u64) -> Result<bool, Error> {
        while self.next < end && self.left() > 0 {
            let until = self.next.saturating_add(STRIDE).min(end);
            let limit = self.left().min(PAGE);
            let scope = self.scope(log).await?;
            let rows = scope.entries(log, self.next, until, limit).await?;
            let is_full_page = u64::try_from(rows.len()).unwrap_or(u64::MAX) >= limit;
            let mut names = Names::new(self.question.open_names, &scope);
            for row in rows {
                let behind = row.index.saturating_add(1);
                let message = names.message(log, row).await?;
                if to.send(Ok(message)).await.is_err() {
                    return Ok(false);
                }
                self.results = self.results.saturating_add(1);
                self.next = behind;
            }
            if !is_full_page {
                self.next = until;
            }
        }
        Ok(self.left() > 0)
    }

    const fn left(&self) -> u64 {
        self.question.limit.saturating_sub(self.results)
    }
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
struct Names<'a> {
    wanted: bool,
    scope: &'a Scope,
    keys: HashMap<String, Option<PeriodKey>>,
}

impl<'a> Names<'a> {
    fn new(wanted: bool, scope: &'a Scope) -> Self {
        Self { wanted, scope, keys: HashMap::new() }
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
        let visible = everything_sealed(entry).into_iter().filter(|sealed| self.scope.opens(&sealed.person));
        for Sealed { person, pointer, sealed } in visible {
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
