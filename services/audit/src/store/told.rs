//! The table of what the log was last told of its own settings: one row, without personal data.

use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// Key of the one row.
const ONLY: i16 = 1;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "told")]
pub struct Model {
    /// Always 1, as in the table of the head.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// The settings in JSON.
    #[sea_orm(column_type = "Text")]
    pub settings: String,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

pub async fn put(database: &impl ConnectionTrait, settings: &str) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::Id);
    replace.update_column(Column::Settings);
    let row = ActiveModel { id: Set(ONLY), settings: Set(settings.to_owned()) };
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Option<String>, Error> {
    Ok(Entity::find_by_id(ONLY).one(database).await?.map(|row| row.settings))
}
