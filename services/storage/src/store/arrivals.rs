//! Packs that arrive together are committed together.
//!
//! A commit is synced, which takes milliseconds however much is in it, and every statement is a round trip.
//! So whoever comes while one transaction is under way waits for the next, which takes all of them, asks
//! once about all and syncs once. Whoever comes alone waits for nobody.
//!
//! What a crash leaves: nothing of a transaction that was not committed, and its callers were not answered,
//! so their recorders still have the packs. One that cannot be inserted does not take others with it: each
//! is then tried alone.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use obscura_clock::Timestamp;
use obscura_ids::{LayerKeyId, PackId};
use obscura_pack::Day;
use sea_orm::DbErr;
use tokio::sync::{Semaphore, oneshot};

use super::{Error, Inserted, Store, Tombstone, notice, pack, partition, receipt, run, tombstone, upkeep};
use crate::{
    index::PackRow,
    run::{Run, runs_of},
};

/// Packs in one transaction.
const TOGETHER: usize = 64;
/// Callers that wait at the same time; further ones wait to be let in.
const WAITING: usize = 1_024;

/// A pack to be added.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its row.
    pub row: PackRow,
    /// The runs that its segments form.
    pub runs: Vec<Run>,
    /// When it came; `None` where the audit log need not hear of it.
    pub tell: Option<Timestamp>,
}

/// Those who wait.
#[derive(Debug)]
pub struct Arrivals {
    queue: Mutex<Queue>,
    room: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    is_worked_on: bool,
}

#[derive(Debug)]
struct Waiting {
    arrival: Arrival,
    answer: oneshot::Sender<Result<Inserted, Error>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { queue: Mutex::default(), room: Semaphore::new(WAITING) }
    }
}

impl Arrivals {
    /// Nobody panics while holding it.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether somebody has to begin to work.
    fn push(&self, waiting: Waiting) -> bool {
        let mut queue = self.queue();
        queue.waiting.push_back(waiting);
        !std::mem::replace(&mut queue.is_worked_on, true)
    }

    /// The next ones; where there are none nobody works any more.
    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue();
        let count = queue.waiting.len().min(TOGETHER);
        queue.is_worked_on = count > 0;
        queue.waiting.drain(..count).collect()
    }
}

/// Lets somebody else begin where the one who works is gone before its time.
struct Working {
    arrivals: Arc<Arrivals>,
    is_done: bool,
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.is_done {
            self.arrivals.queue().is_worked_on = false;
        }
    }
}

impl Store {
    /// Adds a pack, together with others that come now.
    pub(super) async fn add_pack(&self, arrival: Arrival) -> Result<Inserted, Error> {
        let gone = || Error::Database(DbErr::Custom("whoever wrote to the index stopped".to_owned()));
        let _room = self.arrivals.room.acquire().await.map_err(|_| gone())?;
        let (answer, answered) = oneshot::channel();
        if self.arrivals.push(Waiting { arrival, answer }) {
            tokio::spawn(self.clone().work());
        }
        answered.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Adds what waits until nothing does. A task of its own: callers may go away.
    async fn work(self) {
        let mut working = Working { arrivals: Arc::clone(&self.arrivals), is_done: false };
        loop {
            let batch = self.arrivals.take();
            if batch.is_empty() {
                // `take` has said so already, and somebody else may have begun since.
                working.is_done = true;
                return;
            }
            let (arrivals, answers): (Vec<Arrival>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.arrival, waiting.answer)).unzip();
            for (answer, outcome) in answers.into_iter().zip(self.add_each(&arrivals).await) {
                // Whoever went away does not need to know.
                let _ = answer.send(outcome);
            }
        }
    }

    async fn add_each(&self, arrivals: &[Arrival]) -> Vec<Result<Inserted, Error>> {
        match self.add_all(arrivals).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            // Where the database is away every single one would wait for it.
            Err(error) if arrivals.len() == 1 || error.is_of_connection() => {
                arrivals.iter().map(|_| Err(error.clone())).collect()
            }
            Err(_) => {
                let mut outcomes = Vec::with_capacity(arrivals.len());
                for arrival in arrivals {
                    let alone = self.add_all(std::slice::from_ref(arrival)).await;
                    outcomes.push(alone.map(|mut outcome| outcome.pop().unwrap_or(Inserted::New)));
                }
                outcomes
            }
        }
    }

    /// All of them in one transaction, or none.
    async fn add_all(&self, arrivals: &[Arrival]) -> Result<Vec<Inserted>, Error> {
        let transaction = self.database.write().await?;
        let ids: Vec<PackId> = arrivals.iter().map(|arrival| arrival.row.pack).collect();
        let before = pack::by_ids(&*transaction, &ids).await?.into_iter().map(|row| (row.pack, row));
        let mut before: HashMap<PackId, PackRow> = before.collect();
        let stones = tombstone::of(&*transaction, &ids).await?.into_iter().map(|stone| (stone.pack, stone));
        let stones: HashMap<PackId, Tombstone> = stones.collect();
        let (mut new, mut outcomes) = (Vec::new(), Vec::with_capacity(arrivals.len()));
        for arrival in arrivals {
            let id = arrival.row.pack;
            if let Some(stone) = stones.get(&id).filter(|_| !before.contains_key(&id)) {
                outcomes.push(Inserted::Buried(Box::new(stone.clone())));
            } else if let Some(row) = before.get(&id) {
                outcomes.push(Inserted::Before(Box::new(row.clone())));
            } else {
                before.insert(id, arrival.row.clone());
                outcomes.push(Inserted::New);
                new.push(arrival);
            }
        }
        if new.is_empty() {
            return Ok(outcomes);
        }
        let mut first_of_days = Vec::new();
        for (_, start) in days(&new) {
            if partition::make_day(&*transaction, start).await? {
                first_of_days.push(start);
            }
        }
        insert(&*transaction, &new).await?;
        transaction.commit().await?;
        for newest in first_of_days {
            self.drop_empty_days(newest).await;
        }
        Ok(outcomes)
    }
}

/// The days on which packs start that have a table of days, each with a moment of it.
fn days(new: &[&Arrival]) -> HashMap<Day, Timestamp> {
    let of_days = new.iter().filter(|arrival| !pack::is_long(&arrival.row));
    of_days.map(|arrival| arrival.row.span.start()).map(|start| (Day::of(start), start)).collect()
}

async fn insert(database: &impl sea_orm::ConnectionTrait, new: &[&Arrival]) -> Result<(), Error> {
    pack::insert_many(database, new.iter().map(|arrival| &arrival.row)).await?;
    let entries = new.iter().flat_map(|arrival| &arrival.row.directory.entries);
    let keys: BTreeSet<LayerKeyId> = entries.map(|entry| entry.header.key_id).collect();
    let shredded = receipt::of_keys(database, &keys.into_iter().collect::<Vec<_>>()).await?;
    for arrival in new {
        let Arrival { row, runs, .. } = arrival;
        let left = upkeep::mark_late(database, row, &shredded).await?.map(|marks| {
            let left = (0..).zip(&row.directory.entries).filter(|(segment, _)| !marks.contains(*segment));
            runs_of(left.map(|(_, entry)| (entry.span, entry.length)))
        });
        for run in left.as_deref().unwrap_or(runs) {
            run::insert(database, row.camera, row.layer, *run).await?;
        }
    }
    let told = new.iter().filter_map(|arrival| arrival.tell.map(|at| (&arrival.row, at)));
    notice::add_arrivals(database, told).await
}
