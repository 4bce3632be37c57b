//! The table of events that this service owes the log: they tell of what the same transaction did.

use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::Error;
use crate::event_id::EventId;

/// Rows that one look takes.
const AT_MOST: u64 = 1_000;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_events")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: Vec<u8>,
    /// One serialised `obscura.audit.v1.Event`, which names nobody.
    pub event: Vec<u8>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn insert(database: &impl ConnectionTrait, id: EventId, event: Vec<u8>) -> Result<(), Error> {
    let row = ActiveModel { event_id: Set(id.as_bytes().to_vec()), event: Set(event) };
    Entity::insert(row).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Vec<(EventId, Vec<u8>)>, Error> {
    let rows = Entity::find().order_by_asc(Column::EventId).limit(AT_MOST).all(database).await?;
    let id = |bytes: &[u8]| EventId::from_slice(bytes).ok_or(Error::Corrupt("an event id that is none"));
    rows.into_iter().map(|row| Ok((id(&row.event_id)?, row.event))).collect()
}

pub async fn remove(database: &impl ConnectionTrait, ids: &[EventId]) -> Result<(), Error> {
    for id in ids {
        Entity::delete_by_id(id.as_bytes().to_vec()).exec(database).await?;
    }
    Ok(())
}
