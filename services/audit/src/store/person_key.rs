//! The table of persons' keys, each wrapped by the secret of its generation.

use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::{Error, signed, unsigned};

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "person_keys")]
pub struct Model {
    /// What entries call the person in this period.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pseudonym: String,
    /// HMAC of the person's id under the generation's tag key.
    pub tag: Vec<u8>,
    /// Number of the month.
    pub period: i64,
    /// Generation of the wrapping secret.
    pub generation: i64,
    /// Key and id of the person, sealed.
    pub sealed: Vec<u8>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The key of one person for one month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonKeyRow {
    /// What entries call the person in this period.
    pub pseudonym: String,
    /// HMAC of the person's id under the generation's tag key.
    pub tag: Vec<u8>,
    /// Number of the month.
    pub period: u32,
    /// Generation of the wrapping secret.
    pub generation: u64,
    /// Key and id of the person, sealed.
    pub sealed: Vec<u8>,
}

pub async fn by_tag_and_period(
    database: &impl ConnectionTrait,
    tag: &[u8],
    period: u32,
) -> Result<Option<PersonKeyRow>, Error> {
    let query =
        Entity::find().filter(Column::Tag.eq(tag.to_vec())).filter(Column::Period.eq(i64::from(period)));
    query.one(database).await?.map(TryInto::try_into).transpose()
}

pub async fn by_tag(database: &impl ConnectionTrait, tag: &[u8]) -> Result<Vec<PersonKeyRow>, Error> {
    let query = Entity::find().filter(Column::Tag.eq(tag.to_vec())).order_by_asc(Column::Period);
    query.all(database).await?.into_iter().map(TryInto::try_into).collect()
}

pub async fn by_pseudonym(
    database: &impl ConnectionTrait,
    pseudonym: &str,
) -> Result<Option<PersonKeyRow>, Error> {
    Entity::find_by_id(pseudonym).one(database).await?.map(TryInto::try_into).transpose()
}

pub async fn page(
    database: &impl ConnectionTrait,
    after: &str,
    limit: u64,
) -> Result<Vec<PersonKeyRow>, Error> {
    let query =
        Entity::find().filter(Column::Pseudonym.gt(after)).order_by_asc(Column::Pseudonym).limit(limit);
    query.all(database).await?.into_iter().map(TryInto::try_into).collect()
}

pub async fn insert(database: &impl ConnectionTrait, row: &PersonKeyRow) -> Result<(), Error> {
    Entity::insert(ActiveModel::from(row)).exec_without_returning(database).await?;
    Ok(())
}

pub async fn replace(database: &impl ConnectionTrait, row: &PersonKeyRow) -> Result<(), Error> {
    Entity::update(ActiveModel::from(row)).exec(database).await?;
    Ok(())
}

pub async fn remove(database: &impl ConnectionTrait, pseudonym: &str) -> Result<(), Error> {
    Entity::delete_by_id(pseudonym).exec(database).await?;
    Ok(())
}

impl From<&PersonKeyRow> for ActiveModel {
    fn from(row: &PersonKeyRow) -> Self {
        Self {
            pseudonym: Set(row.pseudonym.clone()),
            tag: Set(row.tag.clone()),
            period: Set(row.period.into()),
            generation: Set(signed(row.generation)),
            sealed: Set(row.sealed.clone()),
        }
    }
}

impl TryFrom<Model> for PersonKeyRow {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        Ok(Self {
            pseudonym: model.pseudonym,
            tag: model.tag,
            period: u32::try_from(model.period).map_err(|_| Error::Corrupt("a period that is none"))?,
            generation: unsigned(model.generation, "a negative generation")?,
            sealed: model.sealed,
        })
    }
}
