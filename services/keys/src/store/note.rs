//! Numbers that custody remembers.

use sea_orm::{entity::prelude::*, sea_query::OnConflict};

use crate::error::Error;

/// One number.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "note")]
pub struct Model {
    /// What it is about.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The number.
    pub number: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// What there is to remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Hour up to whose start everything that had expired was destroyed.
    DestroyedUpTo,
    /// Layer keys per epoch, moving average in thousandths.
    Norm,
    /// Hours that went into the average.
    NormHours,
}

impl Note {
    const fn name(self) -> &'static str {
        match self {
            Self::DestroyedUpTo => "destroyed up to hour",
            Self::Norm => "layer keys per epoch in thousandths",
            Self::NormHours => "hours in the average",
        }
    }
}

/// A number, where it was ever written down.
pub async fn get(database: &impl ConnectionTrait, note: Note) -> Result<Option<i64>, DbErr> {
    Ok(Entity::find_by_id(note.name()).one(database).await?.map(|row| row.number))
}

/// Writes a number down.
pub async fn put(database: &impl ConnectionTrait, note: Note, number: i64) -> Result<(), Error> {
    let row = ActiveModel::from(Model { name: note.name().to_owned(), number });
    let mut replace = OnConflict::column(Column::Name);
    replace.update_column(Column::Number);
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}
