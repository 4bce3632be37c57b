//! Names of secrets outside the database that are to be erased: written down first, so that a crash
//! cannot forget one.

use sea_orm::{QueryOrder as _, entity::prelude::*};

use super::CHUNK;
use crate::error::Error;

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "doomed_secret")]
pub struct Model {
    /// Its name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Writes down that a secret is to be erased.
pub async fn put(database: &impl ConnectionTrait, name: &str) -> Result<(), Error> {
    let insert = Entity::insert(ActiveModel::from(Model { name: name.to_owned() })).on_conflict_do_nothing();
    insert.exec_without_returning(database).await?;
    Ok(())
}

/// All of them.
pub async fn all(database: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let rows = Entity::find().order_by_asc(Column::Name).all(database).await?;
    Ok(rows.into_iter().map(|row| row.name).collect())
}

/// Forgets those that are erased.
pub async fn delete(database: &impl ConnectionTrait, names: &[String]) -> Result<(), Error> {
    for names in names.chunks(CHUNK) {
        Entity::delete_many().filter(Column::Name.is_in(names)).exec(database).await?;
    }
    Ok(())
}
