//! The table of feeds: where each of them is.

use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::{Error, signed, unsigned};

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "feed_cursors")]
pub struct Model {
    /// Name of the feed.
    #[sea_orm(primary_key, auto_increment = false)]
    pub feed: String,
    /// Index of the next entry to send.
    pub next_index: i64,
    /// What went wrong last, in words; empty where nothing did.
    pub trouble: String,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn read(database: &impl ConnectionTrait, feed: &str) -> Result<Option<(u64, String)>, Error> {
    let Some(row) = Entity::find_by_id(feed).one(database).await? else { return Ok(None) };
    Ok(Some((unsigned(row.next_index, "a negative index")?, row.trouble)))
}

pub async fn put(
    database: &impl ConnectionTrait,
    feed: &str,
    next_index: u64,
    trouble: &str,
) -> Result<(), Error> {
    let row = ActiveModel {
        feed: Set(feed.to_owned()),
        next_index: Set(signed(next_index)),
        trouble: Set(trouble.to_owned()),
    };
    let mut replace = OnConflict::column(Column::Feed);
    replace.update_columns([Column::NextIndex, Column::Trouble]);
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}
