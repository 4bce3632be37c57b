//! What is known about each version of the key-encryption key; the key itself is never here.

use sea_orm::entity::prelude::*;

/// One version.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key_version")]
pub struct Model {
    /// The version, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// When this service first saw it, nanoseconds since the Unix epoch.
    pub created_unix_ns: i64,
    /// When it was destroyed; null while rows may be under it.
    pub retired_unix_ns: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
