//! `Reconcile`.

use std::sync::Arc;

use obscura_proto::storage::v1::{ReconcileRequest, ReconcileResponse};

use super::Grpc;
use crate::{
    Error,
    report::{Reporter, Reports},
};

impl Grpc {
    /// Custody is followed first, so that what was just destroyed is no finding.
    pub(super) fn reconciled(&self, request: ReconcileRequest) -> Result<Reports<ReconcileResponse>, Error> {
        let (reconciler, follower) = (self.upkeep.reconciler()?, self.upkeep.follower()?);
        let turn = Arc::clone(&self.upkeep.reconciling).try_lock_owned();
        let turn = turn.map_err(|_| Error::UnderWay("a reconciliation"))?;
        let (reporter, reports) = Reporter::stream();
        tokio::spawn(async move {
            let outcome = async {
                // What is not believed is no reason to count nothing: the background raises that alarm.
                match follower.catch_up().await {
                    Err(Error::Unbelievable(_)) | Ok(()) => {}
                    Err(error) => return Err(error),
                }
                reconciler.run(request.repair, &reporter).await.map(drop)
            };
            let outcome = outcome.await;
            reporter.end(outcome).await;
            drop(turn);
        });
        Ok(reports)
    }
}
