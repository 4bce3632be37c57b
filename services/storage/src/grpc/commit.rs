//! `CommitPack`.

use obscura_blob::Error as BlobError;
use obscura_ids::Digest;
use obscura_proto::storage::v1::{CommitPackRequest, CommitPackResponse};

use super::{Grpc, pack_key};
use crate::{
    Error,
    index::PackRow,
    inspection::inspect,
    store::{Inserted, Tombstone},
};

impl Grpc {
    /// Indexes a pack. Answers the same again for a pack that is indexed already; a crash before the
    /// answer therefore costs one repeated call.
    ///
    /// The recorder lets go of its copy after this answer, so the object is looked at once more when the
    /// row is there: a store may have said that it kept what it lost a moment later.
    pub(super) async fn commit(&self, request: CommitPackRequest) -> Result<CommitPackResponse, Error> {
        let placement = self.placement.check(request.placement.as_ref())?;
        let (key, name) = pack_key(&request.object_key)?;
        let head_hash = Digest::try_from(&*request.directory_sha256)?;
        if name.zone != placement.zone || name.camera != placement.camera {
            return Err(Error::invalid("object key", "it is not of the camera and zone of the placement"));
        }
        if let Some(before) = self.store.pack(name.pack).await? {
            return self.again(&before, key.as_str(), head_hash).await;
        }
        if let Some(stone) = self.store.tombstone(name.pack).await? {
            return buried(&stone, head_hash);
        }
        let inspected = inspect(&*self.blobs, &key, &name, Some(head_hash)).await.inspect_err(|error| {
            if matches!(error, Error::Lying { .. }) {
                self.metrics.lying_objects.inc();
            }
        })?;
        let (row, runs) = PackRow::of(inspected.directory, key, inspected.size);
        match self.store.insert_pack(&row, &runs, self.clock.wall()).await? {
            Inserted::New => self.metrics.committed_packs.inc(),
            Inserted::Before(before) => return self.again(&before, row.key.as_str(), head_hash).await,
            Inserted::Buried(stone) => return buried(&stone, head_hash),
        };
        self.still_there(&row).await?;
        Ok(CommitPackResponse { segments: row.segments })
    }

    async fn again(
        &self,
        before: &PackRow,
        key: &str,
        head_hash: Digest,
    ) -> Result<CommitPackResponse, Error> {
        if before.key.as_str() != key || before.statement().head != head_hash {
            return Err(Error::CommittedOtherwise(before.pack));
        }
        self.still_there(before).await?;
        Ok(CommitPackResponse { segments: before.segments })
    }

    async fn still_there(&self, row: &PackRow) -> Result<(), Error> {
        match self.blobs.size(&row.key).await {
            Ok(size) if size == row.bytes => Ok(()),
            Ok(_) | Err(BlobError::NotFound(_)) => Err(Error::Vanished(row.key.clone())),
            Err(error) => Err(error.into()),
        }
    }
}

/// A recorder may ask again after the pack's time is over.
fn buried(stone: &Tombstone, head_hash: Digest) -> Result<CommitPackResponse, Error> {
    if stone.root != head_hash {
        return Err(Error::CommittedOtherwise(stone.pack));
    }
    Ok(CommitPackResponse { segments: stone.segments })
}
