//! Layer keys under daily epochs, as they were before. Empty once `crate::daily` has run.

use obscura_clock::Timestamp;
use obscura_ids::ZoneId;
use obscura_seal::LayerKeyContext;
use sea_orm::{PaginatorTrait as _, QueryOrder as _, entity::prelude::*};

use super::{damaged, kept_key};
use crate::error::Error;

/// One layer key. Every column but the last two is part of what the seal binds.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "layer_key")]
pub struct Model {
    /// UUID of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    /// UUID of the camera.
    pub camera_id: String,
    /// Code of the layer.
    pub layer: i16,
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// Zone.
    pub zone: String,
    /// Run of the recorder that made the key.
    pub writer_epoch: i64,
    /// Day at whose start it expires, days since the Unix epoch.
    #[sea_orm(indexed)]
    pub expiry_day: i64,
    /// Nonce, ciphertext and tag.
    pub sealed_key: Vec<u8>,
    /// When it was imported, nanoseconds since the Unix epoch.
    pub imported_unix_ns: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A layer key under a daily epoch.
pub struct DailyRow {
    pub context: LayerKeyContext,
    pub sealed: Vec<u8>,
    pub imported: Timestamp,
}

/// Layer keys of one day, by id.
pub async fn of_day(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    day: u32,
) -> Result<Vec<DailyRow>, Error> {
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::ExpiryDay.eq(i64::from(day)))
        .order_by_asc(Column::KeyId);
    rows.all(database).await?.into_iter().map(row).collect()
}

/// Forgets the layer keys of one day.
pub async fn delete_of_day(database: &impl ConnectionTrait, zone: &ZoneId, day: u32) -> Result<(), Error> {
    let rows = Entity::delete_many().filter(Column::Zone.eq(zone.as_str()));
    rows.filter(Column::ExpiryDay.eq(i64::from(day))).exec(database).await?;
    Ok(())
}

/// Number of layer keys.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(database).await
}

fn row(model: Model) -> Result<DailyRow, Error> {
    let name = || damaged(format!("layer key {}", model.key_id));
    let columns =
        (&*model.key_id, &*model.camera_id, model.layer, model.hour, &*model.zone, model.writer_epoch);
    let context = kept_key::context(columns).ok_or_else(name)?;
    let imported = Timestamp::from_unix_nanos(model.imported_unix_ns);
    Ok(DailyRow { context, sealed: model.sealed_key, imported })
}
