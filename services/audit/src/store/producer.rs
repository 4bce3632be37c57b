//! The table of producers' outboxes: each counts for the one service that reports it, so that nobody can report in the
//! place of another whose outbox they know.

use obscura_clock::Timestamp;
use sea_orm::{
    ActiveValue::Set,
    QuerySelect as _,
    entity::prelude::*,
    sea_query::{Expr, OnConflict},
};

use super::{Error, signed, unsigned};

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "producers")]
pub struct Model {
    /// SPIFFE id of the service whose outbox it is; [`UNBOUND`] where that was not written down yet.
    #[sea_orm(primary_key, auto_increment = false)]
    pub producer: String,
    /// UUID of the outbox, 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub outbox: Vec<u8>,
    /// Everything up to this counter is in the log or named as dropped.
    pub through: i64,
    /// Number of events that the producer had to drop.
    pub dropped: i64,
    /// When it last reported, nanoseconds since the Unix epoch.
    pub reported_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// In place of the producer: version 3 of the tables knew outboxes alone. The first to report such an outbox has it.
const UNBOUND: &str = "";

/// How far an outbox has delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// SPIFFE id of the service whose outbox it is.
    pub producer: String,
    /// UUID of the outbox.
    pub outbox: [u8; 16],
    /// Everything up to this counter is in the log or named as dropped.
    pub through: u64,
    /// Number of events that the producer had to drop.
    pub dropped: u64,
}

pub async fn put(
    database: &impl ConnectionTrait,
    producers: &[Producer],
    reported: Timestamp,
) -> Result<(), Error> {
    let mut replace = OnConflict::columns([Column::Producer, Column::Outbox]);
    replace.update_columns([Column::Through, Column::Dropped, Column::ReportedNs]);
    for producer in producers {
        let row = ActiveModel {
            producer: Set(producer.producer.clone()),
            outbox: Set(producer.outbox.to_vec()),
            through: Set(signed(producer.through)),
            dropped: Set(signed(producer.dropped)),
            reported_ns: Set(reported.unix_nanos()),
        };
        Entity::insert(row).on_conflict(replace.clone()).exec_without_returning(database).await?;
    }
    Ok(())
}

pub async fn read(
    database: &impl ConnectionTrait,
    producer: &str,
    outbox: [u8; 16],
) -> Result<Option<Producer>, Error> {
    let id = (producer.to_owned(), outbox.to_vec());
    let Some(row) = Entity::find_by_id(id).one(database).await? else { return Ok(None) };
    let through = unsigned(row.through, "a negative counter")?;
    let dropped = unsigned(row.dropped, "a negative number")?;
    Ok(Some(Producer { producer: row.producer, outbox, through, dropped }))
}

/// Whether the outbox still belongs to nobody.
pub async fn is_unbound(database: &impl ConnectionTrait, outbox: [u8; 16]) -> Result<bool, Error> {
    Ok(read(database, UNBOUND, outbox).await?.is_some())
}

/// Gives an outbox that belongs to nobody to this producer.
pub async fn bind(database: &impl ConnectionTrait, producer: &str, outbox: [u8; 16]) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Producer, Expr::value(producer))
        .filter(Column::Producer.eq(UNBOUND))
        .filter(Column::Outbox.eq(outbox.to_vec()))
        .exec(database)
        .await?;
    Ok(())
}

pub async fn dropped(database: &impl ConnectionTrait) -> Result<u64, Error> {
    // Few rows, and a sum has another type in each database.
    let rows: Vec<i64> =
        Entity::find().select_only().column(Column::Dropped).into_tuple().all(database).await?;
    rows.into_iter()
        .try_fold(0_u64, |sum, dropped| Ok(sum.saturating_add(unsigned(dropped, "a negative number")?)))
}

pub async fn forget(database: &impl ConnectionTrait, before: Timestamp) -> Result<(), Error> {
    Entity::delete_many().filter(Column::ReportedNs.lt(before.unix_nanos())).exec(database).await?;
    Ok(())
}
