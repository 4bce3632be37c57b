//! Gaps go into the index.

use obscura_proto::storage::v1::RecordGapsRequest;

use super::Uploader;

/// Gaps in one call; the limit of `RecordGaps`.
const BATCH: usize = 1_000;
/// Calls in one round: enough to narrow a full batch down to the one gap that storage refuses and to grow
/// again, and few enough that packs do not wait for them.
const MOST_CALLS: usize = 24;

impl Uploader {
    /// Tells what waits. What storage refuses waits alone, and holds up nothing else.
    pub(super) async fn send_gaps(&self) {
        for _ in 0..MOST_CALLS {
            let now = self.clock.monotonic();
            let (serials, gaps) = self.outbox.gap_batch(BATCH, now);
            if gaps.is_empty() || !self.index_away.may_try(now) {
                return;
            }
            let mut storage = self.storage.clone();
            match self.patience.call(storage.record_gaps(RecordGapsRequest { gaps })).await {
                Ok(_) => {
                    self.index_away.over();
                    self.free(&serials);
                    self.outbox.gaps_done(&serials);
                }
                Err(fault) if fault.is_outage() => {
                    self.index_away.goes_on(self.clock.monotonic(), &fault.cause);
                    return;
                }
                Err(fault) => {
                    if self.outbox.gaps_refused(&serials, now) {
                        tracing::error!(
                            cause = fault.cause,
                            "storage refuses a gap; it waits in the spool and is tried again: update storage, or remove the cause"
                        );
                    }
                }
            }
        }
    }
}
