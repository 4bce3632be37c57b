//! `ListKeptReceipts`: what custody signed comes back to a custody that lost it.

use obscura_proto::storage::v1::{ListKeptReceiptsRequest, ListKeptReceiptsResponse};

use super::Grpc;
use crate::Error;

/// Receipts in one answer.
const MAX_RECEIPTS: u64 = 100;
/// Bytes in one answer, unless one receipt alone has more: gRPC refuses 4 MiB.
const MAX_BYTES: u64 = 2 << 20;

impl Grpc {
    pub(super) async fn kept_receipts(
        &self,
        request: &ListKeptReceiptsRequest,
    ) -> Result<ListKeptReceiptsResponse, Error> {
        let receipts = self.store.receipts_after(request.after_number, MAX_RECEIPTS, MAX_BYTES).await?;
        Ok(ListKeptReceiptsResponse { receipts })
    }
}
