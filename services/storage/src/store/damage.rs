//! What the scrub knows: packs that are damaged, and sums of the chunks of those that were whole.

use obscura_ids::PackId;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// Sums of the chunks of a pack that was found whole.
pub mod chunk_sums {
    use sea_orm::entity::prelude::*;

    /// The sums of one pack.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "chunk_sums")]
    pub struct Model {
        /// 16 bytes.
        #[sea_orm(primary_key, auto_increment = false)]
        pub pack_id: Vec<u8>,
        /// CRC-32C of each chunk, 4 bytes each, highest first, of all segments in order.
        pub sums: Vec<u8>,
    }

    /// None.
    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// A pack that is not as it was indexed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "damaged_packs")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pack_id: Vec<u8>,
    /// Number of what was found in `obscura.storage.v1.FindingKind`.
    pub kind: i32,
    /// When it was found first.
    pub found_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub(super) async fn add(
    database: &impl ConnectionTrait,
    pack: PackId,
    kind: i32,
    found_ns: i64,
) -> Result<(), Error> {
    let row =
        ActiveModel { pack_id: Set(pack.as_bytes().to_vec()), kind: Set(kind), found_ns: Set(found_ns) };
    let update = OnConflict::column(Column::PackId).update_column(Column::Kind).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn remove(database: &impl ConnectionTrait, pack: PackId) -> Result<(), Error> {
    Entity::delete_by_id(pack.as_bytes().to_vec()).exec(database).await?;
    Ok(())
}

pub(super) async fn contains(database: &impl ConnectionTrait, pack: PackId) -> Result<bool, Error> {
    Ok(Entity::find_by_id(pack.as_bytes().to_vec()).one(database).await?.is_some())
}

pub(super) async fn count(database: &impl ConnectionTrait) -> Result<u64, Error> {
    Ok(Entity::find().count(database).await?)
}

pub(super) async fn sums(database: &impl ConnectionTrait, pack: PackId) -> Result<Option<Vec<u32>>, Error> {
    let row = chunk_sums::Entity::find_by_id(pack.as_bytes().to_vec()).one(database).await?;
    Ok(row.map(|row| row.sums.as_chunks::<4>().0.iter().map(|sum| u32::from_be_bytes(*sum)).collect()))
}

pub(super) async fn put_sums(
    database: &impl ConnectionTrait,
    pack: PackId,
    sums: &[u32],
) -> Result<(), Error> {
    let sums = sums.iter().flat_map(|sum| sum.to_be_bytes()).collect();
    let row = chunk_sums::ActiveModel { pack_id: Set(pack.as_bytes().to_vec()), sums: Set(sums) };
    let keep = OnConflict::column(chunk_sums::Column::PackId).do_nothing().to_owned();
    chunk_sums::Entity::insert(row).on_conflict(keep).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn forget(database: &impl ConnectionTrait, pack: PackId) -> Result<(), Error> {
    chunk_sums::Entity::delete_by_id(pack.as_bytes().to_vec()).exec(database).await?;
    remove(database, pack).await
}
