//! `DescribePacks`: what the index says of packs that the audit log names.
//!
//! Nobody has to believe it: hashes that are not those of then do not lead to the root that the log has. The
//! ids come from the log, whose reading is in the log; so this needs no event of its own.

use std::collections::HashMap;

use obscura_clock::Span;
use obscura_ids::{CameraId, Digest, Layer, PackId};
use obscura_proto::{
    footage::v1 as footage,
    storage::v1::{DescribePacksRequest, DescribePacksResponse, PackDescription},
};

use super::Grpc;
use crate::{Error, inspection::sha256};

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
            let about = description(stone.pack, stone.camera, stone.layer, stone.span, stone.root);
            known.insert(stone.pack, PackDescription { deleted_by_receipt: stone.receipt, ..about });
        }
        for ids in ids.chunks(TOGETHER) {
            for row in self.store.packs_by_id(ids).await? {
                let about = description(row.pack, row.camera, row.layer, row.span, sha256(&row.head));
                known.insert(row.pack, about);
            }
        }
        Ok(DescribePacksResponse { packs: ids.iter().filter_map(|id| known.remove(id)).collect() })
    }
}

fn description(pack: PackId, camera: CameraId, layer: Layer, span: Span, head: Digest) -> PackDescription {
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
    }
}
