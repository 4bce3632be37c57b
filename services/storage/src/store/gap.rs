//! The table of gaps.

use std::collections::BTreeMap;

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, GapId, WriterEpoch};
use obscura_proto::footage::v1::GapReason;
use sea_orm::{
    ActiveValue::Set,
    Condition, ExprTrait as _, QueryOrder as _, QuerySelect as _,
    entity::prelude::*,
    sea_query::{Expr, OnConflict},
};

use super::{Error, pack, signed, unsigned};
use crate::gap::Gap;

/// Gaps in one statement.
const ROWS: usize = 1_000;

/// A row as the database has it. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gaps")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub gap_id: Vec<u8>,
    /// 16 bytes.
    pub camera: Vec<u8>,
    /// First moment.
    pub start_ns: i64,
    /// End; null while it lasts.
    pub end_ns: Option<i64>,
    /// Number of the reason in `obscura.footage.v1.GapReason`.
    pub reason: i32,
    /// Epoch of the recorder that reported it; null where it is not known.
    pub writer_epoch: Option<i64>,
}

/// None: rows are found by camera and time.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Adds gaps. Of several reports of one gap, here or there already, the one that counts is kept, so that neither the
/// order of reports nor telling one again changes anything.
pub(super) async fn upsert(database: &impl ConnectionTrait, gaps: &[Gap]) -> Result<(), Error> {
    for gaps in gaps.chunks(ROWS) {
        let there = by_ids(database, gaps).await?;
        let mut settled = there.clone();
        for gap in gaps {
            settled.entry(gap.id).and_modify(|kept| *kept = kept.settle(*gap)).or_insert(*gap);
        }
        let is_new = |gap: &Gap| there.get(&gap.id) != Some(gap);
        let new: Vec<Gap> = settled.into_values().filter(is_new).collect();
        write(database, &new).await?;
        for stopped in new.iter().filter(|gap| gap.reason == GapReason::RecorderStopped) {
            end_older(database, stopped).await?;
        }
        for open in new.iter().filter(|gap| gap.end.is_none()) {
            end_by_stop(database, open).await?;
        }
    }
    Ok(())
}

async fn by_ids(database: &impl ConnectionTrait, gaps: &[Gap]) -> Result<BTreeMap<GapId, Gap>, Error> {
    let ids = gaps.iter().map(|gap| gap.id.as_bytes().to_vec());
    let rows = Entity::find().filter(Column::GapId.is_in(ids)).all(database).await?;
    rows.into_iter().map(|row| Gap::try_from(row).map(|gap| (gap.id, gap))).collect()
}

async fn write(database: &impl ConnectionTrait, gaps: &[Gap]) -> Result<(), Error> {
    if gaps.is_empty() {
        return Ok(());
    }
    let replace = OnConflict::column(Column::GapId)
        .update_columns([Column::Camera, Column::StartNs, Column::EndNs, Column::Reason, Column::WriterEpoch])
        .to_owned();
    Entity::insert_many(gaps.iter().map(ActiveModel::from))
        .on_conflict(replace)
        .exec_without_returning(database)
        .await?;
    Ok(())
}

/// A recorder that was killed reports no end of the gaps that it had open. Its next start says since
/// when it was not running: older gaps of the same data directory last until then, and so do those of which nobody
/// knows whose they are. Gaps of another recorder of the camera are its own. Repeating this changes nothing.
async fn end_older(database: &impl ConnectionTrait, stopped: &Gap) -> Result<(), Error> {
    let start = stopped.start.unix_nanos();
    let mut own = Condition::any().add(Column::WriterEpoch.is_null());
    if let Some(writer) = stopped.writer {
        let (first, last) = (signed(writer.first_of_directory().0), signed(writer.0));
        own = own.add(Column::WriterEpoch.between(first, last));
    }
    Entity::update_many()
        .col_expr(Column::EndNs, Expr::value(start))
        .filter(Column::Camera.eq(stopped.camera.as_bytes().to_vec()))
        .filter(Column::GapId.ne(stopped.id.as_bytes().to_vec()))
        .filter(Column::EndNs.is_null())
        .filter(Column::StartNs.lte(start))
        .filter(own)
        .exec(database)
        .await?;
    Ok(())
}

/// The same from the other side, for an open gap that is told after the stop of its recorder: out of the journal gaps
/// come in any order.
async fn end_by_stop(database: &impl ConnectionTrait, open: &Gap) -> Result<(), Error> {
    let stops = Entity::find()
        .filter(Column::Camera.eq(open.camera.as_bytes().to_vec()))
        .filter(Column::StartNs.gte(open.start.unix_nanos()))
        .filter(Column::Reason.eq(i32::from(GapReason::RecorderStopped)))
        .filter(Column::GapId.ne(open.id.as_bytes().to_vec()))
        .order_by_asc(Column::StartNs)
        .all(database)
        .await?;
    for stop in stops {
        let stop = Gap::try_from(stop)?;
        if stops_writer_of(&stop, open) {
            return write(database, &[Gap { end: Some(stop.start), ..*open }]).await;
        }
    }
    Ok(())
}

/// Whether the open gap was one of the recorder that stopped, or is of nobody known. What the start that told the stop
/// has opened itself goes on.
fn stops_writer_of(stop: &Gap, open: &Gap) -> bool {
    open.writer.is_none_or(|open| {
        stop.writer.is_some_and(|stop| (stop.first_of_directory().0..stop.0).contains(&open.0))
    })
}

/// At most `limit` gaps that started in the span, by start and id.
pub(super) async fn started_in(
    database: &impl ConnectionTrait,
    span: Span,
    limit: u64,
) -> Result<Vec<Gap>, Error> {
    let query = Entity::find()
        .filter(Column::StartNs.gte(span.start().unix_nanos()))
        .filter(Column::StartNs.lt(span.end().unix_nanos()))
        .order_by_asc(Column::StartNs)
        .order_by_asc(Column::GapId);
    query.limit(limit).all(database).await?.into_iter().map(Gap::try_from).collect()
}

/// Start of the first gap that started at this moment or later.
pub(super) async fn first_start(
    database: &impl ConnectionTrait,
    from: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let query = Entity::find().select_only().column(Column::StartNs);
    let query = query.filter(Column::StartNs.gte(from.unix_nanos())).order_by_asc(Column::StartNs);
    let start: Option<i64> = query.limit(1).into_tuple().one(database).await?;
    Ok(start.map(Timestamp::from_unix_nanos))
}

/// Forgets what ended before a moment.
pub(super) async fn prune(database: &impl ConnectionTrait, before: Timestamp) -> Result<(), Error> {
    Entity::delete_many().filter(Column::EndNs.lt(before.unix_nanos())).exec(database).await?;
    Ok(())
}

/// At most `limit` gaps, the newest, by camera and time.
pub(super) async fn list(
    database: &impl ConnectionTrait,
    camera: Option<CameraId>,
    span: Option<Span>,
    limit: u64,
) -> Result<Vec<Gap>, Error> {
    let mut condition = Condition::all();
    if let Some(camera) = camera {
        condition = condition.add(Column::Camera.eq(camera.as_bytes().to_vec()));
    }
    if let Some(span) = span {
        let lasting = Column::EndNs.is_null().or(Column::EndNs.gt(span.start().unix_nanos()));
        condition = condition.add(Column::StartNs.lt(span.end().unix_nanos())).add(lasting);
    }
    let query = Entity::find().filter(condition).order_by_desc(Column::StartNs).order_by_desc(Column::GapId);
    let mut rows = query.limit(limit).all(database).await?;
    let place = |row: &Model| (row.camera.clone(), row.start_ns, row.gap_id.clone());
    rows.sort_by_cached_key(place);
    rows.into_iter().map(Gap::try_from).collect()
}

impl From<&Gap> for ActiveModel {
    fn from(gap: &Gap) -> Self {
        Self {
            gap_id: Set(gap.id.as_bytes().to_vec()),
            camera: Set(gap.camera.as_bytes().to_vec()),
            start_ns: Set(gap.start.unix_nanos()),
            end_ns: Set(gap.end.map(Timestamp::unix_nanos)),
            reason: Set(gap.reason.into()),
            writer_epoch: Set(gap.writer.map(|writer| signed(writer.0))),
        }
    }
}

impl TryFrom<Model> for Gap {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let writer =
            model.writer_epoch.map(|epoch| unsigned(epoch, "a negative writer epoch")).transpose()?;
        let id = model.gap_id.try_into().map_err(|_| Error::Corrupt("a gap id that is none"))?;
        Ok(Self {
            id: GapId::from_bytes(id),
            camera: pack::camera_id(model.camera)?,
            start: Timestamp::from_unix_nanos(model.start_ns),
            end: model.end_ns.map(Timestamp::from_unix_nanos),
            reason: GapReason::try_from(model.reason).map_err(|_| Error::Corrupt("a reason that is none"))?,
            writer: writer.map(WriterEpoch),
        })
    }
}
