//! One row per layer key, sealed under the epoch key of its zone and expiry day.

use sea_orm::entity::prelude::*;

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
