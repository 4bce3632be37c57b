//! The table of entries whose times of commit prove nothing, because the clock may have been wrong when they were
//! written.

use obscura_clock::Timestamp;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::{Error, signed, unsigned};

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "undated")]
pub struct Model {
    /// One more than the last index.
    #[sea_orm(primary_key, auto_increment = false)]
    pub to_index: i64,
    /// The first index.
    pub from_index: i64,
    /// The earliest time of commit among them, nanoseconds since the Unix epoch.
    pub oldest_ns: i64,
    /// When the clock was believed again; all of them were written before.
    pub written_before_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Entries that count as written when the clock was believed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undated {
    /// The first index.
    pub from: u64,
    /// One more than the last index.
    pub to: u64,
    /// The earliest time of commit among them.
    pub oldest: Timestamp,
    /// When the clock was believed again; all of them were written before.
    pub written_before: Timestamp,
}

/// One with the same end covers no more than the new one.
pub async fn put(database: &impl ConnectionTrait, undated: &Undated) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::ToIndex);
    replace.update_columns([Column::FromIndex, Column::OldestNs, Column::WrittenBeforeNs]);
    let row = ActiveModel {
        to_index: Set(signed(undated.to)),
        from_index: Set(signed(undated.from)),
        oldest_ns: Set(undated.oldest.unix_nanos()),
        written_before_ns: Set(undated.written_before.unix_nanos()),
    };
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Vec<Undated>, Error> {
    Entity::find().all(database).await?.into_iter().map(TryInto::try_into).collect()
}

pub async fn forget(database: &impl ConnectionTrait, before: Timestamp) -> Result<(), Error> {
    let old = Column::WrittenBeforeNs.lt(before.unix_nanos());
    Entity::delete_many().filter(old).exec(database).await?;
    Ok(())
}

impl TryFrom<Model> for Undated {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        Ok(Self {
            from: unsigned(model.from_index, "a negative index")?,
            to: unsigned(model.to_index, "a negative index")?,
            oldest: Timestamp::from_unix_nanos(model.oldest_ns),
            written_before: Timestamp::from_unix_nanos(model.written_before_ns),
        })
    }
}
