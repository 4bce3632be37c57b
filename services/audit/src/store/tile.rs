//! The table of hash tiles. A tile that is not full yet is replaced with each batch.

use obscura_tlog::{Tile, TileId};
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::{Error, signed};

/// Tiles of one statement.
const AT_ONCE: usize = 16;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tiles")]
pub struct Model {
    /// Level, 0 for leaf hashes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub level: i16,
    /// Index within the level.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tile_index: i64,
    /// 1 to 256 hashes of 32 bytes.
    pub hashes: Vec<u8>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn put(database: &impl ConnectionTrait, tiles: &[Tile]) -> Result<(), Error> {
    let mut replace = OnConflict::columns([Column::Level, Column::TileIndex]);
    replace.update_column(Column::Hashes);
    for tiles in tiles.chunks(AT_ONCE) {
        let rows = tiles.iter().map(|tile| ActiveModel {
            level: Set(tile.id.level().into()),
            tile_index: Set(signed(tile.id.index())),
            hashes: Set(tile.to_bytes()),
        });
        Entity::insert_many(rows).on_conflict(replace.clone()).exec_without_returning(database).await?;
    }
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait, id: TileId) -> Result<Tile, Error> {
    let key = (i16::from(id.level()), signed(id.index()));
    let row = Entity::find_by_id(key).one(database).await?.ok_or(Error::Corrupt("a log without a tile"))?;
    Tile::from_bytes(id, &row.hashes).map_err(|_| Error::Corrupt("a tile that is none"))
}
