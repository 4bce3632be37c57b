//! Objects and layer keys that are nobody's: set aside by being remembered. They stay where they are.

use obscura_blob::BlobKey;
use obscura_clock::Timestamp;
use obscura_ids::LayerKeyId;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// An object or a layer key that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantined_objects")]
pub struct Model {
    /// Key of the object, or `layer-key:` and the id of a layer key, which no object can be named.
    #[sea_orm(primary_key, auto_increment = false)]
    pub object_key: String,
    /// What is wrong with it, in words.
    pub why: String,
    /// When it was found first.
    pub found_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub(super) async fn add(
    database: &impl ConnectionTrait,
    key: &BlobKey,
    why: &str,
    found_ns: i64,
) -> Result<(), Error> {
    add_named(database, key.to_string(), why, found_ns).await
}

pub(super) async fn add_key(
    database: &impl ConnectionTrait,
    key: LayerKeyId,
    why: &str,
    found_ns: i64,
) -> Result<(), Error> {
    add_named(database, name(key), why, found_ns).await
}

async fn add_named(
    database: &impl ConnectionTrait,
    name: String,
    why: &str,
    found_ns: i64,
) -> Result<(), Error> {
    let row = ActiveModel { object_key: Set(name), why: Set(why.to_owned()), found_ns: Set(found_ns) };
    let update = OnConflict::column(Column::ObjectKey).update_column(Column::Why).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn find(database: &impl ConnectionTrait, key: &BlobKey) -> Result<Option<String>, Error> {
    Ok(Entity::find_by_id(key.as_str()).one(database).await?.map(|row| row.why))
}

pub(super) async fn key_found(
    database: &impl ConnectionTrait,
    key: LayerKeyId,
) -> Result<Option<Timestamp>, Error> {
    let row = Entity::find_by_id(name(key)).one(database).await?;
    Ok(row.map(|row| Timestamp::from_unix_nanos(row.found_ns)))
}

fn name(key: LayerKeyId) -> String {
    format!("layer-key:{key}")
}
