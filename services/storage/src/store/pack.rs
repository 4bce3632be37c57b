//! The table of packs: one row per object.

use std::time::Duration;

use obscura_blob::BlobKey;
use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, PackId};
use sea_orm::{ActiveValue::Set, QuerySelect as _, Statement, Value, entity::prelude::*};

use super::{Error, head, signed, unsigned};
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

pub(super) async fn by_ids(database: &impl ConnectionTrait, ids: &[PackId]) -> Result<Vec<PackRow>, Error> {
    let ids = ids.iter().map(|id| id.as_bytes().to_vec());
    let rows = Entity::find().filter(Column::PackId.is_in(ids)).all(database).await?;
    rows.into_iter().map(PackRow::try_from).collect()
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

/// The first packs of the slice, those of days and the long ones, in one round trip. `$6` and `$7` are the start
/// and the id behind which it goes on.
const SLICE: &str = "\
    SELECT * FROM (SELECT COLUMNS FROM packs WHERE camera = $1 AND layer = $2 AND \"long\" = FALSE \
        AND start_ns >= $3 AND start_ns < $4 AND end_ns >= $5 AND (start_ns > $6 OR pack_id > $7) \
        ORDER BY start_ns, pack_id LIMIT $8) AS of_days \
    UNION ALL \
    SELECT * FROM (SELECT COLUMNS FROM packs WHERE camera = $1 AND layer = $2 AND \"long\" = TRUE \
        AND start_ns >= $6 AND start_ns < $4 AND end_ns >= $5 AND (start_ns > $6 OR pack_id > $7) \
        ORDER BY start_ns, pack_id LIMIT $8) AS of_long \
    ORDER BY start_ns, pack_id LIMIT $8";
const COLUMNS: &str = "pack_id, camera, layer, zone, object_key, start_ns, end_ns, \"long\", segments, bytes, \
    head_length, head";

pub(super) async fn slice(database: &impl ConnectionTrait, slice: &Slice) -> Result<Vec<PackRow>, Error> {
    let (after, pack) = match slice.after {
        Some((start, pack)) => (start.unix_nanos(), pack.as_bytes().to_vec()),
        None => (i64::MIN, Vec::new()),
    };
    let values: [Value; 8] = [
        slice.camera.as_bytes().to_vec().into(),
        i16::from(slice.layer.code()).into(),
        (slice.from - LONG).unix_nanos().max(after).into(),
        slice.to.unix_nanos().into(),
        slice.from.unix_nanos().into(),
        after.into(),
        pack.into(),
        i64::from(slice.limit).into(),
    ];
    let sql = SLICE.replace("COLUMNS", COLUMNS);
    let statement = Statement::from_sql_and_values(database.get_database_backend(), sql, values);
    let models = Entity::find().from_raw_sql(statement).all(database).await?;
    models.into_iter().map(PackRow::try_from).collect()
}

/// Whether it rests in the corner of long packs instead of a table of its day.
pub(super) fn is_long(row: &PackRow) -> bool {
    row.span.duration() > LONG
}

/// The tables of their days are there.
pub(super) async fn insert_many(
    database: &impl ConnectionTrait,
    rows: impl Iterator<Item = &PackRow>,
) -> Result<(), Error> {
    Entity::insert_many(rows.map(active)).exec_without_returning(database).await?;
    Ok(())
}

fn active(row: &PackRow) -> ActiveModel {
    ActiveModel {
        pack_id: Set(row.pack.as_bytes().to_vec()),
        camera: Set(row.camera.as_bytes().to_vec()),
        layer: Set(row.layer.code().into()),
        zone: Set(row.zone.to_string()),
        object_key: Set(row.key.to_string()),
        start_ns: Set(row.span.start().unix_nanos()),
        end_ns: Set(row.span.end().unix_nanos()),
        long: Set(is_long(row)),
        segments: Set(row.segments.into()),
        bytes: Set(signed(row.bytes)),
        head_length: Set(signed(row.head.len() as u64)),
        head: Set(head::stored(&row.head)),
    }
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
            head: head::read(&model.head, model.head_length)?,
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
