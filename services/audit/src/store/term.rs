//! The table of the term: how often somebody has become the one who writes this log.
//!
//! Whoever opens the tables takes the next term, and everything is written only under the newest one. A service that
//! was paused and wakes up later writes nothing any more, whatever it believes.

use obscura_database::Database;
use sea_orm::{ActiveValue::Set, QuerySelect as _, entity::prelude::*, sea_query::SelectStatement};

use super::Error;

/// Key of the one row.
const ONLY: i16 = 1;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "term")]
pub struct Model {
    /// Always 1, as in the table of the head.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// The newest term, 1 at first.
    pub number: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Begins the next term.
pub async fn begin(database: &Database) -> Result<i64, DbErr> {
    let write = database.write().await?;
    let before = Entity::find_by_id(ONLY).one(&*write).await?;
    let number = before.as_ref().map_or(0, |row| row.number).saturating_add(1);
    let row = ActiveModel { id: Set(ONLY), number: Set(number) };
    match before {
        Some(_) => Entity::update(row).exec(&*write).await.map(drop)?,
        None => Entity::insert(row).exec_without_returning(&*write).await.map(drop)?,
    }
    write.commit().await?;
    Ok(number)
}

/// Refuses where another term has begun.
pub async fn check(database: &impl ConnectionTrait, term: i64) -> Result<(), Error> {
    let newest = Entity::find_by_id(ONLY).one(database).await?.map(|row| row.number);
    if newest == Some(term) { Ok(()) } else { Err(Error::OtherSequencer) }
}

/// The key of the one row, where this is the newest term, else nothing.
pub fn key_within(term: i64) -> SelectStatement {
    use sea_orm::QueryTrait as _;

    Entity::find().select_only().column(Column::Id).filter(Column::Number.eq(term)).into_query()
}
