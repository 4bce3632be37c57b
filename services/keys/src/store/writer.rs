//! Writing to the key database, one transaction at a time.

use obscura_clock::Timestamp;
use obscura_ids::{LayerKeyId, ZoneId};
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _, sea_query::OnConflict,
};
use tokio::sync::MutexGuard;

use super::{IntakeRow, LayerKeyRow, epoch_key, intake_key, key_version, layer_key};
use crate::{
    epoch::ExpiryDay,
    error::Error,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One transaction, alone among writers. Durable once committed.
pub struct Writer<'a> {
    transaction: DatabaseTransaction,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(transaction: DatabaseTransaction, turn: MutexGuard<'a, ()>) -> Self {
        Self { transaction, _turn: turn }
    }

    /// One layer key.
    pub async fn layer_key(&self, id: LayerKeyId) -> Result<Option<LayerKeyRow>, Error> {
        layer_key(&self.transaction, id).await
    }

    /// One epoch key.
    pub async fn epoch_key(&self, zone: &ZoneId, day: ExpiryDay) -> Result<Option<WrappedSecret>, Error> {
        epoch_key(&self.transaction, zone, day).await
    }

    /// Adds the intake key of a zone, or puts it under another version.
    pub async fn put_intake_key(
        &self,
        zone: &ZoneId,
        public_key: &[u8],
        private_key: WrappedSecret,
    ) -> Result<(), DbErr> {
        let row = intake_key::ActiveModel {
            zone: Set(zone.to_string()),
            public_key: Set(public_key.to_vec()),
            wrapped_private_key: Set(private_key.bytes),
            key_version: Set(private_key.version.0.into()),
        };
        let mut replace = OnConflict::column(intake_key::Column::Zone);
        replace.update_columns([intake_key::Column::WrappedPrivateKey, intake_key::Column::KeyVersion]);
        intake_key::Entity::insert(row)
            .on_conflict(replace)
            .exec_without_returning(&self.transaction)
            .await?;
        Ok(())
    }

    /// Adds an epoch key, or puts it under another version.
    pub async fn put_epoch_key(
        &self,
        zone: &ZoneId,
        day: ExpiryDay,
        key: WrappedSecret,
    ) -> Result<(), DbErr> {
        let row = epoch_key::ActiveModel {
            zone: Set(zone.to_string()),
            expiry_day: Set(day.number().into()),
            wrapped_key: Set(key.bytes),
            key_version: Set(key.version.0.into()),
        };
        let mut replace = OnConflict::columns([epoch_key::Column::Zone, epoch_key::Column::ExpiryDay]);
        replace.update_columns([epoch_key::Column::WrappedKey, epoch_key::Column::KeyVersion]);
        epoch_key::Entity::insert(row).on_conflict(replace).exec_without_returning(&self.transaction).await?;
        Ok(())
    }

    /// Adds a layer key. Fails where its id is taken.
    pub async fn insert_layer_key(&self, row: LayerKeyRow, imported: Timestamp) -> Result<(), Error> {
        let context = row.context;
        let writer_epoch = i64::try_from(context.writer_epoch.0)
            .map_err(|_| Error::malformed("writer epoch", "it is larger than 2^63 - 1"))?;
        let row = layer_key::ActiveModel {
            key_id: Set(context.key_id.to_string()),
            camera_id: Set(context.camera.to_string()),
            layer: Set(context.layer.code().into()),
            hour: Set(context.hour.get().into()),
            zone: Set(context.zone.to_string()),
            writer_epoch: Set(writer_epoch),
            expiry_day: Set(row.day.number().into()),
            sealed_key: Set(row.sealed),
            imported_unix_ns: Set(imported.unix_nanos()),
        };
        layer_key::Entity::insert(row).exec_without_returning(&self.transaction).await?;
        Ok(())
    }

    /// The intake key of the zone.
    pub async fn intake_key(&self, zone: &ZoneId) -> Result<Option<IntakeRow>, Error> {
        let row = intake_key::Entity::find_by_id(zone.as_str()).one(&self.transaction).await?;
        row.map(super::intake_row).transpose()
    }

    /// Epoch keys of the zone that expire after `after` and are not under `version`, by day.
    pub async fn epoch_keys_not_under(
        &self,
        version: KeyVersion,
        zone: &ZoneId,
        after: Option<ExpiryDay>,
        limit: u32,
    ) -> Result<Vec<(ExpiryDay, WrappedSecret)>, Error> {
        let after = after.map_or(-1, |day| i64::from(day.number()));
        let rows = epoch_key::Entity::find()
            .filter(epoch_key::Column::Zone.eq(zone.as_str()))
            .filter(epoch_key::Column::KeyVersion.ne(i64::from(version.0)))
            .filter(epoch_key::Column::ExpiryDay.gt(after))
            .order_by_asc(epoch_key::Column::ExpiryDay)
            .limit(u64::from(limit))
            .all(&self.transaction)
            .await?;
        rows.into_iter().map(|row| Ok((super::day(row.expiry_day)?, super::epoch_secret(row)?))).collect()
    }

    /// Number of rows of every kind and zone that are not under `version`, and of all of them.
    pub async fn rows_not_under(&self, version: KeyVersion) -> Result<(u64, u64), DbErr> {
        let version = i64::from(version.0);
        let epochs = epoch_key::Entity::find();
        let intakes = intake_key::Entity::find();
        let total =
            epochs.clone().count(&self.transaction).await? + intakes.clone().count(&self.transaction).await?;
        let epochs = epochs.filter(epoch_key::Column::KeyVersion.ne(version));
        let intakes = intakes.filter(intake_key::Column::KeyVersion.ne(version));
        let stale = epochs.count(&self.transaction).await? + intakes.count(&self.transaction).await?;
        Ok((stale, total))
    }

    /// Writes down that a version exists.
    pub async fn record_version(&self, version: KeyVersion, seen: Timestamp) -> Result<(), DbErr> {
        let row = key_version::ActiveModel {
            version: Set(version.0.into()),
            created_unix_ns: Set(seen.unix_nanos()),
            retired_unix_ns: Set(None),
        };
        let insert = key_version::Entity::insert(row).on_conflict_do_nothing();
        insert.exec_without_returning(&self.transaction).await?;
        Ok(())
    }

    /// Writes down that every version before `version` is destroyed.
    pub async fn record_retired_before(&self, version: KeyVersion, now: Timestamp) -> Result<(), DbErr> {
        key_version::Entity::update_many()
            .col_expr(key_version::Column::RetiredUnixNs, now.unix_nanos().into())
            .filter(key_version::Column::Version.lt(i64::from(version.0)))
            .filter(key_version::Column::RetiredUnixNs.is_null())
            .exec(&self.transaction)
            .await?;
        Ok(())
    }

    /// Makes everything that was written durable.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.transaction.commit().await
    }
}
