//! `Reindex`.

use std::sync::Arc;

use obscura_proto::storage::v1::ReindexResponse;

use super::Grpc;
use crate::{
    Error,
    reindex::reindex,
    report::{Reporter, Reports},
};

impl Grpc {
    /// Takes the turn of a reconciliation, which would call every object an orphan meanwhile.
    pub(super) fn reindexed(&self) -> Result<Reports<ReindexResponse>, Error> {
        let turn = Arc::clone(&self.upkeep.reconciling).try_lock_owned();
        let turn = turn.map_err(|_| Error::UnderWay("a reconciliation or a reindexing"))?;
        let orphans = self.upkeep.orphans();
        let (reporter, reports) = Reporter::stream();
        tokio::spawn(async move {
            let outcome = reindex(&orphans, &reporter).await.map(drop);
            reporter.end(outcome).await;
            drop(turn);
        });
        Ok(reports)
    }
}
