//! Events that are committed together with the change that they tell about.
//!
//! 1. A service stages the event in the transaction of its change. A crash before the commit leaves
//!    neither, a crash after it leaves both.
//! 2. The pump records staged events in the outbox, as many as have room there, and waits until they are durable.
//! 3. It deletes the rows of those. A crash between 2 and 3 records them again; the log knows events by their id.
//! 4. In SQLite deleted rows are overwritten, and within a minute the write-ahead log that still has them is cut
//!    ([`Database::scrub`]): they name people in clear. A server keeps dead rows until it vacuums, and its own
//!    write-ahead log as long as it is told to.

use std::{sync::Arc, time::Duration};

use obscura_database::Database;
use obscura_proto::audit::v1::Event;
use prost::Message as _;
use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DbBackend, DbErr, QueryOrder as _, QuerySelect as _, Schema,
    Statement, entity::prelude::*,
};
use tokio::{sync::Notify, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{Outbox, Recorded};

/// Rows in one step of the pump.
const BATCH: u64 = 200;
/// How often the pump looks without being told.
const IDLE: Duration = Duration::from_secs(5);

/// How often the files of the database are freed of what was moved.
const SCRUB_EVERY: Duration = Duration::from_mins(1);

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "staged_events")]
pub struct Model {
    /// UUID (version 7), so that rows have the order of time.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: String,
    /// One serialised `obscura.audit.v1.Event`.
    pub event: Vec<u8>,
}

/// None: rows are read in order.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Statements that make the table, for a migration of the service.
#[must_use]
pub fn create_table(backend: DbBackend) -> Vec<Statement> {
    let mut table = Schema::new(backend).create_table_from_entity(Entity);
    vec![backend.build(table.if_not_exists())]
}

/// Stages an event in the transaction of the change that it tells about.
///
/// # Errors
/// Those of the database; the change must not be committed then.
pub async fn stage(transaction: &impl ConnectionTrait, event: &Event) -> Result<(), DbErr> {
    let row = ActiveModel { event_id: Set(event.event_id.clone()), event: Set(event.encode_to_vec()) };
    Entity::insert(row).exec_without_returning(transaction).await?;
    Ok(())
}

/// Moves staged events into the outbox, now and whenever `staged` tells, until `shutdown`.
pub async fn pump(database: Arc<Database>, outbox: Outbox, staged: Arc<Notify>, shutdown: CancellationToken) {
    let mut scrub = tokio::time::interval(SCRUB_EVERY);
    scrub.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The files of a process that crashed may have something.
    let mut owed = true;
    loop {
        match hand_over(&database, &outbox).await {
            Ok(moved) => {
                owed |= moved > 0;
                if moved == BATCH {
                    continue;
                }
            }
            Err(error) => tracing::warn!(%error, "staged audit events cannot be read; trying again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tokio::time::timeout(IDLE, staged.notified()) => {}
            _ = scrub.tick(), if owed => owed = !scrubbed(&database).await,
        }
    }
}

/// Whether no file has any more what was moved.
async fn scrubbed(database: &Database) -> bool {
    database.scrub().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the database cannot be freed of audit events that were handed over; trying again");
        false
    })
}

/// Moves at most [`BATCH`] events, as far as the outbox has room; says how many. What has no room stays staged.
///
/// # Errors
/// Those of the database; nothing is lost then.
pub async fn hand_over(database: &Database, outbox: &Outbox) -> Result<u64, DbErr> {
    if !outbox.has_room_for_what_can_wait() {
        return Ok(0);
    }
    let query = Entity::find().order_by_asc(Column::EventId).limit(BATCH);
    let rows = query.all(database.readers()).await?;
    let ids: Vec<_> =
        rows.iter().take_while(|row| takes(outbox, row)).map(|row| row.event_id.clone()).collect();
    if ids.is_empty() || !outbox.flush().await {
        return Ok(0);
    }
    let moved = ids.len() as u64;
    let transaction = database.write().await?;
    Entity::delete_many().filter(Column::EventId.is_in(ids)).exec(&*transaction).await?;
    transaction.commit().await?;
    Ok(moved)
}

/// Whether the row is no longer needed once the outbox is durable.
fn takes(outbox: &Outbox, row: &Model) -> bool {
    let Ok(event) = Event::decode(row.event.as_slice()) else {
        tracing::error!(event = row.event_id, "a staged audit event is damaged and was dropped");
        return true;
    };
    match outbox.record(&event) {
        Recorded::Kept => true,
        Recorded::Full => false,
        // It would stay for ever and hold up all others; now the log hears that something is missing.
        Recorded::TooLong => {
            tracing::error!(event = row.event_id, "a staged audit event is too long and was dropped");
            outbox.record_or_drop(event);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_database::{Location, Migration};
    use obscura_proto::audit::v1::{Outcome, Person, Test, event::Body};

    use super::*;
    use crate::{Limits, event};

    const MIGRATIONS: &[Migration] =
        &[Migration { version: 1, name: "staged events", statements: create_table }];

    const NAME: &str = "Erika Mustermann-Gabler";

    struct Bench {
        folder: tempfile::TempDir,
        database: Arc<Database>,
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let location = Location::Sqlite(folder.path().join("x.sqlite"));
            let database = Database::open(&location, MIGRATIONS).await.unwrap();
            Self { folder, database: Arc::new(database) }
        }

        /// Files of the database in which somebody is named.
        fn names(&self) -> Vec<String> {
            let mut found = Vec::new();
            for file in ["x.sqlite", "x.sqlite-wal", "x.sqlite-shm"] {
                let bytes = std::fs::read(self.folder.path().join(file)).unwrap_or_default();
                if bytes.windows(NAME.len()).any(|window| window == NAME.as_bytes()) {
                    found.push(file.to_owned());
                }
            }
            found
        }

        async fn outbox(&self) -> Outbox {
            let path = self.folder.path().join("outbox");
            Outbox::open(&path, Limits::default(), SystemClock::shared()).await.unwrap()
        }

        async fn stage(&self, commit: bool) {
            let body = Body::Test(Test { text: "x".into() });
            let actor = Person { id: "user:erika".into(), name: NAME.into(), ..Person::default() };
            let event = event(&SystemClock::shared(), Outcome::Success, body);
            let event = Event { actor: Some(actor), ..event };
            let transaction = self.database.write().await.unwrap();
            stage(&*transaction, &event).await.unwrap();
            if commit {
                transaction.commit().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_was_committed_moves_once_and_what_was_not_never_happened() {
        let bench = Bench::new().await;
        let outbox = bench.outbox().await;
        bench.stage(true).await;
        bench.stage(false).await;
        bench.stage(true).await;
        assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), 2);
        assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), 0);
        assert_eq!(outbox.queued(), 2);
        outbox.close().await;
    }

    #[tokio::test]
    async fn after_the_move_no_file_of_the_database_names_who_an_event_is_about() {
        let bench = Bench::new().await;
        let outbox = bench.outbox().await;
        for _ in 0..300 {
            bench.stage(true).await;
        }
        assert!(bench.names().iter().any(|name| name.ends_with("-wal")), "{:?}", bench.names());
        while hand_over(&bench.database, &outbox).await.unwrap() > 0 {}
        assert!(bench.database.scrub().await.unwrap());
        assert_eq!(bench.names(), Vec::<String>::new());
        assert_eq!(outbox.queued(), 300);
        outbox.close().await;
    }

    #[tokio::test]
    async fn the_pump_moves_what_a_crash_left_and_frees_the_files_of_it() {
        let bench = Bench::new().await;
        bench.stage(true).await;
        let (outbox, shutdown) = (bench.outbox().await, CancellationToken::new());
        let database = Arc::clone(&bench.database);
        let pumping = tokio::spawn(pump(database, outbox.clone(), Arc::default(), shutdown.clone()));
        while !bench.names().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shutdown.cancel();
        pumping.await.unwrap();
        assert_eq!(outbox.queued(), 1);
        outbox.close().await;
    }

    #[tokio::test]
    async fn what_has_no_room_in_the_outbox_stays_staged_and_none_of_it_is_dropped() {
        for (limits, room) in [
            (Limits { max_events: 3, ..Limits::default() }, 3),
            (Limits { max_bytes: 300, ..Limits::default() }, 3),
        ] {
            let bench = Bench::new().await;
            let path = bench.folder.path().join("outbox");
            let outbox = Outbox::open(&path, limits, SystemClock::shared()).await.unwrap();
            for _ in 0..5 {
                bench.stage(true).await;
            }
            assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), room, "{limits:?}");
            assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), 0);
            assert_eq!((outbox.queued(), outbox.dropped()), (room, 0));
            let staged = Entity::find().all(bench.database.readers()).await.unwrap();
            assert_eq!(staged.len() as u64, 5 - room);
            outbox.close().await;
        }
    }

    #[tokio::test]
    async fn what_is_staged_leaves_most_of_the_outbox_to_events_that_have_no_other_place() {
        let bench = Bench::new().await;
        let outbox = bench.outbox().await;
        bench.stage(true).await;
        let long = "x".repeat(1_000_000);
        while outbox.has_room_for_what_can_wait() {
            outbox.record_body_or_drop(Outcome::Success, Body::Test(Test { text: long.clone() }));
        }
        assert_eq!(outbox.queued(), 9, "8 MiB");
        assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), 0);
        assert_eq!((outbox.queued(), outbox.dropped()), (9, 0));
        outbox.close().await;
    }

    #[tokio::test]
    async fn an_event_that_never_has_room_holds_up_no_other_and_is_counted() {
        let bench = Bench::new().await;
        let outbox = bench.outbox().await;
        let body = Body::Test(Test { text: "x".repeat(crate::MAX_EVENT_BYTES) });
        let transaction = bench.database.write().await.unwrap();
        stage(&*transaction, &event(&SystemClock::shared(), Outcome::Success, body)).await.unwrap();
        transaction.commit().await.unwrap();
        bench.stage(true).await;
        assert_eq!(hand_over(&bench.database, &outbox).await.unwrap(), 2);
        assert_eq!(outbox.dropped(), 1);
        outbox.close().await;
    }

    #[tokio::test]
    async fn a_moved_event_survives_the_end_of_the_process() {
        let bench = Bench::new().await;
        let outbox = bench.outbox().await;
        bench.stage(true).await;
        hand_over(&bench.database, &outbox).await.unwrap();
        outbox.close().await;
        assert_eq!(bench.outbox().await.queued(), 1);
    }
}
