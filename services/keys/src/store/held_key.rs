//! One row per hold and layer key of which it holds slots: their cover, sealed under the hold's key.

use std::ops::RangeInclusive;

use obscura_ids::{CameraId, LayerKeyId, ZoneId};
use obscura_seal::LayerKeyContext;
use sea_orm::{QueryOrder as _, QuerySelect as _, entity::prelude::*, sea_query::OnConflict};

use super::{CHUNK, damaged, kept_key, unsigned};
use crate::{error::Error, expiry_hour::ExpiryHour, hold::HoldId};

/// One held part of a layer key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "held_key")]
pub struct Model {
    /// UUID of the hold.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hold_id: String,
    /// UUID of the key.
    #[sea_orm(primary_key, auto_increment = false, indexed)]
    pub key_id: String,
    /// UUID of the camera.
    #[sea_orm(indexed)]
    pub camera_id: String,
    /// Code of the layer.
    pub layer: i16,
    /// Hours since the Unix epoch.
    pub hour: i64,
    /// Zone.
    pub zone: String,
    /// Run of the recorder that made the key.
    pub writer_epoch: i64,
    /// Hour at whose end its retention ended or ends when it was held.
    pub expiry_hour: i64,
    /// Nonce, ciphertext and tag of the nodes that are held.
    pub sealed_key: Vec<u8>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A held part of a layer key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRow {
    pub hold: HoldId,
    pub context: LayerKeyContext,
    pub expiry: ExpiryHour,
    pub sealed: Vec<u8>,
}

/// Adds rows. They take the place of those that cannot be read, of which nobody knows that they are there.
pub async fn insert(database: &impl ConnectionTrait, rows: &[HeldRow]) -> Result<(), Error> {
    for rows in rows.chunks(CHUNK) {
        let models = rows.iter().map(model).collect::<Result<Vec<_>, _>>()?;
        let mut replace = OnConflict::columns([Column::HoldId, Column::KeyId]);
        replace.update_columns([
            Column::CameraId,
            Column::Layer,
            Column::Hour,
            Column::Zone,
            Column::WriterEpoch,
            Column::ExpiryHour,
            Column::SealedKey,
        ]);
        let insert = Entity::insert_many(models.into_iter().map(ActiveModel::from)).on_conflict(replace);
        insert.exec_without_returning(database).await?;
    }
    Ok(())
}

/// What is held of these layer keys, by key; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_keys(
    database: &impl ConnectionTrait,
    ids: &[LayerKeyId],
) -> Result<Vec<Result<HeldRow, Error>>, DbErr> {
    let mut found = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let ids = ids.iter().map(ToString::to_string);
        let rows = Entity::find().filter(Column::KeyId.is_in(ids)).order_by_asc(Column::KeyId);
        found.extend(rows.all(database).await?.into_iter().map(row));
    }
    Ok(found)
}

/// What one hold holds; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_hold(
    database: &impl ConnectionTrait,
    hold: HoldId,
) -> Result<Vec<Result<HeldRow, Error>>, DbErr> {
    let rows = Entity::find().filter(Column::HoldId.eq(hold.to_string())).order_by_asc(Column::KeyId);
    Ok(rows.all(database).await?.into_iter().map(row).collect())
}

/// What is held of a camera's layer keys for these hours; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_camera(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    camera: CameraId,
    hours: RangeInclusive<u32>,
) -> Result<Vec<Result<HeldRow, Error>>, DbErr> {
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::Hour.between(i64::from(*hours.start()), i64::from(*hours.end())));
    Ok(rows.order_by_asc(Column::KeyId).all(database).await?.into_iter().map(row).collect())
}

/// Removes what a hold holds.
pub async fn delete_of_hold(database: &impl ConnectionTrait, hold: HoldId) -> Result<(), Error> {
    Entity::delete_many().filter(Column::HoldId.eq(hold.to_string())).exec(database).await?;
    Ok(())
}

/// Ids of layer keys behind `after`, in order, each once.
pub async fn ids_after(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    after: &str,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::KeyId.gt(after))
        .order_by_asc(Column::KeyId)
        .select_only()
        .column(Column::KeyId)
        .distinct()
        .limit(limit)
        .into_tuple()
        .all(database)
        .await
}

fn model(row: &HeldRow) -> Result<Model, Error> {
    let context = &row.context;
    Ok(Model {
        hold_id: row.hold.to_string(),
        key_id: context.key_id.to_string(),
        camera_id: context.camera.to_string(),
        layer: context.layer.code().into(),
        hour: context.hour.get().into(),
        zone: context.zone.to_string(),
        writer_epoch: kept_key::writer_epoch(context.writer_epoch)?,
        expiry_hour: row.expiry.number().into(),
        sealed_key: row.sealed.clone(),
    })
}

fn row(model: Model) -> Result<HeldRow, Error> {
    let name = || damaged(format!("held key {}/{}", model.hold_id, model.key_id));
    let columns =
        (&*model.key_id, &*model.camera_id, model.layer, model.hour, &*model.zone, model.writer_epoch);
    let context = kept_key::context(columns).ok_or_else(name)?;
    let hold = model.hold_id.parse().map_err(|_| name())?;
    let expiry = ExpiryHour::from_number(unsigned(model.expiry_hour, "expiry hour")?);
    Ok(HeldRow { hold, context, expiry, sealed: model.sealed_key })
}
