//! Receipts of destruction, numbered from 1 without gaps; and those that wait for their destruction to
//! be complete.

use obscura_proto::keys::v1::SignedShredReceipt;
use sea_orm::{PaginatorTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::damaged;
use crate::error::Error;

/// One receipt.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "shred_receipt")]
pub struct Model {
    /// Its number.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// One serialised `ShredReceipt`, as signed.
    pub receipt: Vec<u8>,
    /// Its signature.
    pub signature: Vec<u8>,
    /// Who asked for an early destruction; empty for others.
    pub requested_by: String,
    /// Who approved it; empty for others.
    pub approved_by: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Number of the newest receipt; 0 where there is none.
pub async fn newest(database: &impl ConnectionTrait) -> Result<u64, Error> {
    let query = Entity::find().order_by_desc(Column::Number).select_only().column(Column::Number);
    let newest: Option<i64> = query.into_tuple().one(database).await?;
    number(newest.unwrap_or_default())
}

/// Number of receipts.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(database).await
}

/// One receipt.
pub async fn get(database: &impl ConnectionTrait, number: u64) -> Result<Option<SignedShredReceipt>, Error> {
    let Ok(number) = i64::try_from(number) else { return Ok(None) };
    Ok(Entity::find_by_id(number).one(database).await?.map(signed))
}

/// Receipts with a greater number, in order.
pub async fn after(
    database: &impl ConnectionTrait,
    number: u64,
    limit: u64,
) -> Result<Vec<SignedShredReceipt>, Error> {
    let Ok(number) = i64::try_from(number) else { return Ok(Vec::new()) };
    let rows = Entity::find().filter(Column::Number.gt(number)).order_by_asc(Column::Number);
    Ok(rows.limit(limit).all(database).await?.into_iter().map(signed).collect())
}

/// Adds a receipt. Fails where its number is taken.
pub async fn insert(
    database: &impl ConnectionTrait,
    number: u64,
    signed: &SignedShredReceipt,
    requested_by: &str,
    approved_by: &str,
) -> Result<(), Error> {
    let model = Model {
        number: i64::try_from(number).map_err(|_| damaged(format!("receipt {number}")))?,
        receipt: signed.receipt.to_vec(),
        signature: signed.signature.to_vec(),
        requested_by: requested_by.to_owned(),
        approved_by: approved_by.to_owned(),
    };
    Entity::insert(ActiveModel::from(model)).exec_without_returning(database).await?;
    Ok(())
}

fn signed(model: Model) -> SignedShredReceipt {
    SignedShredReceipt { receipt: model.receipt.into(), signature: model.signature.into() }
}

fn number(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| damaged(format!("receipt {number}")))
}
