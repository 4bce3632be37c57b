//! The table of who was erased and when, by keyed tags.

use obscura_clock::Timestamp;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "erased")]
pub struct Model {
    /// HMAC of the person's id under a key that is not in the database.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tag: Vec<u8>,
    /// When they were last erased, nanoseconds since the Unix epoch.
    pub erased_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A person who was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasedRow {
    /// HMAC of the person's id under a key that is not in the database.
    pub tag: Vec<u8>,
    /// When they were last erased.
    pub erased: Timestamp,
}

pub async fn put(database: &impl ConnectionTrait, row: &ErasedRow) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::Tag);
    replace.update_column(Column::ErasedNs);
    let row = ActiveModel { tag: Set(row.tag.clone()), erased_ns: Set(row.erased.unix_nanos()) };
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Vec<ErasedRow>, Error> {
    let row = |row: Model| ErasedRow { tag: row.tag, erased: Timestamp::from_unix_nanos(row.erased_ns) };
    Ok(Entity::find().all(database).await?.into_iter().map(row).collect())
}

pub async fn forget(database: &impl ConnectionTrait, before: Timestamp) -> Result<(), Error> {
    Entity::delete_many().filter(Column::ErasedNs.lt(before.unix_nanos())).exec(database).await?;
    Ok(())
}
