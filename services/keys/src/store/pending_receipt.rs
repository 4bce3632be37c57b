//! Destructions that are decided and perhaps not complete: their receipts, without number and time.

use sea_orm::{QueryOrder as _, QuerySelect as _, entity::prelude::*};

use crate::error::Error;

/// One destruction under way.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pending_receipt")]
pub struct Model {
    /// Order in which they were decided.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// One serialised `ShredReceipt`; of a replayed one exactly the bytes that were signed.
    pub receipt: Vec<u8>,
    /// The signature of a replayed receipt; empty for one of our own.
    pub signature: Vec<u8>,
    /// Who asked for an early destruction; empty for others.
    pub requested_by: String,
    /// Who approved it; empty for others.
    pub approved_by: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// All of them, in the order in which they were decided.
pub async fn all(database: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find().order_by_asc(Column::Id).all(database).await
}

/// Adds one behind the others; its own id does not count.
pub async fn push(database: &impl ConnectionTrait, pending: Model) -> Result<(), Error> {
    let last = Entity::find().order_by_desc(Column::Id).select_only().column(Column::Id);
    let last: Option<i64> = last.into_tuple().one(database).await?;
    let pending = Model { id: last.unwrap_or_default().saturating_add(1), ..pending };
    Entity::insert(ActiveModel::from(pending)).exec_without_returning(database).await?;
    Ok(())
}

/// Exchanges what one says.
pub async fn set_receipt(database: &impl ConnectionTrait, id: i64, receipt: Vec<u8>) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Receipt, receipt.into())
        .filter(Column::Id.eq(id))
        .exec(database)
        .await?;
    Ok(())
}

/// Forgets one whose receipt is made.
pub async fn delete(database: &impl ConnectionTrait, id: i64) -> Result<(), Error> {
    Entity::delete_by_id(id).exec(database).await?;
    Ok(())
}
