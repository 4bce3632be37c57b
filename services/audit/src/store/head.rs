//! The head of the log: one row.

use obscura_clock::Timestamp;
use obscura_database::Database;
use obscura_tlog::Hash;
use sea_orm::{ActiveValue::Set, DbErr, entity::prelude::*, sea_query::Expr};

use super::{Batch, Error, signed, term, unsigned};

/// Key of the one row.
const ONLY: i16 = 1;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "head")]
pub struct Model {
    /// Always [`ONLY`].
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    /// Leaves in the log.
    pub size: i64,
    /// RFC 6962 root hash, 32 bytes.
    pub root: Vec<u8>,
    /// When the newest batch was committed, nanoseconds since the Unix epoch.
    pub committed_ns: i64,
    /// First index whose entry is kept.
    pub first_kept: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// How far the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Leaves.
    pub size: u64,
    /// Root hash.
    pub root: Hash,
    /// When the newest batch was committed.
    pub committed: Timestamp,
    /// First index whose entry is kept.
    pub first_kept: u64,
}

/// Makes the row of the empty log where there is none.
pub async fn create(database: &Database) -> Result<(), DbErr> {
    let write = database.write().await?;
    let empty = ActiveModel {
        id: Set(ONLY),
        size: Set(0),
        root: Set(Hash::EMPTY.as_bytes().to_vec()),
        committed_ns: Set(0),
        first_kept: Set(0),
    };
    Entity::insert(empty).on_conflict_do_nothing().exec_without_returning(&*write).await?;
    write.commit().await
}

pub async fn read(database: &impl ConnectionTrait) -> Result<Head, Error> {
    let row = Entity::find_by_id(ONLY).one(database).await?.ok_or(Error::Corrupt("no head"))?;
    Ok(Head {
        size: unsigned(row.size, "a negative size")?,
        root: row.root.as_slice().try_into().map_err(|_| Error::Corrupt("a root that is no hash"))?,
        committed: Timestamp::from_unix_nanos(row.committed_ns),
        first_kept: unsigned(row.first_kept, "a negative index")?,
    })
}

/// Moves the head, and says whether it was where the batch begins and the term is the newest.
pub async fn advance(database: &impl ConnectionTrait, batch: &Batch<'_>, term: i64) -> Result<bool, Error> {
    let done = Entity::update_many()
        .col_expr(Column::Size, Expr::value(signed(batch.new_size)))
        .col_expr(Column::Root, Expr::value(batch.root.as_bytes().to_vec()))
        .col_expr(Column::CommittedNs, Expr::value(batch.committed.unix_nanos()))
        .filter(Column::Id.in_subquery(term::key_within(term)))
        .filter(Column::Size.eq(signed(batch.old_size)))
        .exec(database)
        .await?;
    Ok(done.rows_affected == 1)
}

pub async fn keep_from(database: &impl ConnectionTrait, index: u64) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::FirstKept, Expr::value(signed(index)))
        .filter(Column::Id.eq(ONLY))
        .filter(Column::FirstKept.lt(signed(index)))
        .filter(Column::Size.gte(signed(index)))
        .exec(database)
        .await?;
    Ok(())
}
