//! The key pair that signs receipts of destruction: one per zone.

use obscura_ids::ZoneId;
use sea_orm::{PaginatorTrait as _, entity::prelude::*, sea_query::OnConflict};

use super::{damaged, secret};
use crate::{
    error::Error,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One key pair.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "receipt_key")]
pub struct Model {
    /// Its zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub zone: String,
    /// Ed25519 public key, 32 bytes.
    pub public_key: Vec<u8>,
    /// The seed under the key-encryption key.
    pub wrapped_seed: Vec<u8>,
    /// Version that it is under.
    pub key_version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The key pair as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptKeyRow {
    pub public_key: Vec<u8>,
    pub seed: WrappedSecret,
}

/// The key pair of the zone.
pub async fn get(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Option<ReceiptKeyRow>, Error> {
    let Some(model) = Entity::find_by_id(zone.as_str()).one(database).await? else { return Ok(None) };
    let seed = secret(model.key_version, model.wrapped_seed);
    let seed = seed.ok_or_else(|| damaged(format!("the receipt key of zone {zone}")))?;
    Ok(Some(ReceiptKeyRow { public_key: model.public_key, seed }))
}

/// Adds the key pair, or puts it under another version.
pub async fn put(database: &impl ConnectionTrait, zone: &ZoneId, row: &ReceiptKeyRow) -> Result<(), Error> {
    let model = Model {
        zone: zone.to_string(),
        public_key: row.public_key.clone(),
        wrapped_seed: row.seed.bytes.clone(),
        key_version: row.seed.version.0.into(),
    };
    let mut replace = OnConflict::column(Column::Zone);
    replace.update_columns([Column::WrappedSeed, Column::KeyVersion]);
    let insert = Entity::insert(ActiveModel::from(model)).on_conflict(replace);
    insert.exec_without_returning(database).await?;
    Ok(())
}

/// Number of key pairs that are not under `version`, and of all.
pub async fn count_not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
) -> Result<(u64, u64), DbErr> {
    let stale = Entity::find().filter(Column::KeyVersion.ne(i64::from(version.0)));
    Ok((stale.count(database).await?, Entity::find().count(database).await?))
}
