//! The table of packs of which something is shredded.

use std::collections::BTreeMap;

use obscura_ids::PackId;
use sea_orm::{ActiveValue::Set, QuerySelect as _, entity::prelude::*, sea_query::OnConflict};

use super::{Error, pack, signed, unsigned};
use crate::{index::PackRow, marks::Marks};

/// A pack of which something is shredded.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "shredded_packs")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pack_id: Vec<u8>,
    /// Number of segments.
    pub segments: i64,
    /// One bit for each segment.
    pub marks: Vec<u8>,
    /// Whether nothing of it is left: its object waits for deletion.
    #[sea_orm(indexed)]
    pub complete: bool,
    /// Number of the last receipt about it.
    pub receipt: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Marks of the packs that have any.
pub(super) async fn of(
    database: &impl ConnectionTrait,
    packs: &[PackId],
) -> Result<BTreeMap<PackId, Marks>, Error> {
    let ids = packs.iter().map(|pack| pack.as_bytes().to_vec());
    let rows = Entity::find().filter(Column::PackId.is_in(ids)).all(database).await?;
    rows.into_iter().map(Model::read).collect()
}

pub(super) async fn put(
    database: &impl ConnectionTrait,
    row: &PackRow,
    marks: &Marks,
    receipt: u64,
) -> Result<(), Error> {
    let row = ActiveModel {
        pack_id: Set(row.pack.as_bytes().to_vec()),
        segments: Set(row.segments.into()),
        marks: Set(marks.as_bytes().to_vec()),
        complete: Set(marks.is_all()),
        receipt: Set(signed(receipt)),
    };
    let replace = OnConflict::column(Column::PackId)
        .update_columns([Column::Segments, Column::Marks, Column::Complete, Column::Receipt])
        .to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

/// Packs of which nothing is left, each with the number of its last receipt.
pub(super) async fn complete(
    database: &impl ConnectionTrait,
    limit: u64,
) -> Result<Vec<(PackId, u64)>, Error> {
    let rows = Entity::find().filter(Column::Complete.eq(true)).limit(limit).all(database).await?;
    let read = |row: Model| Ok((pack::pack_id(row.pack_id)?, unsigned(row.receipt, "a negative receipt")?));
    rows.into_iter().map(read).collect()
}

pub(super) async fn count_complete(database: &impl ConnectionTrait) -> Result<u64, Error> {
    Ok(Entity::find().filter(Column::Complete.eq(true)).count(database).await?)
}

pub(super) async fn remove(database: &impl ConnectionTrait, pack: PackId) -> Result<(), Error> {
    Entity::delete_by_id(pack.as_bytes().to_vec()).exec(database).await?;
    Ok(())
}

impl Model {
    fn read(self) -> Result<(PackId, Marks), Error> {
        let segments = u32::try_from(self.segments).ok();
        let marks = segments.and_then(|segments| Marks::from_bytes(segments, self.marks));
        let marks = marks.ok_or(Error::Corrupt("marks of another number of segments"))?;
        Ok((pack::pack_id(self.pack_id)?, marks))
    }
}
