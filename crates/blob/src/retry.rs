//! Patience with a store that fails now and then.
//!
//! Only what may pass is tried again, a bounded number of times, later and later and never in step
//! with others. A repeated upload that meets an object is not simply called a success: it is one only
//! where an earlier attempt was never answered, and the object has these very bytes.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::{BlobKey, BlobStore, ByteStream, Error, Found};

/// Bodies up to this size are kept so that they can be sent again; larger ones get one attempt here,
/// and come again from whoever has them.
const REPLAYED: u64 = 8 * 1024 * 1024;

/// How often, and how long apart.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: usize,
    /// Pause before the second attempt; doubled each time, and up to as much again by chance.
    pub first: Duration,
    /// Longest pause before chance.
    pub longest: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries: 4, first: Duration::from_millis(100), longest: Duration::from_secs(5) }
    }
}

/// The pauses between attempts.
pub(crate) fn delays(policy: RetryPolicy) -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(policy.first)
        .with_max_delay(policy.longest)
        .with_max_times(policy.retries)
        .build()
}

/// A store whose passing failures are waited out.
#[derive(Clone, Debug)]
pub struct WithRetry {
    inner: Arc<dyn BlobStore>,
    policy: RetryPolicy,
}

impl WithRetry {
    /// Tries again what fails in `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn BlobStore>, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// Repeats what may be repeated: doing it twice is doing it once.
    async fn patiently<T, F: Future<Output = Result<T, Error>> + Send>(
        &self,
        attempt: impl Fn() -> F + Send,
    ) -> Result<T, Error> {
        for delay in delays(self.policy) {
            match attempt().await {
                Err(error) if error.may_pass() => pause(&error, delay).await,
                outcome => return outcome,
            }
        }
        attempt().await
    }

    async fn put_again(&self, key: &BlobKey, bytes: &[Bytes], size: u64) -> Result<(), Error> {
        let mut outcome = Outcome::Known;
        for delay in delays(self.policy) {
            match self.attempt(key, bytes, size, &mut outcome).await {
                Err(error) if error.may_pass() => pause(&error, delay).await,
                result => return result,
            }
        }
        self.attempt(key, bytes, size, &mut outcome).await
    }

    async fn attempt(
        &self,
        key: &BlobKey,
        bytes: &[Bytes],
        size: u64,
        earlier: &mut Outcome,
    ) -> Result<(), Error> {
        let body = Box::pin(stream::iter(bytes.to_vec()).map(Ok));
        match (self.inner.put(key, body, size).await, *earlier) {
            (Err(Error::AlreadyExists(_)), Outcome::Unknown) => self.is_ours(key, bytes, size).await,
            (Err(error @ Error::Unanswered { .. }), _) => {
                *earlier = Outcome::Unknown;
                Err(error)
            }
            // What this attempt did not do, an earlier one may have done.
            (Err(Error::Unavailable { doing, why }), Outcome::Unknown) => {
                Err(Error::Unanswered { doing, why })
            }
            (result, _) => result,
        }
    }

    /// Whether the object is what an earlier attempt stored without saying so.
    async fn is_ours(&self, key: &BlobKey, bytes: &[Bytes], size: u64) -> Result<(), Error> {
        match self.read_whole(key, size).await {
            Ok(stored) if bytes.iter().flatten().eq(stored.iter()) => Ok(()),
            Ok(_) | Err(Error::TooLarge { .. }) => Err(Error::AlreadyExists(key.clone())),
            Err(Error::NotFound(_)) => Err(Error::Unanswered {
                doing: "storing an object",
                why: "it says that the object is there, and does not have it".into(),
            }),
            Err(error) => Err(error),
        }
    }
}

/// Whether it is known what an earlier attempt did.
#[derive(Clone, Copy)]
enum Outcome {
    /// Nothing.
    Known,
    /// Everything or nothing.
    Unknown,
}

async fn pause(error: &Error, delay: Duration) {
    tracing::debug!(%error, ?delay, "the object store failed; trying again");
    tokio::time::sleep(delay).await;
}

#[async_trait]
impl BlobStore for WithRetry {
    async fn put(&self, key: &BlobKey, body: ByteStream, size: u64) -> Result<(), Error> {
        if size > REPLAYED {
            return self.inner.put(key, body, size).await;
        }
        let bytes = collect(body, size).await?;
        self.put_again(key, &bytes, size).await
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        self.patiently(|| self.inner.replace(key, bytes.clone())).await
    }

    async fn get(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream, Error> {
        self.patiently(|| self.inner.get(key, range.clone())).await
    }

    async fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        self.patiently(|| self.inner.read_whole(key, limit)).await
    }

    async fn size(&self, key: &BlobKey) -> Result<u64, Error> {
        self.patiently(|| self.inner.size(key)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        self.patiently(|| self.inner.delete(key)).await
    }

    async fn walk(&self, prefix: &str, after: Option<&BlobKey>, limit: usize) -> Result<Vec<Found>, Error> {
        self.patiently(|| self.inner.walk(prefix, after, limit)).await
    }
}

/// A body in memory, if it has the size that was announced.
async fn collect(mut body: ByteStream, size: u64) -> Result<Vec<Bytes>, Error> {
    let (mut pieces, mut received) = (Vec::new(), 0_u64);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(Error::Body)?;
        received = received.saturating_add(piece.len() as u64);
        if received > size {
            break;
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
    }
    if received != size {
        return Err(Error::WrongSize { announced: size, received });
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{Fault, LocalDirectory, WithFaults, body, conformance, read};

    struct Patient {
        store: WithRetry,
        faults: Arc<WithFaults>,
        _directory: TempDir,
    }

    impl Patient {
        fn new() -> Self {
            let directory = TempDir::new().unwrap();
            let local = LocalDirectory::open(directory.path()).unwrap();
            let faults = WithFaults::new(Arc::new(local));
            let policy = RetryPolicy {
                retries: 3,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(4),
            };
            let store = WithRetry::new(Arc::clone(&faults) as _, policy);
            Self { store, faults, _directory: directory }
        }

        async fn put(&self, bytes: &'static str) -> Result<(), Error> {
            self.store.put(&key(), body(bytes), bytes.len() as u64).await
        }
    }

    fn key() -> BlobKey {
        "zone/object".parse().unwrap()
    }

    #[tokio::test]
    async fn a_patient_store_keeps_the_contract() {
        conformance::run(&Patient::new().store).await;
    }

    #[tokio::test]
    async fn what_passes_is_waited_out_and_what_does_not_is_told() {
        let patient = Patient::new();
        for fault in [Fault::Unavailable, Fault::ResetBefore, Fault::ResetAfter] {
            patient.faults.script([fault, fault]);
            patient.put("bytes").await.unwrap();
            patient.faults.script([fault, fault]);
            assert_eq!(patient.store.size(&key()).await.unwrap(), 5);
            patient.faults.script([fault, fault]);
            assert_eq!(read(&patient.store, &key(), 0..5).await.unwrap(), "bytes");
            patient.faults.script([fault, fault]);
            patient.store.delete(&key()).await.unwrap();
        }
        patient.faults.script([const { Fault::Unavailable }; 4]);
        assert!(matches!(patient.put("bytes").await, Err(Error::Unavailable { .. })), "it gives up");
        assert_eq!(patient.faults.left(), 0, "after four attempts");
    }

    #[tokio::test]
    async fn an_upload_that_happened_without_an_answer_is_a_success_when_it_is_ours() {
        let patient = Patient::new();
        patient.faults.script([Fault::ResetAfter, Fault::Unavailable]);
        patient.put("bytes").await.unwrap();
        assert_eq!(patient.faults.left(), 0);
        assert_eq!(patient.store.read_whole(&key(), 5).await.unwrap(), "bytes");
    }

    #[tokio::test]
    async fn an_object_of_somebody_else_is_never_taken_for_ours() {
        let patient = Patient::new();
        patient.put("first").await.unwrap();
        for script in [vec![], vec![Fault::Unavailable], vec![Fault::ResetBefore], vec![Fault::ResetAfter]] {
            patient.faults.script(script);
            for other in ["other", "longer"] {
                assert!(matches!(patient.put(other).await, Err(Error::AlreadyExists(_))));
            }
        }
        patient.faults.script([Fault::Unavailable]);
        let same = patient.put("first").await;
        assert!(matches!(same, Err(Error::AlreadyExists(_))), "we did not store it: {same:?}");
    }

    #[tokio::test]
    async fn that_an_upload_may_have_happened_is_never_hidden() {
        let patient = Patient::new();
        patient.faults.script([
            Fault::ResetAfter,
            Fault::Unavailable,
            Fault::Unavailable,
            Fault::Unavailable,
        ]);
        let outcome = patient.put("bytes").await;
        assert!(matches!(outcome, Err(Error::Unanswered { .. })), "{outcome:?}");
        assert_eq!(patient.store.size(&key()).await.unwrap(), 5, "it did");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_answers_later_than_anybody_waits_has_the_object_once_and_the_caller_hears_so() {
        let directory = TempDir::new().unwrap();
        let faults = WithFaults::new(Arc::new(LocalDirectory::open(directory.path()).unwrap()));
        let short = Duration::from_millis(300);
        let timeouts = crate::Timeouts { answer: short, piece: short, upload: short };
        let timely = crate::WithTimeout::new(Arc::clone(&faults) as _, timeouts);
        let first = Duration::from_millis(1);
        let store = WithRetry::new(Arc::new(timely), RetryPolicy { retries: 3, first, longest: first });
        let late = Fault::Late(Duration::from_secs(3_600));
        faults.script([late, late]);
        store.put(&key(), body("bytes"), 5).await.unwrap();
        assert_eq!((faults.left(), store.read_whole(&key(), 5).await.unwrap()), (0, "bytes".into()));
        faults.script([late, late]);
        store.delete(&key()).await.unwrap();
        assert!(matches!(store.size(&key()).await, Err(Error::NotFound(_))));
    }

    #[tokio::test]
    async fn half_an_upload_is_sent_again_whole() {
        let patient = Patient::new();
        patient.faults.script([Fault::HalfUpload, Fault::HalfUpload]);
        patient.put("bytes").await.unwrap();
        assert_eq!(patient.store.read_whole(&key(), 5).await.unwrap(), "bytes");
    }

    #[test]
    fn pauses_grow_within_bounds_and_differ() {
        let policy =
            RetryPolicy { retries: 6, first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let pauses: Vec<Duration> = delays(policy).collect();
        assert_eq!(pauses.len(), 6);
        assert!(
            pauses.iter().all(|pause| *pause >= policy.first && *pause <= 2 * policy.longest),
            "{pauses:?}"
        );
        assert_ne!(pauses, delays(policy).collect::<Vec<_>>());
    }
}
