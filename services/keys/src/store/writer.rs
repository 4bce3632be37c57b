//! Writing to the key database, one transaction at a time.

use obscura_clock::Timestamp;
use obscura_database::Write;
use obscura_ids::ZoneId;
use sea_orm::{
    ActiveValue::Set, ColumnTrait as _, DatabaseTransaction, DbErr, EntityTrait as _, PaginatorTrait as _,
    QueryFilter as _, sea_query::OnConflict,
};

use super::{IntakeRow, epoch, epoch_key, hold, intake_key, key_version, receipt_key};
use crate::{
    error::Error,
    key_encryption::{KeyVersion, WrappedSecret},
};

/// One transaction, alone among writers. Durable once committed.
pub struct Writer<'a> {
    transaction: Write<'a>,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(transaction: Write<'a>) -> Self {
        Self { transaction }
    }

    /// To read and write with.
    pub fn tx(&self) -> &DatabaseTransaction {
        &self.transaction
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
        intake_key::Entity::insert(row).on_conflict(replace).exec_without_returning(self.tx()).await?;
        Ok(())
    }

    /// The intake key of the zone.
    pub async fn intake_key(&self, zone: &ZoneId) -> Result<Option<IntakeRow>, Error> {
        let row = intake_key::Entity::find_by_id(zone.as_str()).one(self.tx()).await?;
        row.map(super::intake_row).transpose()
    }

    /// Number of rows of every kind and zone that are not under `version`, and of all of them.
    pub async fn rows_not_under(&self, version: KeyVersion) -> Result<(u64, u64), DbErr> {
        let intakes = intake_key::Entity::find();
        let stale = intakes.clone().filter(intake_key::Column::KeyVersion.ne(i64::from(version.0)));
        let counts = [
            (stale.count(self.tx()).await?, intakes.count(self.tx()).await?),
            receipt_key::count_not_under(self.tx(), version).await?,
            epoch::count_not_under(self.tx(), version).await?,
            hold::count_not_under(self.tx(), version).await?,
            epoch_key::count_not_under(self.tx(), version).await?,
        ];
        Ok(counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1)))
    }

    /// Writes down that a version exists.
    pub async fn record_version(&self, version: KeyVersion, seen: Timestamp) -> Result<(), DbErr> {
        let row = key_version::ActiveModel {
            version: Set(version.0.into()),
            created_unix_ns: Set(seen.unix_nanos()),
            retired_unix_ns: Set(None),
        };
        let insert = key_version::Entity::insert(row).on_conflict_do_nothing();
        insert.exec_without_returning(self.tx()).await?;
        Ok(())
    }

    /// Writes down that every version before `version` is destroyed; returns of how many that is news.
    pub async fn record_retired_before(&self, version: KeyVersion, now: Timestamp) -> Result<u64, DbErr> {
        let retired = key_version::Entity::update_many()
            .col_expr(key_version::Column::RetiredUnixNs, now.unix_nanos().into())
            .filter(key_version::Column::Version.lt(i64::from(version.0)))
            .filter(key_version::Column::RetiredUnixNs.is_null())
            .exec(self.tx())
            .await?;
        Ok(retired.rows_affected)
    }

    /// Makes everything that was written durable.
    pub async fn commit(self) -> Result<(), DbErr> {
        self.transaction.commit().await
    }
}
