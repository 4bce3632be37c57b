//! The key pair to which recorders wrap layer keys: one per zone.

use sea_orm::entity::prelude::*;

/// One key pair.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "intake_key")]
pub struct Model {
    /// Its zone.
    #[sea_orm(primary_key, auto_increment = false)]
    pub zone: String,
    /// X25519 public key, 32 bytes.
    pub public_key: Vec<u8>,
    /// The private key under the key-encryption key.
    pub wrapped_private_key: Vec<u8>,
    /// Version that it is under.
    pub key_version: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
