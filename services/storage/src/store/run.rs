//! The table of runs. Runs of one camera and layer are further apart than the merge rule joins, so
//! none overlaps another and their ends have the order of their starts.

use obscura_clock::Span;
use obscura_ids::{CameraId, Layer};
use sea_orm::{ActiveValue::Set, Condition, QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::{Error, pack, signed, unsigned};
use crate::run::{Insertion, JOIN, Run, insert as merge};

/// Runs that are looked at together; a new one rarely meets more than two.
const NEIGHBOURS: u64 = 16;

/// A row as the database has it. Times are nanoseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub struct Model {
    /// 16 bytes.
    #[sea_orm(primary_key, auto_increment = false)]
    pub camera: Vec<u8>,
    /// Code of the layer.
    #[sea_orm(primary_key, auto_increment = false)]
    pub layer: i16,
    /// First frame.
    #[sea_orm(primary_key, auto_increment = false)]
    pub start_ns: i64,
    /// End of the last frame.
    pub end_ns: i64,
    /// Number of segments.
    pub segments: i64,
    /// Sealed bytes.
    pub bytes: i64,
}

/// None: rows are found by camera and time.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A run and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraRun {
    /// The camera.
    pub camera: CameraId,
    /// The layer.
    pub layer: Layer,
    /// The run.
    pub run: Run,
}

/// Adds a run and merges it with those that it joins. Call it within a transaction.
pub(super) async fn insert(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
    run: Run,
) -> Result<(), Error> {
    let Insertion { absorbed, run } = merge(run, &neighbours(database, camera, layer, &run).await?);
    for start in absorbed {
        Entity::delete_by_id((camera.as_bytes().to_vec(), layer.code().into(), start.unix_nanos()))
            .exec(database)
            .await?;
    }
    put(database, camera, layer, &run).await
}

async fn put(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
    run: &Run,
) -> Result<(), Error> {
    let model = ActiveModel {
        camera: Set(camera.as_bytes().to_vec()),
        layer: Set(layer.code().into()),
        start_ns: Set(run.span.start().unix_nanos()),
        end_ns: Set(run.span.end().unix_nanos()),
        segments: Set(signed(run.segments)),
        bytes: Set(signed(run.bytes)),
    };
    Entity::insert(model).exec_without_returning(database).await?;
    Ok(())
}

/// At least the runs that `run` joins: walks back from its end until one ends too early.
async fn neighbours(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
    run: &Run,
) -> Result<Vec<Run>, Error> {
    let mut neighbours: Vec<Run> = Vec::new();
    let mut before = (run.span.end() + JOIN).unix_nanos().saturating_add(1);
    loop {
        let rows = Entity::find()
            .filter(Column::Camera.eq(camera.as_bytes().to_vec()))
            .filter(Column::Layer.eq(i16::from(layer.code())))
            .filter(Column::StartNs.lt(before))
            .order_by_desc(Column::StartNs)
            .limit(NEIGHBOURS)
            .all(database)
            .await?;
        let Some(first) = rows.last().map(|row| row.start_ns) else { return Ok(neighbours) };
        before = first;
        for row in rows {
            let neighbour = row.run()?;
            if !neighbour.joins(run) && neighbour.span.end() < run.span.start() {
                return Ok(neighbours);
            }
            neighbours.push(neighbour);
        }
    }
}

/// The runs that have a moment in common with the span.
pub(super) async fn touching(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
    span: Span,
) -> Result<Vec<Run>, Error> {
    let rows = Entity::find()
        .filter(Column::Camera.eq(camera.as_bytes().to_vec()))
        .filter(Column::Layer.eq(i16::from(layer.code())))
        .filter(Column::StartNs.lte(span.end().unix_nanos()))
        .filter(Column::EndNs.gte(span.start().unix_nanos()))
        .order_by_asc(Column::StartNs)
        .all(database)
        .await?;
    rows.iter().map(Model::run).collect()
}

/// Puts what is left of a run in its place. Call it within a transaction.
pub(super) async fn replace(
    database: &impl ConnectionTrait,
    camera: CameraId,
    layer: Layer,
    run: &Run,
    left: &[Run],
) -> Result<(), Error> {
    let id = (camera.as_bytes().to_vec(), layer.code().into(), run.span.start().unix_nanos());
    Entity::delete_by_id(id).exec(database).await?;
    for run in left {
        put(database, camera, layer, run).await?;
    }
    Ok(())
}

pub(super) async fn list(
    database: &impl ConnectionTrait,
    camera: Option<CameraId>,
    span: Option<Span>,
    limit: u64,
) -> Result<Vec<CameraRun>, Error> {
    let mut condition = Condition::all();
    if let Some(camera) = camera {
        condition = condition.add(Column::Camera.eq(camera.as_bytes().to_vec()));
    }
    if let Some(span) = span {
        condition = condition.add(Column::StartNs.lt(span.end().unix_nanos()));
        condition = condition.add(Column::EndNs.gt(span.start().unix_nanos()));
    }
    let query = Entity::find().filter(condition).order_by_asc(Column::Camera).order_by_asc(Column::StartNs);
    let rows = query.order_by_asc(Column::Layer).limit(limit).all(database).await?;
    rows.into_iter().map(CameraRun::try_from).collect()
}

impl Model {
    fn run(&self) -> Result<Run, Error> {
        Ok(Run {
            span: pack::span(self.start_ns, self.end_ns)?,
            segments: unsigned(self.segments, "a negative number of segments")?,
            bytes: unsigned(self.bytes, "a negative number of bytes")?,
        })
    }
}

impl TryFrom<Model> for CameraRun {
    type Error = Error;

    fn try_from(model: Model) -> Result<Self, Error> {
        let run = model.run()?;
        Ok(Self { camera: pack::camera_id(model.camera)?, layer: pack::layer(model.layer)?, run })
    }
}
