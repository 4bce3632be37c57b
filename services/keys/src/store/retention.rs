//! Which retention was in force for a camera, and from when on.

use obscura_clock::Timestamp;
use obscura_ids::CameraId;
use sea_orm::{QueryOrder as _, QuerySelect as _, entity::prelude::*};

use super::{damaged, unsigned};
use crate::{error::Error, retention::Period};

/// One retention of one camera.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "retention")]
pub struct Model {
    /// UUID of the camera.
    #[sea_orm(primary_key, auto_increment = false)]
    pub camera_id: String,
    /// Version of the placement that says so.
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i64,
    /// Hours.
    pub retention_hours: i64,
    /// When it came into force as far as is known, nanoseconds since the Unix epoch.
    pub since_unix_ns: i64,
    /// Whether keys that are in custody already follow it.
    #[sea_orm(indexed)]
    pub applied: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The retentions of a camera, by version.
pub async fn of_camera(database: &impl ConnectionTrait, camera: CameraId) -> Result<Vec<Period>, Error> {
    let rows = Entity::find().filter(Column::CameraId.eq(camera.to_string())).order_by_asc(Column::Version);
    rows.all(database).await?.iter().map(period).collect()
}

/// Newest version that is known, by camera.
pub async fn newest_versions(database: &impl ConnectionTrait) -> Result<Vec<(String, i64)>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::CameraId)
        .column_as(Column::Version.max(), "version")
        .group_by(Column::CameraId)
        .into_tuple()
        .all(database)
        .await
}

/// Writes down a retention; one that is known stays as it is.
pub async fn put(
    database: &impl ConnectionTrait,
    camera: CameraId,
    period: Period,
    applied: bool,
) -> Result<(), Error> {
    let model = Model {
        camera_id: camera.to_string(),
        version: i64::try_from(period.version)
            .map_err(|_| damaged(format!("placement of camera {camera}")))?,
        retention_hours: period.hours.into(),
        since_unix_ns: period.since.unix_nanos(),
        applied,
    };
    let insert = Entity::insert(ActiveModel::from(model)).on_conflict_do_nothing();
    insert.exec_without_returning(database).await?;
    Ok(())
}

/// Cameras with a retention that keys in custody do not follow yet.
pub async fn cameras_to_apply(database: &impl ConnectionTrait) -> Result<Vec<CameraId>, Error> {
    let rows =
        Entity::find().filter(Column::Applied.eq(false)).select_only().column(Column::CameraId).distinct();
    let ids: Vec<String> = rows.into_tuple().all(database).await?;
    let parse = |id: String| id.parse().map_err(|_| damaged(format!("retention of camera {id}")));
    ids.into_iter().map(parse).collect()
}

/// Writes down that the keys of a camera follow its retentions up to this version.
pub async fn set_applied(
    database: &impl ConnectionTrait,
    camera: CameraId,
    version: u64,
) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Applied, true.into())
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::Version.lte(i64::try_from(version).unwrap_or(i64::MAX)))
        .exec(database)
        .await?;
    Ok(())
}

/// Writes down that a camera has keys that may not follow its retentions.
pub async fn set_unapplied(database: &impl ConnectionTrait, camera: CameraId) -> Result<(), Error> {
    Entity::update_many()
        .col_expr(Column::Applied, false.into())
        .filter(Column::CameraId.eq(camera.to_string()))
        .exec(database)
        .await?;
    Ok(())
}

fn period(model: &Model) -> Result<Period, Error> {
    let name = || damaged(format!("retention of camera {}", model.camera_id));
    Ok(Period {
        version: u64::try_from(model.version).map_err(|_| name())?,
        hours: unsigned(model.retention_hours, "retention")?,
        since: Timestamp::from_unix_nanos(model.since_unix_ns),
    })
}
