//! Walking over the packs of the index: by the bytes of their keys, as a bucket lists its objects.

use obscura_blob::BlobKey;
use obscura_clock::Span;
use obscura_ids::{CameraId, PackId};
use sea_orm::{
    Condition, DbBackend, ExprTrait as _, QueryOrder as _, QuerySelect as _, Statement, entity::prelude::*,
    sea_query::Expr,
};

use super::{
    Error, Slice,
    pack::{Column, Entity},
    unsigned,
};
use crate::index::PackRow;

/// A walk over the index.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Only packs of this camera.
    pub camera: Option<CameraId>,
    /// Only packs that overlap this span.
    pub span: Option<Span>,
    /// Only packs behind this key.
    pub after: Option<BlobKey>,
    /// At most so many.
    pub limit: u16,
}

impl Walk {
    /// The same walk behind these packs; `None` where they were the last.
    #[must_use]
    pub fn behind(&self, rows: &[PackRow]) -> Option<Self> {
        let last = rows.last().filter(|_| rows.len() >= usize::from(self.limit))?;
        Some(Self { after: Some(last.key.clone()), ..self.clone() })
    }

    fn condition(&self) -> Condition {
        let mut condition = Condition::all();
        if let Some(camera) = self.camera {
            condition = condition.add(Column::Camera.eq(camera.as_bytes().to_vec()));
        }
        if let Some(span) = self.span {
            condition = condition.add(Column::StartNs.lt(span.end().unix_nanos()));
            condition = condition.add(Column::EndNs.gt(span.start().unix_nanos()));
        }
        condition
    }
}

impl Slice {
    /// The same slice behind these packs; `None` where they were the last.
    #[must_use]
    pub fn behind(&self, rows: &[PackRow]) -> Option<Self> {
        let last = rows.last().filter(|_| rows.len() >= usize::from(self.limit))?;
        Some(Self { after: Some((last.span.start(), last.pack)), ..*self })
    }
}

pub(super) async fn walk(database: &impl ConnectionTrait, walk: &Walk) -> Result<Vec<PackRow>, Error> {
    let key = key_in_bytes(database.get_database_backend());
    let mut condition = walk.condition();
    if let Some(after) = &walk.after {
        condition = condition.add(key.clone().gt(after.as_str()));
    }
    let query = Entity::find().filter(condition).order_by_asc(key).limit(u64::from(walk.limit));
    query.all(database).await?.into_iter().map(PackRow::try_from).collect()
}

/// Bytes of the objects of the whole walk, and their number.
pub(super) async fn weigh(database: &impl ConnectionTrait, walk: &Walk) -> Result<(u64, u64), Error> {
    let sums: Option<(Option<i64>, i64)> = Entity::find()
        .select_only()
        .expr_as(Expr::col(Column::Bytes).sum().cast_as("BIGINT"), "bytes")
        .expr_as(Expr::col(Column::Bytes).count(), "packs")
        .filter(walk.condition())
        .into_tuple()
        .one(database)
        .await?;
    let (bytes, packs) = sums.unwrap_or_default();
    let bytes = unsigned(bytes.unwrap_or(0), "a negative number of bytes")?;
    Ok((bytes, unsigned(packs, "a negative number of packs")?))
}

pub(super) async fn count(database: &impl ConnectionTrait) -> Result<u64, Error> {
    Ok(Entity::find().count(database).await?)
}

pub(super) async fn remove(database: &impl ConnectionTrait, pack: PackId) -> Result<(), Error> {
    Entity::delete_many().filter(Column::PackId.eq(pack.as_bytes().to_vec())).exec(database).await?;
    Ok(())
}

/// The index over which [`walk`] goes. SQLite compares bytes as it is, and has one for uniqueness.
pub(super) fn index(backend: DbBackend) -> Vec<Statement> {
    let create = "CREATE INDEX IF NOT EXISTS packs_by_key ON packs (object_key COLLATE \"C\")";
    match backend {
        DbBackend::Postgres => vec![Statement::from_string(backend, create)],
        _ => Vec::new(),
    }
}

/// The key of the object, compared by its bytes.
fn key_in_bytes(backend: DbBackend) -> Expr {
    match backend {
        DbBackend::Postgres => Expr::cust("object_key COLLATE \"C\""),
        _ => Expr::col(Column::ObjectKey),
    }
}
