//! `CreateUpload`.

use obscura_clock::Timestamp;
use obscura_ids::PackId;
use obscura_pack::{HEAD_PREFIX, object_key};
use obscura_proto::storage::v1::{CreateUploadRequest, CreateUploadResponse};

use super::{Grpc, URL_VALIDITY, layer};
use crate::{Error, MAX_OBJECT_BYTES, links::Link};

impl Grpc {
    pub(super) async fn upload(&self, request: CreateUploadRequest) -> Result<CreateUploadResponse, Error> {
        let placement = self.placement.check(request.placement.as_ref())?;
        let pack: PackId = request.pack_id.parse()?;
        let start = Timestamp::from_unix_nanos(request.start_unix_ns);
        let object_key = object_key(&placement.zone, placement.camera, layer(request.layer)?, start, pack);
        let size = check_size(request.size_bytes)?;
        let expires = self.clock.wall() + URL_VALIDITY;
        let Link { url, headers } = self.links.upload(&object_key.parse()?, size, expires).await?;
        let headers = headers.into_iter().collect();
        Ok(CreateUploadResponse { url, object_key, expires_unix_ns: expires.unix_nanos(), headers })
    }
}

fn check_size(size: u64) -> Result<u64, Error> {
    if (HEAD_PREFIX as u64..=MAX_OBJECT_BYTES).contains(&size) {
        return Ok(size);
    }
    let words =
        format!("a pack has {HEAD_PREFIX} to {MAX_OBJECT_BYTES} bytes, not {size}: cut it into smaller ones");
    Err(Error::invalid("size", words))
}
