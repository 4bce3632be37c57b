//! Single values: how far something is, and what was found last.

use obscura_clock::Timestamp;
use sea_orm::{ActiveValue::Set, entity::prelude::*, sea_query::OnConflict};

use super::Error;

/// A value by its name.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "facts")]
pub struct Model {
    /// Name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Value; numbers as 8 bytes, highest first.
    pub value: Vec<u8>,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Which fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Public key of custody, as it was met first.
    ReceiptKey,
    /// Number of the last receipt that was remembered.
    ReceiptNumber,
    /// Number of the receipt whose keys are being marked.
    MarkedReceipt,
    /// How many of its keys are marked.
    MarkedKeys,
    /// Last notice of the manifest that is being told.
    OpenManifest,
    /// Last notice of the destructions that are being told.
    OpenDestruction,
    /// Key of the last object that reindexing looked at.
    ReindexCursor,
    /// When a daily reconciliation last began.
    ReconcileBegun,
    /// When reconciliation last finished.
    Reconciled,
    /// What it found.
    ReconcileFindings,
    /// When the journal of gaps was last begun to be tidied.
    GapsTidied,
    /// When packs of hours that are over were last begun to be moved.
    PacksSettled,
}

impl Fact {
    const fn name(self) -> &'static str {
        match self {
            Self::ReceiptKey => "receipt key",
            Self::ReceiptNumber => "receipt number",
            Self::MarkedReceipt => "marked receipt",
            Self::MarkedKeys => "marked keys",
            Self::OpenManifest => "open manifest",
            Self::OpenDestruction => "open destruction",
            Self::ReindexCursor => "reindex cursor",
            Self::ReconcileBegun => "reconcile begun",
            Self::Reconciled => "reconciled",
            Self::ReconcileFindings => "reconcile findings",
            Self::GapsTidied => "gaps tidied",
            Self::PacksSettled => "packs settled",
        }
    }
}

pub(super) async fn get(database: &impl ConnectionTrait, fact: Fact) -> Result<Option<Vec<u8>>, Error> {
    Ok(Entity::find_by_id(fact.name()).one(database).await?.map(|row| row.value))
}

/// A number; 0 where it was never set.
pub(super) async fn number(database: &impl ConnectionTrait, fact: Fact) -> Result<u64, Error> {
    let Some(value) = get(database, fact).await? else { return Ok(0) };
    let bytes = value.try_into().map_err(|_| Error::Corrupt("a number that is none"))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) async fn set(database: &impl ConnectionTrait, fact: Fact, value: Vec<u8>) -> Result<(), Error> {
    let row = ActiveModel { name: Set(fact.name().to_owned()), value: Set(value) };
    let replace = OnConflict::column(Column::Name).update_column(Column::Value).to_owned();
    Entity::insert(row).on_conflict(replace).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn set_number(database: &impl ConnectionTrait, fact: Fact, value: u64) -> Result<(), Error> {
    set(database, fact, value.to_be_bytes().to_vec()).await
}

pub(super) async fn clear(database: &impl ConnectionTrait, fact: Fact) -> Result<(), Error> {
    Entity::delete_by_id(fact.name()).exec(database).await?;
    Ok(())
}

/// A moment as a number. Nothing here happened before 1970.
pub fn moment(at: Timestamp) -> u64 {
    u64::try_from(at.unix_nanos()).unwrap_or(0)
}
