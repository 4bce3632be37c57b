//! One key per zone and expiry day.

use sea_orm::entity::prelude::*;

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
