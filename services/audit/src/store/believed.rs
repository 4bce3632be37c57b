//! The table of when the wall clock was last believed: one row.

use obscura_clock::Timestamp;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// Key of the one row.
const ONLY: i16 = 1;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "believed")]
pub struct Model {
    /// Always 1, as in the table of the head.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// That moment, nanoseconds since the Unix epoch.
    pub wall_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn put(database: &impl ConnectionTrait, wall: Timestamp) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::Id);
    replace.update_column(Column::WallNs);
    let row = ActiveModel { id: Set(ONLY), wall_ns: Set(wall.unix_nanos()) };
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Option<Timestamp>, Error> {
    let row = Entity::find_by_id(ONLY).one(database).await?;
    Ok(row.map(|row| Timestamp::from_unix_nanos(row.wall_ns)))
}
