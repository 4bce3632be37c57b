//! A store that fails as told.

use std::{
    collections::VecDeque,
    io,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::{BlobKey, BlobStore, ByteStream, Error, Found};

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// 503: the store says that it cannot now, and does nothing.
    Unavailable,
    /// The store takes its time, and then does it.
    Slow(Duration),
    /// The store does it at once, and answers only after so long.
    Late(Duration),
    /// The connection ends in the middle of the bytes: of an upload nothing is stored, of a download the rest is missing.
    HalfUpload,
    /// A success that was not one: uploads, replacements and deletions are confirmed and not done.
    FalseSuccess,
    /// The connection is reset before anything was done.
    ResetBefore,
    /// The connection is reset after it was done.
    ResetAfter,
    /// The disk cannot do it (EIO), and nothing was done.
    BadSector,
    /// The disk cannot do it now (EBUSY), and nothing was done.
    Busy,
}

/// A store to whose calls the faults of a script happen, one call after the other; then none.
#[derive(Debug)]
pub struct WithFaults {
    inner: Arc<dyn BlobStore>,
    script: Mutex<VecDeque<Fault>>,
}

impl WithFaults {
    /// Fails for `inner`; without a script not at all.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>) -> Arc<Self> {
        Arc::new(Self { inner, script: Mutex::default() })
    }

    /// What happens to the next calls, instead of what is left of the script before.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        *self.faults() = faults.into_iter().collect();
    }

    /// Faults of the script that did not happen yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.faults().len()
    }

    fn faults(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to this call, once its delay is over.
    async fn next(&self) -> Fault {
        let fault = self.faults().pop_front().unwrap_or(Fault::None);
        if let Fault::Slow(delay) = fault {
            tokio::time::sleep(delay).await;
        }
        fault
    }

    /// A call that changes something.
    async fn change(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<(), Error>> + Send,
    ) -> Result<(), Error> {
        match self.next().await {
            Fault::FalseSuccess => Ok(()),
            fault => afflict(fault, doing, call).await,
        }
    }

    /// A call that does not.
    async fn ask<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        afflict(self.next().await, doing, call).await
    }
}

async fn afflict<T>(
    fault: Fault,
    doing: &'static str,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match fault {
        Fault::None | Fault::Slow(_) | Fault::FalseSuccess => call.await,
        Fault::Unavailable => {
            Err(Error::Unavailable { doing, why: "it has too much to do (503 SlowDown)".into() })
        }
        Fault::HalfUpload | Fault::ResetBefore => Err(reset(doing)),
        Fault::ResetAfter => call.await.and(Err(reset(doing))),
        Fault::BadSector => Err(Error::Io { doing, source: io::Error::other("input/output error") }),
        Fault::Busy => Err(Error::Io { doing, source: io::ErrorKind::ResourceBusy.into() }),
        Fault::Late(delay) => {
            let outcome = call.await;
            tokio::time::sleep(delay).await;
            outcome
        }
    }
}

fn reset(doing: &'static str) -> Error {
    Error::Unanswered { doing, why: "the connection was reset".into() }
}

#[async_trait]
impl BlobStore for WithFaults {
    async fn put(&self, key: &BlobKey, mut body: ByteStream, size: u64) -> Result<(), Error> {
        const DOING: &str = "storing an object";
        match self.next().await {
            Fault::FalseSuccess => {
                while body.next().await.is_some() {}
                Ok(())
            }
            Fault::HalfUpload => match self.inner.put(key, half(body, size), size).await {
                Err(Error::Body(_)) => Err(reset(DOING)),
                outcome => outcome,
            },
            fault => afflict(fault, DOING, self.inner.put(key, body, size)).await,
        }
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.change("replacing an object", self.inner.replace(key, bytes)).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        const DOING: &str = "reading an object";
        let length = range.end.saturating_sub(range.start);
        match self.next().await {
            Fault::HalfUpload => Ok(half(self.inner.get(key, range).await?, length)),
            fault => afflict(fault, DOING, self.inner.get(key, range)).await,
        }
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        self.ask("reading an object", self.inner.read_whole(key, limit)).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        self.ask("sizing an object", self.inner.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        self.change("deleting an object", self.inner.delete(key)).await
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        self.ask("listing objects", self.inner.walk(prefix, after, limit)).await
    }
}

/// The first half of some bytes, then a broken connection.
fn half(body: ByteStream, size: u64) -> ByteStream {
    Box::pin(stream::unfold((body, Some(size / 2)), |(mut body, left)| async move {
        let left = left?;
        match body.next().await {
            Some(Ok(piece)) if piece.len() as u64 <= left => {
                let left = left - piece.len() as u64;
                Some((Ok(piece), (body, Some(left))))
            }
            Some(Ok(piece)) if left > 0 => {
                let piece = piece.slice(..usize::try_from(left).unwrap_or(0).min(piece.len()));
                Some((Ok(piece), (body, Some(0))))
            }
            _ => Some((Err(io::ErrorKind::ConnectionReset.into()), (body, None))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{LocalDirectory, body, conformance, read};

    fn store(directory: &TempDir) -> Arc<WithFaults> {
        WithFaults::new(Arc::new(LocalDirectory::open(directory.path()).unwrap()))
    }

    fn key() -> BlobKey {
        "zone/object".parse().unwrap()
    }

    #[tokio::test]
    async fn without_a_script_the_contract_is_kept() {
        conformance::run(&*store(&TempDir::new().unwrap())).await;
    }

    #[tokio::test]
    async fn each_fault_leaves_what_it_says() {
        for (fault, stored) in [
            (Fault::Unavailable, false),
            (Fault::HalfUpload, false),
            (Fault::FalseSuccess, false),
            (Fault::ResetBefore, false),
            (Fault::ResetAfter, true),
            (Fault::BadSector, false),
            (Fault::Busy, false),
            (Fault::Slow(Duration::from_millis(1)), true),
            (Fault::Late(Duration::from_millis(1)), true),
        ] {
            let directory = TempDir::new().unwrap();
            let store = store(&directory);
            store.script([fault]);
            let said = store.put(&key(), body("bytes"), 5).await;
            assert_eq!(
                said.is_ok(),
                matches!(fault, Fault::FalseSuccess | Fault::Slow(_) | Fault::Late(_)),
                "{fault:?}"
            );
            assert_eq!(store.size(&key()).await.is_ok(), stored, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn half_a_download_ends_with_an_error() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        store.put(&key(), body("0123456789"), 10).await.unwrap();
        store.script([Fault::HalfUpload]);
        assert!(read(&*store, &key(), 0..10).await.is_err());
        assert_eq!(read(&*store, &key(), 0..10).await.unwrap(), "0123456789");
    }
}
