//! One row per layer key of which slots are within their retention, sealed under its epoch's key.

use std::{collections::BTreeSet, ops::RangeInclusive};

use obscura_clock::Timestamp;
use obscura_ids::{CameraId, Layer, LayerKeyId, WriterEpoch, ZoneId};
use obscura_seal::{Hour, LayerKeyContext, Slot};
use sea_orm::{
    PaginatorTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*, sea_query::OnConflict,
};

use super::{CHUNK, damaged, unsigned};
use crate::{error::Error, expiry_hour::ExpiryHour, row_key::Place};

/// One layer key. Every column but the last three is part of what the seal binds.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "kept_key")]
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
    /// Hour at whose end it expires, hours since the Unix epoch.
    pub expiry_hour: i64,
    /// Leaf of its epoch's tree; null for a row from before there were leaves.
    pub leaf: Option<i16>,
    /// Nonce, ciphertext and tag of the nodes that are left.
    pub sealed_key: Vec<u8>,
    /// When it was imported, nanoseconds since the Unix epoch.
    pub imported_unix_ns: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A layer key as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    pub context: LayerKeyContext,
    pub expiry: ExpiryHour,
    /// Leaf of its epoch's tree; `None` for the root.
    pub leaf: Option<Slot>,
    pub sealed: Vec<u8>,
    pub imported: Timestamp,
}

impl KeptRow {
    /// Which row of which epoch it is.
    pub const fn place(&self) -> Place<'_> {
        Place { hold: None, expiry: self.expiry, context: &self.context }
    }
}

/// One layer key.
pub async fn get(database: &impl ConnectionTrait, id: LayerKeyId) -> Result<Option<KeptRow>, Error> {
    Entity::find_by_id(id.to_string()).one(database).await?.map(row).transpose()
}

/// Those of these layer keys that are there; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_ids(
    database: &impl ConnectionTrait,
    ids: &[LayerKeyId],
) -> Result<Vec<Result<KeptRow, Error>>, DbErr> {
    let ids = ids.iter().map(ToString::to_string);
    let rows = Entity::find().filter(Column::KeyId.is_in(ids)).all(database).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Every layer key that expires with this epoch, by id; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_epoch(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<Vec<Result<KeptRow, Error>>, DbErr> {
    let rows = in_epoch(zone, hour).order_by_asc(Column::KeyId).all(database).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Layer keys that expire with this epoch and are under one of these leaves, by id; [`Error::Damaged`] for a row that
/// cannot be read.
pub async fn of_leaves(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
    leaves: &BTreeSet<Slot>,
) -> Result<Vec<Result<KeptRow, Error>>, DbErr> {
    let rows = in_epoch(zone, hour)
        .filter(Column::Leaf.is_in(leaves.iter().map(|leaf| column(*leaf))))
        .order_by_asc(Column::KeyId)
        .all(database)
        .await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Whether any layer key expires with this epoch.
pub async fn has_any(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<bool, DbErr> {
    Ok(in_epoch(zone, hour).one(database).await?.is_some())
}

/// Whether a layer key of this epoch is from before there were leaves.
pub async fn has_leafless(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<bool, DbErr> {
    Ok(in_epoch(zone, hour).filter(Column::Leaf.is_null()).one(database).await?.is_some())
}

fn in_epoch(zone: &ZoneId, hour: ExpiryHour) -> Select<Entity> {
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str()));
    rows.filter(Column::ExpiryHour.eq(i64::from(hour.number())))
}

/// Layer keys of a camera for these hours, by id; [`Error::Damaged`] for a row that cannot be read.
pub async fn of_camera(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    camera: CameraId,
    hours: RangeInclusive<u32>,
) -> Result<Vec<Result<KeptRow, Error>>, DbErr> {
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::Hour.between(i64::from(*hours.start()), i64::from(*hours.end())))
        .order_by_asc(Column::KeyId)
        .all(database)
        .await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Adds rows, or replaces what is sealed in them, under which leaf and when they expire.
pub async fn put(database: &impl ConnectionTrait, rows: &[KeptRow]) -> Result<(), Error> {
    for rows in rows.chunks(CHUNK) {
        let models = rows.iter().map(model).collect::<Result<Vec<_>, _>>()?;
        let mut replace = OnConflict::column(Column::KeyId);
        replace.update_columns([Column::SealedKey, Column::ExpiryHour, Column::Leaf]);
        let insert = Entity::insert_many(models.into_iter().map(ActiveModel::from)).on_conflict(replace);
        insert.exec_without_returning(database).await?;
    }
    Ok(())
}

/// Removes every row that expires with this epoch, also those that cannot be read.
pub async fn delete_of_epoch(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<(), DbErr> {
    let rows = Entity::delete_many().filter(Column::Zone.eq(zone.as_str()));
    rows.filter(Column::ExpiryHour.eq(i64::from(hour.number()))).exec(database).await?;
    Ok(())
}

/// Removes rows.
pub async fn delete(database: &impl ConnectionTrait, ids: &[LayerKeyId]) -> Result<(), Error> {
    for ids in ids.chunks(CHUNK) {
        let ids = ids.iter().map(ToString::to_string);
        Entity::delete_many().filter(Column::KeyId.is_in(ids)).exec(database).await?;
    }
    Ok(())
}

/// Ids behind `after`, in order.
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
        .limit(limit)
        .select_only()
        .column(Column::KeyId)
        .into_tuple()
        .all(database)
        .await
}

/// Number of layer keys that expire with these epochs.
pub async fn count_of(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hours: RangeInclusive<ExpiryHour>,
) -> Result<u64, DbErr> {
    let (first, last) = (i64::from(hours.start().number()), i64::from(hours.end().number()));
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str()));
    rows.filter(Column::ExpiryHour.between(first, last)).count(database).await
}

/// Number of layer keys.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(database).await
}

fn model(row: &KeptRow) -> Result<Model, Error> {
    let context = &row.context;
    Ok(Model {
        key_id: context.key_id.to_string(),
        camera_id: context.camera.to_string(),
        layer: context.layer.code().into(),
        hour: context.hour.get().into(),
        zone: context.zone.to_string(),
        writer_epoch: writer_epoch(context.writer_epoch)?,
        expiry_hour: row.expiry.number().into(),
        leaf: row.leaf.map(column),
        sealed_key: row.sealed.clone(),
        imported_unix_ns: row.imported.unix_nanos(),
    })
}

/// Leaves are below 1,800.
fn column(leaf: Slot) -> i16 {
    i16::try_from(leaf.get()).unwrap_or(i16::MAX)
}

/// Writer epochs of databases have 63 bits.
pub(super) fn writer_epoch(epoch: WriterEpoch) -> Result<i64, Error> {
    i64::try_from(epoch.0).map_err(|_| Error::malformed("writer epoch", "it is larger than 2^63 - 1"))
}

fn row(model: Model) -> Result<KeptRow, Error> {
    let expiry = ExpiryHour::from_number(unsigned(model.expiry_hour, "expiry hour")?);
    let imported = Timestamp::from_unix_nanos(model.imported_unix_ns);
    let name = || damaged(format!("layer key {}", model.key_id));
    let columns =
        (&*model.key_id, &*model.camera_id, model.layer, model.hour, &*model.zone, model.writer_epoch);
    let context = context(columns).ok_or_else(name)?;
    let leaf = model.leaf.map(|leaf| u16::try_from(leaf).ok().and_then(|leaf| Slot::new(leaf).ok()));
    let leaf = leaf.map(|leaf| leaf.ok_or_else(name)).transpose()?;
    Ok(KeptRow { context, expiry, leaf, sealed: model.sealed_key, imported })
}

/// Reads the columns that name a layer key; `None` where one holds what was never stored.
pub(super) fn context(
    (key_id, camera, layer, hour, zone, writer_epoch): (&str, &str, i16, i64, &str, i64),
) -> Option<LayerKeyContext> {
    Some(LayerKeyContext {
        key_id: key_id.parse().ok()?,
        camera: camera.parse().ok()?,
        layer: Layer::from_code(u8::try_from(layer).ok()?)?,
        hour: Hour::new(u32::try_from(hour).ok()?).ok()?,
        zone: zone.parse().ok()?,
        writer_epoch: WriterEpoch(u64::try_from(writer_epoch).ok()?),
    })
}
