//! What the audit log has to hear of: packs that came and packs that went, in the order in which they
//! did. A row stays until it was told.

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Digest, PackId};
#[cfg(doc)]
use obscura_pack::Statement;
use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::{Error, fact, fact::Fact, pack, signed, unsigned};
use crate::{index::PackRow, inspection::sha256, store::Tombstone};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notices")]
pub struct Model {
    /// Counts notices.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// Number of the receipt by which the pack went; 0 where it came.
    pub receipt: i64,
    /// 16 bytes.
    pub pack_id: Vec<u8>,
    /// 16 bytes.
    pub camera: Vec<u8>,
    /// First frame.
    pub start_ns: i64,
    /// End of the last frame.
    pub end_ns: i64,
    /// Bytes of the object.
    pub bytes: i64,
    /// SHA-256 of its statement.
    pub root: Vec<u8>,
    /// When it came or went.
    pub at_ns: i64,
}

/// None.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A pack that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Counts notices.
    pub position: u64,
    /// Number of the receipt by which it went; 0 where it came.
    pub receipt: u64,
    /// The pack.
    pub pack: PackId,
    /// Its camera.
    pub camera: CameraId,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// Bytes of the object.
    pub bytes: u64,
    /// SHA-256 of its statement ([`Statement`]): its leaf in a root.
    pub leaf: Digest,
    /// When it came or went.
    pub at: Timestamp,
}

/// Which notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Packs that came.
    Arrivals,
    /// Packs that went.
    Deletions,
}

impl Subject {
    const fn open(self) -> Fact {
        match self {
            Self::Arrivals => Fact::OpenManifest,
            Self::Deletions => Fact::OpenDestruction,
        }
    }

    fn condition(self) -> sea_orm::sea_query::SimpleExpr {
        match self {
            Self::Arrivals => Column::Receipt.eq(0),
            Self::Deletions => Column::Receipt.ne(0),
        }
    }
}

impl Notice {
    fn arrival(row: &PackRow, at: Timestamp) -> Self {
        Self {
            position: 0,
            receipt: 0,
            pack: row.pack,
            camera: row.camera,
            span: row.span,
            bytes: row.bytes,
            leaf: sha256(&row.statement().to_bytes()),
            at,
        }
    }

    fn deletion(stone: &Tombstone) -> Self {
        Self {
            position: 0,
            receipt: stone.receipt,
            pack: stone.pack,
            camera: stone.camera,
            span: stone.span,
            bytes: stone.bytes,
            leaf: sha256(&stone.statement().to_bytes()),
            at: stone.deleted,
        }
    }
}

pub(super) async fn add_arrivals(
    database: &impl ConnectionTrait,
    arrivals: impl Iterator<Item = (&PackRow, Timestamp)>,
) -> Result<(), Error> {
    add(database, arrivals.map(|(row, at)| Notice::arrival(row, at)).collect()).await
}

pub(super) async fn add_deletion(database: &impl ConnectionTrait, stone: &Tombstone) -> Result<(), Error> {
    add(database, vec![Notice::deletion(stone)]).await
}

/// Call it within a transaction: nobody else writes, so the next positions are free.
async fn add(database: &impl ConnectionTrait, notices: Vec<Notice>) -> Result<(), Error> {
    if notices.is_empty() {
        return Ok(());
    }
    let last = Entity::find().select_only().column(Column::Position).order_by_desc(Column::Position);
    let last: Option<i64> = last.limit(1).into_tuple().one(database).await?;
    let rows = (last.unwrap_or(0).saturating_add(1)..).zip(&notices).map(active);
    Entity::insert_many(rows).exec_without_returning(database).await?;
    Ok(())
}

fn active((position, notice): (i64, &Notice)) -> ActiveModel {
    ActiveModel {
        position: Set(position),
        receipt: Set(signed(notice.receipt)),
        pack_id: Set(notice.pack.as_bytes().to_vec()),
        camera: Set(notice.camera.as_bytes().to_vec()),
        start_ns: Set(notice.span.start().unix_nanos()),
        end_ns: Set(notice.span.end().unix_nanos()),
        bytes: Set(signed(notice.bytes)),
        root: Set(notice.leaf.as_bytes().to_vec()),
        at_ns: Set(notice.at.unix_nanos()),
    }
}

/// The notices to tell now. Until they are closed the same ones come again, so that an event told twice
/// is the same event.
pub(super) async fn open(
    database: &impl ConnectionTrait,
    subject: Subject,
    limit: u64,
) -> Result<Vec<Notice>, Error> {
    let opened = fact::number(database, subject.open()).await?;
    let mut query = Entity::find().filter(subject.condition()).order_by_asc(Column::Position).limit(limit);
    if opened > 0 {
        query = query.filter(Column::Position.lte(signed(opened)));
    }
    let rows = query.all(database).await?;
    let notices = rows.into_iter().map(Notice::try_from).collect::<Result<Vec<_>, _>>()?;
    if let (0, Some(last)) = (opened, notices.last()) {
        fact::set_number(database, subject.open(), last.position).await?;
    }
    Ok(notices)
}

/// Forgets what was opened and is told now.
pub(super) async fn close(
    database: &impl ConnectionTrait,
    subject: Subject,
    through: u64,
) -> Result<(), Error> {
    let told = Column::Position.lte(signed(through));
    Entity::delete_many().filter(subject.condition()).filter(told).exec(database).await?;
    fact::clear(database, subject.open()).await
}

impl TryFrom<Model> for Notice {
    type Error = Error;

    fn try_from(row: Model) -> Result<Self, Error> {
        Ok(Self {
            position: unsigned(row.position, "a negative position")?,
            receipt: unsigned(row.receipt, "a negative number of a receipt")?,
            pack: pack::pack_id(row.pack_id)?,
            camera: pack::camera_id(row.camera)?,
            span: pack::span(row.start_ns, row.end_ns)?,
            bytes: unsigned(row.bytes, "a negative number of bytes")?,
            leaf: Digest::try_from(&*row.root).map_err(|_| Error::Corrupt("a hash that is none"))?,
            at: Timestamp::from_unix_nanos(row.at_ns),
        })
    }
}
