//! Objects that are nobody's: set aside by being remembered. They stay where they are.

use obscura_blob::BlobKey;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// An object that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "quarantined_objects")]
pub struct Model {
    /// Key of the object.
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
    let row =
        ActiveModel { object_key: Set(key.to_string()), why: Set(why.to_owned()), found_ns: Set(found_ns) };
    let update = OnConflict::column(Column::ObjectKey).update_column(Column::Why).to_owned();
    Entity::insert(row).on_conflict(update).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn find(database: &impl ConnectionTrait, key: &BlobKey) -> Result<Option<String>, Error> {
    Ok(Entity::find_by_id(key.as_str()).one(database).await?.map(|row| row.why))
}
