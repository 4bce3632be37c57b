//! The table of packs whose objects were deleted after their keys were destroyed.

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Digest, Layer, PackId};
use obscura_pack::Statement;
use sea_orm::{ActiveValue::Set, ExprTrait as _, QuerySelect as _, entity::prelude::*, sea_query::Expr};

use super::{Error, pack, signed, unsigned};
use crate::index::PackRow;

/// What is left of a pack.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tombstones")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pack_id: Vec<u8>,
    /// 16 bytes.
    pub camera: Vec<u8>,
    /// Code of the layer.
    pub layer: i16,
    /// First frame.
    pub start_ns: i64,
    /// End of the last frame.
    pub end_ns: i64,
    /// Number of segments.
    pub segments: i64,
    /// Bytes of the object.
    pub bytes: i64,
    /// SHA-256 of its head.
    pub root: Vec<u8>,
    /// Number of the last receipt about it.
    pub receipt: i64,
    /// When the object was deleted.
    #[sea_orm(indexed)]
    pub deleted_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A pack that is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The pack.
    pub pack: PackId,
    /// Its camera.
    pub camera: CameraId,
    /// Its layer.
    pub layer: Layer,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// Number of segments.
    pub segments: u32,
    /// Bytes of the object.
    pub bytes: u64,
    /// SHA-256 of its head.
    pub root: Digest,
    /// Number of the last receipt about it.
    pub receipt: u64,
    /// When the object was deleted.
    pub deleted: Timestamp,
}

impl Tombstone {
    /// That of a pack whose object was deleted.
    #[must_use]
    pub fn of(row: &PackRow, receipt: u64, deleted: Timestamp) -> Self {
        Self {
            pack: row.pack,
            camera: row.camera,
            layer: row.layer,
            span: row.span,
            segments: row.segments,
            bytes: row.bytes,
            root: row.statement().head,
            receipt,
            deleted,
        }
    }

    /// What the audit log vouches for.
    #[must_use]
    pub const fn statement(&self) -> Statement {
        let Self { pack, camera, layer, span, root, .. } = *self;
        Statement { pack, camera, layer, span, head: root }
    }
}

pub(super) async fn insert(database: &impl ConnectionTrait, stone: &Tombstone) -> Result<(), Error> {
    let row = ActiveModel {
        pack_id: Set(stone.pack.as_bytes().to_vec()),
        camera: Set(stone.camera.as_bytes().to_vec()),
        layer: Set(stone.layer.code().into()),
        start_ns: Set(stone.span.start().unix_nanos()),
        end_ns: Set(stone.span.end().unix_nanos()),
        segments: Set(stone.segments.into()),
        bytes: Set(signed(stone.bytes)),
        root: Set(stone.root.as_bytes().to_vec()),
        receipt: Set(signed(stone.receipt)),
        deleted_ns: Set(stone.deleted.unix_nanos()),
    };
    Entity::insert(row).exec_without_returning(database).await?;
    Ok(())
}

pub(super) async fn find(database: &impl ConnectionTrait, pack: PackId) -> Result<Option<Tombstone>, Error> {
    let row = Entity::find_by_id(pack.as_bytes().to_vec()).one(database).await?;
    row.map(Tombstone::try_from).transpose()
}

/// Those of the packs that have a tombstone.
pub(super) async fn of(database: &impl ConnectionTrait, packs: &[PackId]) -> Result<Vec<Tombstone>, Error> {
    let ids = packs.iter().map(|pack| pack.as_bytes().to_vec());
    let rows = Entity::find().filter(Column::PackId.is_in(ids)).all(database).await?;
    rows.into_iter().map(Tombstone::try_from).collect()
}

/// Number of packs and of segments in them.
pub(super) async fn count(database: &impl ConnectionTrait) -> Result<(u64, u64), Error> {
    let packs = Entity::find().count(database).await?;
    let sum = Expr::col(Column::Segments).sum().cast_as("BIGINT");
    let query = Entity::find().select_only().expr_as(sum, "segments");
    let segments: Option<Option<i64>> = query.into_tuple().one(database).await?;
    Ok((packs, unsigned(segments.flatten().unwrap_or(0), "a negative number of segments")?))
}

/// Forgets what was deleted by receipts that are forgotten. When the object went is dated by our clock alone, which may
/// have been a year behind; the receipt is dated by custody.
pub(super) async fn prune(database: &impl ConnectionTrait, receipts: &[i64]) -> Result<(), Error> {
    Entity::delete_many().filter(Column::Receipt.is_in(receipts.iter().copied())).exec(database).await?;
    Ok(())
}

impl TryFrom<Model> for Tombstone {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self, Error> {
        Ok(Self {
            pack: pack::pack_id(row.pack_id)?,
            camera: pack::camera_id(row.camera)?,
            layer: pack::layer(row.layer)?,
            span: pack::span(row.start_ns, row.end_ns)?,
            segments: u32::try_from(row.segments)
                .map_err(|_| Error::Corrupt("a wrong number of segments"))?,
            bytes: unsigned(row.bytes, "a negative number of bytes")?,
            root: Digest::try_from(&*row.root).map_err(|_| Error::Corrupt("a hash that is none"))?,
            receipt: unsigned(row.receipt, "a negative number of a receipt")?,
            deleted: Timestamp::from_unix_nanos(row.deleted_ns),
        })
    }
}
