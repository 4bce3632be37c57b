//! The table of entries, and which cameras they name.

use std::collections::HashMap;

use bytes::Bytes;
use obscura_clock::Timestamp;
use sea_orm::{
    ActiveValue::Set, Condition, ExprTrait as _, FromQueryResult, QueryOrder as _, QuerySelect as _,
    QueryTrait as _, SqlErr, entity::prelude::*,
};

use super::{Batch, Error, insert_rows, signed, unsigned};
use crate::event_id::EventId;

/// Ids that one statement looks up.
const LOOKED_UP: usize = 512;

/// A row as the database has it. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "entries")]
pub struct Model {
    /// Index of the leaf.
    #[sea_orm(primary_key, auto_increment = false)]
    pub leaf_index: i64,
    /// 16 bytes.
    pub event_id: Vec<u8>,
    /// When it was committed.
    pub committed_ns: i64,
    /// Name of the field in `Event.body`.
    pub kind: String,
    /// Pseudonym of who acted; null where nobody did.
    pub pseudonym: Option<String>,
    /// SHA-256 of the claims, for grants.
    pub claims_hash: Option<Vec<u8>>,
    /// Bytes of the leaf.
    pub leaf: Vec<u8>,
}

/// None: rows are found by index, id, time, pseudonym or camera.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Which cameras an entry names.
pub mod camera {
    use sea_orm::entity::prelude::*;

    /// A row as the database has it.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "entry_cameras")]
    pub struct Model {
        /// 16 bytes.
        #[sea_orm(primary_key, auto_increment = false)]
        pub camera: Vec<u8>,
        /// Index of the leaf.
        #[sea_orm(primary_key, auto_increment = false)]
        pub leaf_index: i64,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Whom an entry names beside who acted.
pub mod named {
    use sea_orm::entity::prelude::*;

    /// A row as the database has it.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "entry_named")]
    pub struct Model {
        /// Pseudonym of the person.
        #[sea_orm(primary_key, auto_increment = false)]
        pub pseudonym: String,
        /// Index of the leaf.
        #[sea_orm(primary_key, auto_increment = false)]
        pub leaf_index: i64,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// An entry on its way into the table.
#[derive(Debug)]
pub struct Stored<'a> {
    /// Id of the event.
    pub event_id: EventId,
    /// Name of the field in `Event.body`.
    pub kind: &'static str,
    /// Pseudonym of who acted.
    pub pseudonym: Option<&'a str>,
    /// Pseudonyms of whom it names beside who acted, each once.
    pub named: &'a [String],
    /// UUIDs of the cameras that it names.
    pub cameras: &'a [[u8; 16]],
    /// SHA-256 of the claims.
    pub claims_hash: Option<&'a [u8]>,
    /// Bytes of the leaf.
    pub leaf: &'a [u8],
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the leaf.
    pub index: u64,
    /// Id of the event.
    pub event_id: EventId,
    /// When it was committed.
    pub committed: Timestamp,
    /// SHA-256 of the claims, for grants.
    pub claims_hash: Option<Vec<u8>>,
    /// Bytes of the leaf.
    pub leaf: Bytes,
}

/// Which entries to read; empty lists mean all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Kinds.
    pub kinds: Vec<String>,
    /// Committed at or after.
    pub from: Option<Timestamp>,
    /// Committed before.
    pub to: Option<Timestamp>,
    /// Names this camera.
    pub camera: Option<[u8; 16]>,
    /// About whom.
    pub about: About,
}

/// About whom entries are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Anybody, and nobody.
    #[default]
    Anybody,
    /// Somebody acted under, or is named by, one of these pseudonyms; nobody where there are none.
    One(Vec<String>),
    /// No person acted, and none is named.
    Nobody,
}

pub async fn insert(database: &impl ConnectionTrait, batch: &Batch<'_>) -> Result<(), Error> {
    let rows = (batch.old_size..).zip(batch.entries).map(|(index, entry)| ActiveModel {
        leaf_index: Set(signed(index)),
        event_id: Set(entry.event_id.as_bytes().to_vec()),
        committed_ns: Set(batch.committed.unix_nanos()),
        kind: Set(entry.kind.to_owned()),
        pseudonym: Set(entry.pseudonym.map(ToOwned::to_owned)),
        claims_hash: Set(entry.claims_hash.map(<[u8]>::to_vec)),
        leaf: Set(entry.leaf.to_vec()),
    });
    insert_rows(database, rows.collect()).await.map_err(already_there)?;
    let cameras = (batch.old_size..).zip(batch.entries).flat_map(|(index, entry)| {
        entry.cameras.iter().map(move |camera| camera::ActiveModel {
            camera: Set(camera.to_vec()),
            leaf_index: Set(signed(index)),
        })
    });
    insert_rows(database, cameras.collect()).await?;
    let named = (batch.old_size..).zip(batch.entries).flat_map(|(index, entry)| {
        entry.named.iter().map(move |pseudonym| named::ActiveModel {
            pseudonym: Set(pseudonym.clone()),
            leaf_index: Set(signed(index)),
        })
    });
    insert_rows(database, named.collect()).await
}

/// The two unique columns are the index and the id of the event.
fn already_there(error: Error) -> Error {
    match error {
        Error::Database(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => {
            Error::AlreadyThere
        }
        error => error,
    }
}

pub async fn known(database: &impl ConnectionTrait, ids: &[EventId]) -> Result<HashMap<EventId, Row>, Error> {
    let mut found = HashMap::new();
    for ids in ids.chunks(LOOKED_UP) {
        // Filled up with the last one, so that few statements exist and all stay prepared.
        let wanted = ids.iter().chain(ids.last().into_iter().cycle()).take(ids.len().next_power_of_two());
        let wanted = wanted.map(|id| id.as_bytes().to_vec());
        let rows = Entity::find().filter(Column::EventId.is_in(wanted)).all(database).await?;
        for row in rows {
            let row = Row::try_from(row)?;
            found.insert(row.event_id, row);
        }
    }
    Ok(found)
}

pub async fn page(
    database: &impl ConnectionTrait,
    from: u64,
    to: u64,
    limit: u64,
    filter: &Filter,
) -> Result<Vec<Row>, Error> {
    let between = Column::LeafIndex.gte(signed(from)).and(Column::LeafIndex.lt(signed(to)));
    let rows = Entity::find()
        .filter(between)
        .filter(condition(filter))
        .order_by_asc(Column::LeafIndex)
        .limit(limit)
        .all(database)
        .await?;
    rows.into_iter().map(Row::try_from).collect()
}

fn condition(filter: &Filter) -> Condition {
    let mut all = Condition::all();
    if !filter.kinds.is_empty() {
        all = all.add(Column::Kind.is_in(filter.kinds.clone()));
    }
    if let Some(from) = filter.from {
        all = all.add(Column::CommittedNs.gte(from.unix_nanos()));
    }
    if let Some(to) = filter.to {
        all = all.add(Column::CommittedNs.lt(to.unix_nanos()));
    }
    all = match &filter.about {
        About::Anybody => all,
        About::One(pseudonyms) => {
            let names = named::Column::Pseudonym.is_in(pseudonyms.clone());
            let named = Column::LeafIndex.in_subquery(naming().filter(names).into_query());
            let acted = Column::Pseudonym.is_in(pseudonyms.clone());
            all.add(Condition::any().add(acted).add(named))
        }
        About::Nobody => {
            all.add(Column::Pseudonym.is_null()).add(Column::LeafIndex.not_in_subquery(naming().into_query()))
        }
    };
    if let Some(camera) = filter.camera {
        let named = camera::Entity::find()
            .select_only()
            .column(camera::Column::LeafIndex)
            .filter(camera::Column::Camera.eq(camera.to_vec()));
        all = all.add(Column::LeafIndex.in_subquery(named.into_query()));
    }
    all
}

/// Indexes of entries that name somebody beside who acted.
fn naming() -> Select<named::Entity> {
    named::Entity::find().select_only().column(named::Column::LeafIndex)
}

/// At most `limit` of the highest indexes in `[from, to)` that pass the filter, highest first.
pub async fn newest(
    database: &impl ConnectionTrait,
    from: u64,
    to: u64,
    limit: u64,
    filter: &Filter,
) -> Result<Vec<u64>, Error> {
    let between = Column::LeafIndex.gte(signed(from)).and(Column::LeafIndex.lt(signed(to)));
    let query = Entity::find()
        .select_only()
        .column(Column::LeafIndex)
        .filter(between)
        .filter(condition(filter))
        .order_by_desc(Column::LeafIndex)
        .limit(limit);
    let indexes: Vec<i64> = query.into_tuple().all(database).await?;
    indexes.into_iter().map(|index| unsigned(index, "a negative index")).collect()
}

#[derive(FromQueryResult)]
struct Ends {
    first: Option<i64>,
    last: Option<i64>,
}

pub async fn between(
    database: &impl ConnectionTrait,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Option<(u64, u64)>, Error> {
    let filter = Filter { from, to, ..Filter::default() };
    let ends = Entity::find()
        .select_only()
        .column_as(Column::LeafIndex.min(), "first")
        .column_as(Column::LeafIndex.max(), "last")
        .filter(condition(&filter))
        .into_model::<Ends>()
        .one(database)
        .await?;
    let Some(Ends { first: Some(first), last: Some(last) }) = ends else { return Ok(None) };
    let negative = "a negative index";
    Ok(Some((unsigned(first, negative)?, unsigned(last, negative)?.saturating_add(1))))
}

pub async fn first(database: &impl ConnectionTrait) -> Result<Option<u64>, Error> {
    let query =
        Entity::find().select_only().column(Column::LeafIndex).order_by_asc(Column::LeafIndex).limit(1);
    let first: Option<i64> = query.into_tuple().one(database).await?;
    first.map(|index| unsigned(index, "a negative index")).transpose()
}

/// When entries were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The newest, without those of the future.
    pub newest: Option<Timestamp>,
    /// Whether some have times of the future.
    pub has_future: bool,
}

pub async fn dates(
    database: &impl ConnectionTrait,
    from: u64,
    to: u64,
    now: Timestamp,
) -> Result<Dates, Error> {
    let newest = async |times| {
        let query = within(from, to).column_as(Column::CommittedNs.max(), "newest").filter(times);
        query.into_tuple::<Option<i64>>().one(database).await
    };
    let past = newest(Column::CommittedNs.lte(now.unix_nanos())).await?.flatten();
    let future = newest(Column::CommittedNs.gt(now.unix_nanos())).await?.flatten();
    Ok(Dates { newest: past.map(Timestamp::from_unix_nanos), has_future: future.is_some() })
}

pub async fn oldest_within(
    database: &impl ConnectionTrait,
    from: u64,
    to: u64,
) -> Result<Option<Timestamp>, Error> {
    let query = within(from, to).column_as(Column::CommittedNs.min(), "oldest");
    let oldest: Option<Option<i64>> = query.into_tuple().one(database).await?;
    Ok(oldest.flatten().map(Timestamp::from_unix_nanos))
}

fn within(from: u64, to: u64) -> Select<Entity> {
    let between = Column::LeafIndex.gte(signed(from)).and(Column::LeafIndex.lt(signed(to)));
    Entity::find().select_only().filter(between)
}

pub async fn remove_below(database: &impl ConnectionTrait, index: u64) -> Result<(), Error> {
    let below = signed(index);
    camera::Entity::delete_many().filter(camera::Column::LeafIndex.lt(below)).exec(database).await?;
    named::Entity::delete_many().filter(named::Column::LeafIndex.lt(below)).exec(database).await?;
    Entity::delete_many().filter(Column::LeafIndex.lt(below)).exec(database).await?;
    Ok(())
}

impl TryFrom<Model> for Row {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        Ok(Self {
            index: unsigned(model.leaf_index, "a negative index")?,
            event_id: EventId::from_slice(&model.event_id)
                .ok_or(Error::Corrupt("an event id that is none"))?,
            committed: Timestamp::from_unix_nanos(model.committed_ns),
            claims_hash: model.claims_hash,
            leaf: model.leaf.into(),
        })
    }
}
