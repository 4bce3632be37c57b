//! One epoch per zone and expiry hour.

use obscura_ids::ZoneId;
use sea_orm::{
    PaginatorTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*, sea_query::OnConflict,
};

use super::{damaged, secret, unsigned};
use crate::{
    error::Error,
    expiry_hour::ExpiryHour,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "epoch")]
pub struct Model {
    /// Zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub zone: String,
    /// Hour at whose end it expires, hours since the Unix epoch.
    #[sea_orm(primary_key, auto_increment = false)]
    pub expiry_hour: i64,
    /// Name of the secret outside the database.
    pub secret: String,
    /// The half inside the database, under the key-encryption key.
    pub wrapped_half: Vec<u8>,
    /// Version that it is under.
    #[sea_orm(indexed)]
    pub key_version: i64,
    /// True where rows were taken out of it, so that it must be re-keyed before a receipt says so.
    #[sea_orm(indexed)]
    pub stale: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// An epoch as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochRow {
    pub hour: ExpiryHour,
    pub secret: String,
    pub half: WrappedSecret,
    pub stale: bool,
}

/// One epoch.
pub async fn get(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<Option<EpochRow>, Error> {
    let id = (zone.to_string(), i64::from(hour.number()));
    Entity::find_by_id(id).one(database).await?.map(row).transpose()
}

/// Adds an epoch, or replaces what is stored of it.
pub async fn put(database: &impl ConnectionTrait, zone: &ZoneId, epoch: &EpochRow) -> Result<(), Error> {
    let model = Model {
        zone: zone.to_string(),
        expiry_hour: epoch.hour.number().into(),
        secret: epoch.secret.clone(),
        wrapped_half: epoch.half.bytes.clone(),
        key_version: epoch.half.version.0.into(),
        stale: epoch.stale,
    };
    let mut replace = OnConflict::columns([Column::Zone, Column::ExpiryHour]);
    replace.update_columns([Column::Secret, Column::WrappedHalf, Column::KeyVersion, Column::Stale]);
    Entity::insert(ActiveModel::from(model)).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

/// Forgets an epoch.
pub async fn delete(database: &impl ConnectionTrait, zone: &ZoneId, hour: ExpiryHour) -> Result<(), Error> {
    Entity::delete_by_id((zone.to_string(), i64::from(hour.number()))).exec(database).await?;
    Ok(())
}

/// Marks an epoch for re-keying, or as done.
pub async fn set_stale(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
    stale: bool,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Stale, stale.into())
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::ExpiryHour.eq(i64::from(hour.number())))
        .exec(database)
        .await?;
    Ok(())
}

/// Epochs that wait for being re-keyed, oldest first.
pub async fn stale(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Vec<ExpiryHour>, Error> {
    hours(Entity::find().filter(Column::Stale.eq(true)), database, zone).await
}

/// All epochs, oldest first.
pub async fn all(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Vec<ExpiryHour>, Error> {
    hours(Entity::find(), database, zone).await
}

/// Epochs that expire before `hour` ends, without that hour, oldest first.
pub async fn before(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    hour: ExpiryHour,
) -> Result<Vec<ExpiryHour>, Error> {
    hours(Entity::find().filter(Column::ExpiryHour.lt(i64::from(hour.number()))), database, zone).await
}

async fn hours(
    query: Select<Entity>,
    database: &impl ConnectionTrait,
    zone: &ZoneId,
) -> Result<Vec<ExpiryHour>, Error> {
    let query = query.filter(Column::Zone.eq(zone.as_str())).order_by_asc(Column::ExpiryHour);
    let numbers: Vec<i64> = query.select_only().column(Column::ExpiryHour).into_tuple().all(database).await?;
    numbers.into_iter().map(hour).collect()
}

/// Epochs of the zone that expire after `after` and are not under `version`, oldest first.
pub async fn not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
    zone: &ZoneId,
    after: Option<ExpiryHour>,
    limit: u32,
) -> Result<Vec<EpochRow>, Error> {
    let after = after.map_or(-1, |hour| i64::from(hour.number()));
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::KeyVersion.ne(i64::from(version.0)))
        .filter(Column::ExpiryHour.gt(after))
        .order_by_asc(Column::ExpiryHour)
        .limit(u64::from(limit))
        .all(database)
        .await?;
    rows.into_iter().map(row).collect()
}

/// Number of epochs that are not under `version`, and of all.
pub async fn count_not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
) -> Result<(u64, u64), DbErr> {
    let stale = Entity::find().filter(Column::KeyVersion.ne(i64::from(version.0)));
    Ok((stale.count(database).await?, count(database).await?))
}

/// Names of the secrets of all epochs.
pub async fn secrets(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Vec<String>, DbErr> {
    let query = Entity::find().filter(Column::Zone.eq(zone.as_str()));
    query.select_only().column(Column::Secret).into_tuple().all(database).await
}

/// Number of epochs.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(database).await
}

fn row(model: Model) -> Result<EpochRow, Error> {
    let name = || damaged(format!("epoch {}/{}", model.zone, model.expiry_hour));
    let half = secret(model.key_version, model.wrapped_half).ok_or_else(name)?;
    Ok(EpochRow { hour: hour(model.expiry_hour)?, secret: model.secret, half, stale: model.stale })
}

fn hour(number: i64) -> Result<ExpiryHour, Error> {
    unsigned(number, "expiry hour").map(ExpiryHour::from_number)
}
