//! `CommitPack`.

use obscura_ids::Digest;
use obscura_proto::storage::v1::{CommitPackRequest, CommitPackResponse};

use super::{Grpc, pack_key};
use crate::{
    Error,
    index::PackRow,
    inspection::{inspect, sha256},
    store::Inserted,
};

impl Grpc {
    /// Indexes a pack. Answers the same again for a pack that is indexed already, without looking at
    /// its object; a crash before the answer therefore costs one repeated call.
    pub(super) async fn commit(&self, request: CommitPackRequest) -> Result<CommitPackResponse, Error> {
        let placement = self.placement.check(request.placement.as_ref())?;
        let (key, name) = pack_key(&request.object_key)?;
        let head_hash = Digest::try_from(&*request.directory_sha256)?;
        if name.zone != placement.zone || name.camera != placement.camera {
            return Err(Error::invalid("object key", "it is not of the camera and zone of the placement"));
        }
        if let Some(before) = self.store.pack(name.pack).await? {
            return same(&before, key.as_str(), head_hash);
        }
        let inspected = inspect(&*self.blobs, &key, &name, head_hash).await.inspect_err(|error| {
            if matches!(error, Error::Lying { .. }) {
                self.metrics.lying_objects.inc();
            }
        })?;
        let (row, runs) = PackRow::of(&inspected.directory, key, inspected.head, inspected.size);
        match self.store.insert_pack(&row, &runs).await? {
            Inserted::New => self.metrics.committed_packs.inc(),
            Inserted::Before(before) => return same(&before, row.key.as_str(), head_hash),
        };
        Ok(CommitPackResponse { segments: row.segments })
    }
}

fn same(before: &PackRow, key: &str, head_hash: Digest) -> Result<CommitPackResponse, Error> {
    if before.key.as_str() != key || sha256(&before.head) != head_hash {
        return Err(Error::CommittedOtherwise(before.pack));
    }
    Ok(CommitPackResponse { segments: before.segments })
}
