//! Daily epochs, as they were before epochs became hourly. Empty once `crate::daily` has run.

use obscura_ids::ZoneId;
use sea_orm::{PaginatorTrait as _, QueryOrder as _, entity::prelude::*};

use super::{damaged, secret, unsigned};
use crate::{
    error::Error,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One epoch key.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "epoch_key")]
pub struct Model {
    /// Zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub zone: String,
    /// Day at whose start it expires, days since the Unix epoch.
    #[sea_orm(primary_key, auto_increment = false)]
    pub expiry_day: i64,
    /// The key under the key-encryption key.
    pub wrapped_key: Vec<u8>,
    /// Version that it is under.
    #[sea_orm(indexed)]
    pub key_version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Days and keys of the zone, oldest first.
pub async fn all(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Vec<(u32, WrappedSecret)>, Error> {
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str())).order_by_asc(Column::ExpiryDay);
    rows.all(database).await?.into_iter().map(row).collect()
}

/// Forgets a day.
pub async fn delete(database: &impl ConnectionTrait, zone: &ZoneId, day: u32) -> Result<(), Error> {
    Entity::delete_by_id((zone.to_string(), i64::from(day))).exec(database).await?;
    Ok(())
}

/// Number of days.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(database).await
}

/// Number of days that are not under `version`, and of all.
pub async fn count_not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
) -> Result<(u64, u64), DbErr> {
    let stale = Entity::find().filter(Column::KeyVersion.ne(i64::from(version.0)));
    Ok((stale.count(database).await?, count(database).await?))
}

fn row(model: Model) -> Result<(u32, WrappedSecret), Error> {
    let name = || damaged(format!("epoch key {}/{}", model.zone, model.expiry_day));
    let key = secret(model.key_version, model.wrapped_key).ok_or_else(name)?;
    Ok((unsigned(model.expiry_day, "expiry day")?, key))
}
