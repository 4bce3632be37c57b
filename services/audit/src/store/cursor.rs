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
    /// Index of the first entry that it will never send; NULL where there is none.
    pub lost_first: Option<i64>,
    /// Index of the last.
    pub lost_last: Option<i64>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Where a feed is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Index of the next entry to send.
    pub next_index: u64,
    /// What went wrong last, in words; empty where nothing did.
    pub trouble: String,
    /// First and last index of what it will never send.
    pub lost: Option<(u64, u64)>,
}

pub async fn read(database: &impl ConnectionTrait, feed: &str) -> Result<Option<Cursor>, Error> {
    let Some(row) = Entity::find_by_id(feed).one(database).await? else { return Ok(None) };
    let index = |index| unsigned(index, "a negative index");
    let lost = match (row.lost_first, row.lost_last) {
        (Some(first), Some(last)) => Some((index(first)?, index(last)?)),
        _ => None,
    };
    Ok(Some(Cursor { next_index: index(row.next_index)?, trouble: row.trouble, lost }))
}

pub async fn put(database: &impl ConnectionTrait, feed: &str, cursor: &Cursor) -> Result<(), Error> {
    let row = ActiveModel {
        feed: Set(feed.to_owned()),
        next_index: Set(signed(cursor.next_index)),
        trouble: Set(cursor.trouble.clone()),
        lost_first: Set(cursor.lost.map(|(first, _)| signed(first))),
        lost_last: Set(cursor.lost.map(|(_, last)| signed(last))),
    };
    let mut replace = OnConflict::column(Column::Feed);
    replace.update_columns([Column::NextIndex, Column::Trouble, Column::LostFirst, Column::LostLast]);
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}
