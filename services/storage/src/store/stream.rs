//! The table of streams: what the packs of a camera have in common, so that their rows need not say it each.
//!
//! Rows are added and never changed, so whoever knows one knows it for good. Something new begins another stream: a
//! camera whose parameter sets change, another recorder.

use std::collections::{BTreeSet, HashMap};

use obscura_ids::{CameraId, Digest, Layer, WriterEpoch};
use obscura_pack::Stream;
use sea_orm::{ActiveValue::Set, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::{Error, pack};
use crate::index::PackRow;

/// Most streams of one camera, layer and zone. Packs of a camera that has them all go beside the newest and say
/// themselves what is other: a camera that changes its parameter sets all the time must not fill this table.
const MOST: usize = 16;

/// A row as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "streams")]
pub struct Model {
    /// Counts streams.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    /// 16 bytes.
    #[sea_orm(indexed)]
    pub camera: Vec<u8>,
    /// Code of the layer.
    pub layer: i16,
    /// Name of the zone.
    pub zone: String,
    /// 32 bytes.
    pub init_hash: Vec<u8>,
    /// First writer epoch of the recorder, as if it were signed.
    pub writer: i64,
}

/// None: rows are found by number or by camera.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A stream and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Its number.
    pub number: i32,
    /// The stream.
    pub stream: Stream,
}

/// Those of one camera and layer, oldest first.
pub(super) async fn of_layer(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
) -> Result<Vec<Numbered>, Error> {
    let mut streams = of_cameras(database, [camera]).await?;
    streams.retain(|numbered| numbered.stream.layer == layer);
    Ok(streams)
}

/// Those of these cameras, oldest first.
pub(super) async fn of_cameras(
    database: &impl ConnectionTrait,
    cameras: impl IntoIterator<Item = CameraId>,
) -> Result<Vec<Numbered>, Error> {
    let cameras = cameras.into_iter().map(|camera| camera.as_bytes().to_vec());
    let query = Entity::find().filter(Column::Camera.is_in(cameras)).order_by_asc(Column::Number);
    query.all(database).await?.into_iter().map(Numbered::try_from).collect()
}

/// All there are.
pub(super) async fn all(database: &impl ConnectionTrait) -> Result<Vec<Numbered>, Error> {
    Entity::find().all(database).await?.into_iter().map(Numbered::try_from).collect()
}

/// Those with these numbers.
pub(super) async fn by_numbers(
    database: &impl ConnectionTrait,
    numbers: BTreeSet<i32>,
) -> Result<HashMap<i32, Stream>, Error> {
    if numbers.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = Entity::find().filter(Column::Number.is_in(numbers)).all(database).await?;
    rows.into_iter()
        .map(|row| Numbered::try_from(row).map(|numbered| (numbered.number, numbered.stream)))
        .collect()
}

/// A stream for each of the packs, made where there is none. Call it within the transaction that inserts them: nobody
/// else writes, so the next numbers are free.
pub(super) async fn assign(
    database: &impl ConnectionTrait,
    rows: &[&PackRow],
) -> Result<Vec<Numbered>, Error> {
    let cameras: BTreeSet<CameraId> = rows.iter().map(|row| row.camera).collect();
    let mut known = of_cameras(database, cameras).await?;
    let mut assigned = Vec::with_capacity(rows.len());
    for row in rows {
        let wanted = Stream::of(&row.directory);
        assigned.push(match choose(&known, &wanted) {
            Some(numbered) => numbered.clone(),
            None => {
                let numbered = Numbered { number: next_number(database).await?, stream: wanted };
                Entity::insert(active(&numbered)).exec_without_returning(database).await?;
                known.push(numbered.clone());
                numbered
            }
        });
    }
    Ok(assigned)
}

/// The same one, or the newest where there are too many.
fn choose<'a>(known: &'a [Numbered], wanted: &Stream) -> Option<&'a Numbered> {
    if let Some(same) = known.iter().find(|numbered| numbered.stream == *wanted) {
        return Some(same);
    }
    let is_beside = |numbered: &&Numbered| {
        let Stream { zone, camera, layer, .. } = &numbered.stream;
        (zone, camera, layer) == (&wanted.zone, &wanted.camera, &wanted.layer)
    };
    let beside: Vec<&Numbered> = known.iter().filter(is_beside).collect();
    beside.last().copied().filter(|_| beside.len() >= MOST)
}

async fn next_number(database: &impl ConnectionTrait) -> Result<i32, Error> {
    let last = Entity::find().select_only().column(Column::Number).order_by_desc(Column::Number);
    let last: Option<i32> = last.limit(1).into_tuple().one(database).await?;
    let next = last.unwrap_or(0).checked_add(1);
    next.ok_or(Error::Corrupt("the last number that a stream can have"))
}

fn active(Numbered { number, stream }: &Numbered) -> ActiveModel {
    ActiveModel {
        number: Set(*number),
        camera: Set(stream.camera.as_bytes().to_vec()),
        layer: Set(stream.layer.code().into()),
        zone: Set(stream.zone.to_string()),
        init_hash: Set(stream.init_hash.as_bytes().to_vec()),
        writer: Set(stream.writer.0.cast_signed()),
    }
}

impl TryFrom<Model> for Numbered {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let stream = Stream {
            zone: model.zone.parse().map_err(|_| Error::Corrupt("a zone that is none"))?,
            camera: pack::camera_id(model.camera)?,
            layer: pack::layer(model.layer)?,
            init_hash: Digest::try_from(&*model.init_hash)
                .map_err(|_| Error::Corrupt("a hash that is none"))?,
            writer: WriterEpoch(model.writer.cast_unsigned()),
        };
        Ok(Self { number: model.number, stream })
    }
}
