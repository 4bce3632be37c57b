//! One row per layer key that was destroyed whole, so that it never comes back by a late import.

use std::ops::RangeInclusive;

use obscura_ids::{CameraId, Layer, LayerKeyId, ZoneId};
use obscura_seal::Hour;
use sea_orm::{QueryOrder as _, entity::prelude::*};

use super::{CHUNK, damaged, unsigned};
use crate::{error::Error, expiry_hour::ExpiryHour};

/// One layer key that is gone.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "destroyed_key")]
pub struct Model {
    /// UUID of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    /// Zone.
    pub zone: String,
    /// UUID of the camera.
    #[sea_orm(indexed)]
    pub camera_id: String,
    /// Code of the layer.
    pub layer: i16,
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// Hour at whose end its retention ended or would have ended.
    pub expiry_hour: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A layer key of which nothing is left but what holds keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestroyedRow {
    pub key: LayerKeyId,
    pub camera: CameraId,
    pub layer: Layer,
    pub hour: Hour,
    pub expiry: ExpiryHour,
}

/// One layer key that is gone.
pub async fn get(database: &impl ConnectionTrait, id: LayerKeyId) -> Result<Option<DestroyedRow>, Error> {
    Entity::find_by_id(id.to_string()).one(database).await?.as_ref().map(row).transpose()
}

/// Those of these layer keys that are gone.
pub async fn of_ids(database: &impl ConnectionTrait, ids: &[LayerKeyId]) -> Result<Vec<DestroyedRow>, Error> {
    let ids = ids.iter().map(ToString::to_string);
    Entity::find().filter(Column::KeyId.is_in(ids)).all(database).await?.iter().map(row).collect()
}

/// Those of a camera for these hours.
pub async fn of_camera(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    camera: CameraId,
    hours: RangeInclusive<u32>,
) -> Result<Vec<DestroyedRow>, Error> {
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::Hour.between(i64::from(*hours.start()), i64::from(*hours.end())));
    rows.order_by_asc(Column::KeyId).all(database).await?.iter().map(row).collect()
}

/// Writes down that keys are gone; those that are written down already stay as they are.
pub async fn put(database: &impl ConnectionTrait, zone: &ZoneId, rows: &[DestroyedRow]) -> Result<(), Error> {
    for rows in rows.chunks(CHUNK) {
        let models = rows.iter().map(|row| ActiveModel::from(model(zone, row)));
        let insert = Entity::insert_many(models).on_conflict_do_nothing();
        insert.exec_without_returning(database).await?;
    }
    Ok(())
}

fn model(zone: &ZoneId, row: &DestroyedRow) -> Model {
    Model {
        key_id: row.key.to_string(),
        zone: zone.to_string(),
        camera_id: row.camera.to_string(),
        layer: row.layer.code().into(),
        hour: row.hour.get().into(),
        expiry_hour: row.expiry.number().into(),
    }
}

fn row(model: &Model) -> Result<DestroyedRow, Error> {
    let name = || damaged(format!("destroyed key {}", model.key_id));
    let layer = u8::try_from(model.layer).ok().and_then(Layer::from_code);
    let hour = u32::try_from(model.hour).ok().and_then(|hour| Hour::new(hour).ok());
    Ok(DestroyedRow {
        key: model.key_id.parse().map_err(|_| name())?,
        camera: model.camera_id.parse().map_err(|_| name())?,
        layer: layer.ok_or_else(name)?,
        hour: hour.ok_or_else(name)?,
        expiry: ExpiryHour::from_number(unsigned(model.expiry_hour, "expiry hour")?),
    })
}
