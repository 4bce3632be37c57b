//! Spans that were destroyed early: of a key that comes later nothing of them is kept.

use std::collections::BTreeSet;

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer};
use sea_orm::entity::prelude::*;

use super::damaged;
use crate::{error::Error, hold::Selection};

/// One layer of one span.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "shredded_span")]
pub struct Model {
    /// UUID of the camera.
    #[sea_orm(primary_key, auto_increment = false)]
    pub camera_id: String,
    /// Code of the layer.
    #[sea_orm(primary_key, auto_increment = false)]
    pub layer: i16,
    /// Start, nanoseconds since the Unix epoch.
    #[sea_orm(primary_key, auto_increment = false)]
    pub start_unix_ns: i64,
    /// End, exclusive.
    #[sea_orm(primary_key, auto_increment = false, indexed)]
    pub end_unix_ns: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Remembers a span; one that is remembered already stays.
pub async fn put(database: &impl ConnectionTrait, selection: &Selection) -> Result<(), Error> {
    let insert = Entity::insert_many(models(selection)).on_conflict_do_nothing();
    insert.exec_without_returning(database).await?;
    Ok(())
}

/// What is remembered of a camera and touches a span, a layer each.
pub async fn touching(
    database: &impl ConnectionTrait,
    camera: CameraId,
    span: Span,
) -> Result<Vec<Selection>, Error> {
    let rows = Entity::find()
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::StartUnixNs.lt(span.end().unix_nanos()))
        .filter(Column::EndUnixNs.gt(span.start().unix_nanos()));
    rows.all(database).await?.iter().map(|row| selection(row, camera)).collect()
}

/// Forgets spans that ended before a moment.
pub async fn prune(database: &impl ConnectionTrait, before: Timestamp) -> Result<(), Error> {
    Entity::delete_many().filter(Column::EndUnixNs.lt(before.unix_nanos())).exec(database).await?;
    Ok(())
}

fn models(selection: &Selection) -> Vec<ActiveModel> {
    let Selection { camera, layers, span } = selection;
    let (camera_id, start_unix_ns, end_unix_ns) =
        (camera.to_string(), span.start().unix_nanos(), span.end().unix_nanos());
    let model = |layer: &Layer| Model {
        camera_id: camera_id.clone(),
        layer: layer.code().into(),
        start_unix_ns,
        end_unix_ns,
    };
    layers.iter().map(model).map(ActiveModel::from).collect()
}

fn selection(model: &Model, camera: CameraId) -> Result<Selection, Error> {
    let name = || damaged(format!("destroyed span of camera {camera}"));
    let layer = u8::try_from(model.layer).ok().and_then(Layer::from_code).ok_or_else(name)?;
    let at = Timestamp::from_unix_nanos;
    let span = Span::try_new(at(model.start_unix_ns), at(model.end_unix_ns)).ok_or_else(name)?;
    Ok(Selection { camera, layers: BTreeSet::from([layer]), span })
}
