//! `GetStorageStatus`.

use obscura_proto::storage::v1::GetStorageStatusResponse;

use super::Grpc;
use crate::{
    Error,
    store::{Fact, Store},
};

/// Runs that are added up: far more than an installation has.
const RUNS: u64 = 1_000_000;

impl Grpc {
    pub(super) async fn status(&self) -> Result<GetStorageStatusResponse, Error> {
        let store = &self.store;
        let totals = store.totals().await?;
        let (segments, bytes) = recorded(store).await?;
        Ok(GetStorageStatusResponse {
            object_store: self.kind.to_owned(),
            limitations: self.limitations.clone(),
            database: store.database_kind().to_owned(),
            packs: totals.packs,
            segments,
            bytes,
            deleted_packs: totals.deleted_packs,
            pending_deletions: totals.pending_deletions,
            reconciled_unix_ns: i64::try_from(store.number(Fact::Reconciled).await?).unwrap_or(i64::MAX),
            reconcile_findings: store.number(Fact::ReconcileFindings).await?,
            scrubbed_packs: self.metrics.scrubbed_packs.get(),
            damaged_packs: totals.damaged_packs,
        })
    }
}

/// Segments that are left, and their sealed bytes: runs tell both without a look at the packs.
async fn recorded(store: &Store) -> Result<(u64, u64), Error> {
    let runs = store.runs(None, None, RUNS).await?;
    let sum = |(segments, bytes): (u64, u64), run: &crate::store::CameraRun| {
        (segments.saturating_add(run.run.segments), bytes.saturating_add(run.run.bytes))
    };
    Ok(runs.iter().fold((0, 0), sum))
}
