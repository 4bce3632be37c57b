//! `DescribePacks`: what the index says of packs that the audit log names.
//!
//! Nobody has to believe it: what is not what it was then does not lead to the root that the log has. The
//! ids come from the log, whose reading is in the log; so this needs no event of its own.

use std::collections::HashMap;

use obscura_ids::PackId;
use obscura_pack::Statement;
use obscura_proto::{
    footage::v1 as footage,
    storage::v1::{DescribePacksRequest, DescribePacksResponse, PackDescription},
};

use super::Grpc;
use crate::Error;

/// Packs in one request: what one leaf of the log names.
const MAX_PACKS: usize = 1_400;
/// Heads that are read from the index together.
const TOGETHER: usize = 200;

impl Grpc {
    pub(super) async fn described(
        &self,
        request: &DescribePacksRequest,
    ) -> Result<DescribePacksResponse, Error> {
        if request.pack_ids.len() > MAX_PACKS {
            let why = format!("at most {MAX_PACKS} at once, got {}", request.pack_ids.len());
            return Err(Error::invalid("pack ids", why));
        }
        let ids = request.pack_ids.iter().map(|id| id.parse()).collect::<Result<Vec<PackId>, _>>()?;
        let mut known = HashMap::with_capacity(ids.len());
        for stone in self.store.tombstones(&ids).await? {
            let deleted_unix_ns = stone.deleted.unix_nanos();
            let about = PackDescription {
                deleted_by_receipt: stone.receipt,
                deleted_unix_ns,
                ..description(&stone.statement())
            };
            known.insert(stone.pack, about);
        }
        for ids in ids.chunks(TOGETHER) {
            for row in self.store.packs_by_id(ids).await? {
                known.insert(row.pack, description(&row.statement()));
            }
        }
        Ok(DescribePacksResponse { packs: ids.iter().filter_map(|id| known.remove(id)).collect() })
    }
}

fn description(statement: &Statement) -> PackDescription {
    let Statement { pack, camera, layer, span, head } = statement;
    PackDescription {
        pack_id: pack.to_string(),
        camera_id: camera.to_string(),
        layer: layer.code().into(),
        span: Some(footage::Span {
            start_unix_ns: span.start().unix_nanos(),
            end_unix_ns: span.end().unix_nanos(),
        }),
        head_sha256: head.as_bytes().to_vec().into(),
        deleted_by_receipt: 0,
        deleted_unix_ns: 0,
    }
}
