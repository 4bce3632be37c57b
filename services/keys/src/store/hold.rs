//! One row per hold.

use obscura_clock::{Span, Timestamp};
use obscura_ids::{CameraId, Layer, ZoneId};
use sea_orm::{
    Condition, PaginatorTrait as _, QueryOrder as _, QuerySelect as _, entity::prelude::*,
    sea_query::OnConflict,
};

use super::{damaged, secret};
use crate::{
    error::Error,
    hold::{Hold, HoldId},
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One hold.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hold")]
pub struct Model {
    /// UUID of the hold.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hold_id: String,
    /// Zone.
    pub zone: String,
    /// UUID of the camera.
    #[sea_orm(indexed)]
    pub camera_id: String,
    /// Codes of the layers as bits: 1 << code.
    pub layers: i16,
    /// Start of its first slot, nanoseconds since the Unix epoch.
    pub start_unix_ns: i64,
    /// End of its last slot.
    pub end_unix_ns: i64,
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub basis: String,
    /// Day of the next review.
    pub review_on: String,
    /// When it was placed.
    pub placed_unix_ns: i64,
    /// When it was released; null while it stands.
    pub released_unix_ns: Option<i64>,
    /// Name of the secret of its key outside the database.
    pub secret: String,
    /// The half of its key inside the database, under the key-encryption key; null once released.
    pub wrapped_half: Option<Vec<u8>>,
    /// Version that it is under; null once released.
    pub key_version: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// A hold as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRow {
    pub hold: Hold,
    /// Name of the secret of its key outside the database.
    pub secret: String,
    /// Absent once it is released, and where it cannot be read: then the hold has no key.
    pub half: Option<WrappedSecret>,
}

/// One hold.
pub async fn get(database: &impl ConnectionTrait, id: HoldId) -> Result<Option<HoldRow>, Error> {
    Entity::find_by_id(id.to_string()).one(database).await?.map(row).transpose()
}

/// Adds a hold, or replaces what changes of it.
pub async fn put(database: &impl ConnectionTrait, zone: &ZoneId, row: &HoldRow) -> Result<(), Error> {
    let mut replace = OnConflict::column(Column::HoldId);
    replace.update_columns([Column::ReleasedUnixNs, Column::Secret, Column::WrappedHalf, Column::KeyVersion]);
    let insert = Entity::insert(ActiveModel::from(model(zone, row))).on_conflict(replace);
    insert.exec_without_returning(database).await?;
    Ok(())
}

/// Name of the secret of a hold that stands, whatever else of its row can be read.
pub async fn standing_secret(database: &impl ConnectionTrait, id: HoldId) -> Result<Option<String>, DbErr> {
    let row = Entity::find_by_id(id.to_string()).filter(Column::ReleasedUnixNs.is_null());
    row.select_only().column(Column::Secret).into_tuple().one(database).await
}

/// Names of the secrets of all holds that stand.
pub async fn secrets(database: &impl ConnectionTrait, zone: &ZoneId) -> Result<Vec<String>, DbErr> {
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str())).filter(Column::ReleasedUnixNs.is_null());
    rows.select_only().column(Column::Secret).into_tuple().all(database).await
}

/// Writes down the end of a hold, whatever else of its row can be read.
pub async fn end(database: &impl ConnectionTrait, id: HoldId, now: Timestamp) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::ReleasedUnixNs, now.unix_nanos().into())
        .col_expr(Column::Secret, "".into())
        .col_expr(Column::WrappedHalf, Option::<Vec<u8>>::None.into())
        .col_expr(Column::KeyVersion, Option::<i64>::None.into())
        .filter(Column::HoldId.eq(id.to_string()))
        .exec(database)
        .await?;
    Ok(())
}

/// Holds by time of placing, released ones only on request; [`Error::Damaged`] for one that cannot be read.
pub async fn list(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    camera: Option<CameraId>,
    released: bool,
    limit: u64,
) -> Result<Vec<Result<HoldRow, Error>>, DbErr> {
    let mut filter = Condition::all().add(Column::Zone.eq(zone.as_str()));
    filter = filter.add_option(camera.map(|camera| Column::CameraId.eq(camera.to_string())));
    filter = filter.add_option((!released).then(|| Column::ReleasedUnixNs.is_null()));
    let query = Entity::find().filter(filter).order_by_asc(Column::PlacedUnixNs).order_by_asc(Column::HoldId);
    Ok(query.limit(limit).all(database).await?.into_iter().map(row).collect())
}

/// Holds that stand, by time of placing; [`Error::Damaged`] for one that cannot be read.
pub async fn standing(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
) -> Result<Vec<Result<HoldRow, Error>>, DbErr> {
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str()));
    let rows = rows.filter(Column::ReleasedUnixNs.is_null()).order_by_asc(Column::PlacedUnixNs);
    Ok(rows.all(database).await?.into_iter().map(row).collect())
}

/// Standing holds of a camera that touch the span; [`Error::Damaged`] for one that cannot be read.
pub async fn touching(
    database: &impl ConnectionTrait,
    zone: &ZoneId,
    camera: CameraId,
    span: Span,
) -> Result<Vec<Result<HoldRow, Error>>, DbErr> {
    let rows = Entity::find()
        .filter(Column::Zone.eq(zone.as_str()))
        .filter(Column::CameraId.eq(camera.to_string()))
        .filter(Column::ReleasedUnixNs.is_null())
        .filter(Column::StartUnixNs.lt(span.end().unix_nanos()))
        .filter(Column::EndUnixNs.gt(span.start().unix_nanos()))
        .order_by_asc(Column::PlacedUnixNs)
        .all(database)
        .await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Number of holds that stand.
pub async fn count(database: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().filter(Column::ReleasedUnixNs.is_null()).count(database).await
}

/// Number of holds that stand and were to be reviewed before this day, `YYYY-MM-DD`.
pub async fn count_reviews_before(database: &impl ConnectionTrait, day: &str) -> Result<u64, DbErr> {
    let standing = Entity::find().filter(Column::ReleasedUnixNs.is_null());
    standing.filter(Column::ReviewOn.lt(day)).count(database).await
}

/// Standing holds of the zone that are not under `version`; [`Error::Damaged`] for one that cannot be read.
pub async fn not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
    zone: &ZoneId,
) -> Result<Vec<Result<HoldRow, Error>>, DbErr> {
    let rows = Entity::find().filter(Column::Zone.eq(zone.as_str()));
    let rows = rows.filter(Column::KeyVersion.ne(i64::from(version.0))).all(database).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Number of holds that are not under `version`, and of all that stand.
pub async fn count_not_under(
    database: &impl ConnectionTrait,
    version: KeyVersion,
) -> Result<(u64, u64), DbErr> {
    let stale = Entity::find().filter(Column::KeyVersion.ne(i64::from(version.0)));
    Ok((stale.count(database).await?, count(database).await?))
}

fn model(zone: &ZoneId, HoldRow { hold, secret, half }: &HoldRow) -> Model {
    Model {
        hold_id: hold.id.to_string(),
        zone: zone.to_string(),
        camera_id: hold.camera.to_string(),
        layers: hold.layers.iter().fold(0, |bits, layer| bits | 1 << layer.code()),
        start_unix_ns: hold.span.start().unix_nanos(),
        end_unix_ns: hold.span.end().unix_nanos(),
        owner: hold.owner.clone(),
        basis: hold.basis.clone(),
        review_on: hold.review_on.clone(),
        placed_unix_ns: hold.placed.unix_nanos(),
        released_unix_ns: hold.released.map(Timestamp::unix_nanos),
        secret: secret.clone(),
        wrapped_half: half.as_ref().map(|half| half.bytes.clone()),
        key_version: half.as_ref().map(|half| half.version.0.into()),
    }
}

fn row(model: Model) -> Result<HoldRow, Error> {
    let name = || damaged(format!("hold {}", model.hold_id));
    let at = Timestamp::from_unix_nanos;
    let half = match (model.key_version, model.wrapped_half) {
        (Some(version), Some(bytes)) => secret(version, bytes),
        _ => None,
    };
    let layers = [Layer::Original, Layer::Masked, Layer::Metadata];
    let hold = Hold {
        id: model.hold_id.parse().map_err(|_| name())?,
        camera: model.camera_id.parse().map_err(|_| name())?,
        layers: layers.into_iter().filter(|layer| model.layers >> layer.code() & 1 == 1).collect(),
        span: Span::try_new(at(model.start_unix_ns), at(model.end_unix_ns)).ok_or_else(name)?,
        owner: model.owner.clone(),
        basis: model.basis.clone(),
        review_on: model.review_on.clone(),
        placed: at(model.placed_unix_ns),
        released: model.released_unix_ns.map(at),
    };
    Ok(HoldRow { hold, secret: model.secret, half })
}
