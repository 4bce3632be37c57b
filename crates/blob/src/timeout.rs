//! An end to every wait for a store.

use std::{io, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::{BlobKey, BlobStore, ByteStream, Error, Found};

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For an answer to anything but an upload.
    pub answer: Duration,
    /// For each piece of an object that is read.
    pub piece: Duration,
    /// For an upload, its body included.
    pub upload: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            piece: Duration::from_secs(30),
            upload: Duration::from_secs(300),
        }
    }
}

/// A store that answers in time or not at all.
#[derive(Clone, Debug)]
pub struct WithTimeout {
    inner: Arc<dyn BlobStore>,
    timeouts: Timeouts,
}

impl WithTimeout {
    /// Waits for `inner` no longer than this.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, timeouts: Timeouts) -> Self {
        Self { inner, timeouts }
    }

    async fn answer<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        in_time(doing, self.timeouts.answer, call).await
    }
}

async fn in_time<T>(
    doing: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout(limit, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::Unanswered { doing, why: format!("no answer within {limit:?}") }),
    }
}

#[async_trait]
impl BlobStore for WithTimeout {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        in_time("storing an object", self.timeouts.upload, self.inner.put(key, body, size)).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.answer("replacing an object", self.inner.replace(key, bytes)).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        let pieces = self.answer("reading an object", self.inner.get(key, range)).await?;
        Ok(each_in_time(pieces, self.timeouts.piece))
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        self.answer("reading an object", self.inner.read_whole(key, limit)).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        self.answer("sizing an object", self.inner.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        self.answer("deleting an object", self.inner.delete(key)).await
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        self.answer("listing objects", self.inner.walk(prefix, after, limit)).await
    }
}

fn each_in_time(pieces: ByteStream, limit: Duration) -> ByteStream {
    Box::pin(stream::try_unfold(pieces, move |mut pieces| async move {
        match timeout(limit, pieces.next()).await {
            Ok(Some(piece)) => piece.map(|piece| Some((piece, pieces))),
            Ok(None) => Ok(None),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the object store stopped sending")),
        }
    }))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{Fault, LocalDirectory, WithFaults, body, conformance};

    const SECOND: Duration = Duration::from_secs(1);

    fn store(directory: &TempDir) -> (WithTimeout, Arc<WithFaults>) {
        let local = LocalDirectory::open(directory.path()).unwrap();
        let faults = WithFaults::new(Arc::new(local));
        let timeouts = Timeouts { answer: 5 * SECOND, piece: 5 * SECOND, upload: 20 * SECOND };
        (WithTimeout::new(Arc::clone(&faults) as _, timeouts), faults)
    }

    #[tokio::test]
    async fn a_store_with_an_end_to_waiting_keeps_the_contract() {
        let directory = TempDir::new().unwrap();
        let local = LocalDirectory::open(directory.path()).unwrap();
        conformance::run(&WithTimeout::new(Arc::new(local), Timeouts::default())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_in_time_may_have_done_it() {
        let directory = TempDir::new().unwrap();
        let (store, faults) = store(&directory);
        let key = "zone/object".parse().unwrap();
        faults.script([Fault::Slow(19 * SECOND)]);
        store.put(&key, body("bytes"), 5).await.unwrap();
        faults.script([const { Fault::Slow(Duration::from_secs(21)) }; 5]);
        let unanswered = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Unanswered { .. }));
        assert!(unanswered(store.put(&key, body("bytes"), 5).await));
        assert!(unanswered(store.size(&key).await.map(drop)));
        assert!(unanswered(store.get(&key, 0..5).await.map(drop)));
        assert!(unanswered(store.list("", None, 1).await.map(drop)));
        assert!(unanswered(store.delete(&key).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_stops_ends_with_an_error() {
        let endless: ByteStream =
            Box::pin(stream::iter([Ok(Bytes::from_static(b"x"))]).chain(stream::pending()));
        let pieces: Vec<_> = each_in_time(endless, SECOND).collect().await;
        assert!(pieces[0].is_ok());
        assert_eq!(pieces[1].as_ref().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
