//! The table of when the wall clock was last believed, and how long the log was when somebody vouched for it: one row.

use obscura_clock::Timestamp;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::{Error, signed, unsigned};

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
    /// Leaves in the log when a time server or a person last vouched for the clock; null where nobody ever did.
    pub vouched_size: Option<i64>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Where nobody vouches now, what was vouched for before stays.
pub async fn put(
    database: &impl ConnectionTrait,
    wall: Timestamp,
    vouched: Option<u64>,
) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::Id);
    replace.update_column(Column::WallNs);
    if vouched.is_some() {
        replace.update_column(Column::VouchedSize);
    }
    let vouched_size = Set(vouched.map(signed));
    let row = ActiveModel { id: Set(ONLY), wall_ns: Set(wall.unix_nanos()), vouched_size };
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Option<Timestamp>, Error> {
    let row = Entity::find_by_id(ONLY).one(database).await?;
    Ok(row.map(|row| Timestamp::from_unix_nanos(row.wall_ns)))
}

/// Leaves in the log when somebody last vouched for the clock; 0 where nobody ever did.
pub async fn vouched(database: &impl ConnectionTrait) -> Result<u64, Error> {
    let row = Entity::find_by_id(ONLY).one(database).await?;
    row.and_then(|row| row.vouched_size).map_or(Ok(0), |size| unsigned(size, "a negative size"))
}
