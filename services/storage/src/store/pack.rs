//! The table of packs: one row per object.

use std::time::Duration;

use obscura_blob::BlobKey;
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, PackId};
use sea_orm::{
    ActiveValue::Set, Condition, ExprTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*,
};

use super::{Error, partition, signed, unsigned};
use crate::index::PackRow;

/// A pack that is longer has its own corner of the index, so that a search for packs that reach into a
/// span need not look further back than this. Packs are about a minute long; only a step of the clock
/// in the middle of one makes it longer.
const LONG: Duration = Duration::from_secs(3_600);

/// A row as the database has it. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "packs")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub pack_id: Vec<u8>,
    /// 16 bytes.
    pub camera: Vec<u8>,
    /// Code of the layer.
    pub layer: i16,
    /// Name of the zone.
    pub zone: String,
    /// Key of the object.
    #[sea_orm(unique)]
    pub object_key: String,
    /// First frame.
    pub start_ns: i64,
    /// End of the last frame.
    pub end_ns: i64,
    /// Whether it lasts longer than [`LONG`].
    pub long: bool,
    /// Number of segments.
    pub segments: i64,
    /// Bytes of the object.
    pub bytes: i64,
    /// Bytes of the head.
    pub head_length: i64,
    /// The head: magic, length, directory.
    pub head: Vec<u8>,
}

/// None: rows are found by id or by time.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A pack without its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSummary {
    /// The pack.
    pub pack: PackId,
    /// Its object.
    pub key: BlobKey,
    /// From the first frame to the end of the last one.
    pub span: Span,
    /// Bytes of the object.
    pub bytes: u64,
}

/// Which packs to look for.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The camera.
    pub camera: CameraId,
    /// The layer.
    pub layer: Layer,
    /// Only packs that end at this moment or later.
    pub from: Timestamp,
    /// Only packs that start before this moment.
    pub to: Timestamp,
    /// Only packs behind this one in the order of start and id.
    pub after: Option<(Timestamp, PackId)>,
    /// At most so many.
    pub limit: u16,
}

pub(super) async fn by_id(database: &impl ConnectionTrait, id: PackId) -> Result<Option<PackRow>, Error> {
    Entity::find_by_id(id.as_bytes().to_vec()).one(database).await?.map(PackRow::try_from).transpose()
}

pub(super) async fn summaries(
    database: &impl ConnectionTrait,
    ids: &[PackId],
) -> Result<Vec<PackSummary>, Error> {
    let ids = ids.iter().map(|id| id.as_bytes().to_vec());
    let rows: Vec<(Vec<u8>, String, i64, i64, i64)> = Entity::find()
        .select_only()
        .columns([Column::PackId, Column::ObjectKey, Column::StartNs, Column::EndNs, Column::Bytes])
        .filter(Column::PackId.is_in(ids))
        .into_tuple()
        .all(database)
        .await?;
    rows.into_iter()
        .map(|(pack, key, start, end, bytes)| {
            Ok(PackSummary {
                pack: pack_id(pack)?,
                key: object_key(&key)?,
                span: span(start, end)?,
                bytes: unsigned(bytes, "a negative number of bytes")?,
            })
        })
        .collect()
}

pub(super) async fn slice(database: &impl ConnectionTrait, slice: &Slice) -> Result<Vec<PackRow>, Error> {
    let mut models = slice_of(database, slice, false).await?;
    models.extend(slice_of(database, slice, true).await?);
    models.sort_by(|a, b| (a.start_ns, &a.pack_id).cmp(&(b.start_ns, &b.pack_id)));
    models.truncate(slice.limit.into());
    models.into_iter().map(PackRow::try_from).collect()
}

/// The first packs of the slice among the long ones or among the others.
async fn slice_of(database: &impl ConnectionTrait, slice: &Slice, long: bool) -> Result<Vec<Model>, Error> {
    let mut condition = Condition::all()
        .add(Column::Camera.eq(slice.camera.as_bytes().to_vec()))
        .add(Column::Layer.eq(i16::from(slice.layer.code())))
        .add(Column::Long.eq(long))
        .add(Column::StartNs.lt(slice.to.unix_nanos()))
        .add(Column::EndNs.gte(slice.from.unix_nanos()));
    if !long {
        condition = condition.add(Column::StartNs.gte((slice.from - LONG).unix_nanos()));
    }
    if let Some((start, pack)) = slice.after {
        let start = start.unix_nanos();
        let same_start = Column::StartNs.eq(start).and(Column::PackId.gt(pack.as_bytes().to_vec()));
        condition = condition.add(Column::StartNs.gte(start)).add(Column::StartNs.gt(start).or(same_start));
    }
    let query = Entity::find().filter(condition).order_by_asc(Column::StartNs).order_by_asc(Column::PackId);
    Ok(query.limit(u64::from(slice.limit)).all(database).await?)
}

/// Says whether it is the first pack of its day, where days have tables of their own.
pub(super) async fn insert(database: &impl ConnectionTrait, row: &PackRow) -> Result<bool, Error> {
    let long = row.span.duration() > LONG;
    let is_first = !long && partition::make_day(database, row.span.start()).await?;
    let model = ActiveModel {
        pack_id: Set(row.pack.as_bytes().to_vec()),
        camera: Set(row.camera.as_bytes().to_vec()),
        layer: Set(row.layer.code().into()),
        zone: Set(row.zone.to_string()),
        object_key: Set(row.key.to_string()),
        start_ns: Set(row.span.start().unix_nanos()),
        end_ns: Set(row.span.end().unix_nanos()),
        long: Set(long),
        segments: Set(row.segments.into()),
        bytes: Set(signed(row.bytes)),
        head_length: Set(signed(row.head.len() as u64)),
        head: Set(row.head.to_vec()),
    };
    Entity::insert(model).exec_without_returning(database).await?;
    Ok(is_first)
}

impl TryFrom<Model> for PackRow {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        Ok(Self {
            pack: pack_id(model.pack_id)?,
            camera: camera_id(model.camera)?,
            layer: layer(model.layer)?,
            zone: model.zone.parse().map_err(|_| Error::Corrupt("a zone that is none"))?,
            key: object_key(&model.object_key)?,
            span: span(model.start_ns, model.end_ns)?,
            segments: u32::try_from(model.segments)
                .map_err(|_| Error::Corrupt("a wrong number of segments"))?,
            bytes: unsigned(model.bytes, "a negative number of bytes")?,
            head: model.head.into(),
        })
    }
}

pub(super) fn pack_id(bytes: Vec<u8>) -> Result<PackId, Error> {
    bytes.try_into().map(PackId::from_bytes).map_err(|_| Error::Corrupt("a pack id that is none"))
}

fn object_key(text: &str) -> Result<BlobKey, Error> {
    text.parse().map_err(|_| Error::Corrupt("an object key that is none"))
}

pub(super) fn camera_id(bytes: Vec<u8>) -> Result<CameraId, Error> {
    bytes.try_into().map(CameraId::from_bytes).map_err(|_| Error::Corrupt("a camera id that is none"))
}

pub(super) fn layer(code: i16) -> Result<Layer, Error> {
    u8::try_from(code).ok().and_then(Layer::from_code).ok_or(Error::Corrupt("a layer that is none"))
}

pub(super) fn span(start: i64, end: i64) -> Result<Span, Error> {
    Span::try_new(Timestamp::from_unix_nanos(start), Timestamp::from_unix_nanos(end))
        .ok_or(Error::Corrupt("a span that runs backwards"))
}
