//! Long work and whoever waits for it: messages on their way, a bounded list of findings.

use obscura_proto::storage::v1 as proto;
use tokio::sync::mpsc;
use tonic::Status;

use crate::{Error, finding::Finding};

/// Findings that are told one by one; further ones are only counted.
pub const MAX_FINDINGS: u64 = 10_000;
/// Messages on their way.
const QUEUE: usize = 16;

/// Sends messages to whoever asked, or to nobody.
#[derive(Debug)]
pub struct Reporter<T>(Option<mpsc::Sender<Result<T, Status>>>);

/// What [`Reporter`] sends, as a stream of an rpc.
pub type Reports<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

impl<T: Send + 'static> Reporter<T> {
    /// For work that nobody watches.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// A reporter and the stream that it fills.
    #[must_use]
    pub fn stream() -> (Self, Reports<T>) {
        let (sender, mut receiver) = mpsc::channel(QUEUE);
        (Self(Some(sender)), Box::pin(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
    }

    /// Sends a message; waits while the reader is slow.
    ///
    /// # Errors
    /// [`Error::GoneAway`] where nobody reads any more: the work may stop.
    pub async fn send(&self, message: T) -> Result<(), Error> {
        match &self.0 {
            Some(sender) => sender.send(Ok(message)).await.map_err(|_| Error::GoneAway),
            None => Ok(()),
        }
    }

    /// Ends the stream with an error, if there is one.
    pub async fn end(self, outcome: Result<(), Error>) {
        if let (Some(sender), Err(error)) = (self.0, outcome) {
            // A reader that went away need not hear that it did.
            let _ = sender.send(Err(error.into())).await;
        }
    }
}

/// Collects findings until they are sent.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    waiting: Vec<proto::Finding>,
    total: u64,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, finding: Finding) {
        self.total = self.total.saturating_add(1);
        if self.total <= MAX_FINDINGS {
            self.waiting.push(finding.into());
        }
    }

    /// Those that were not sent yet.
    #[must_use]
    pub fn take(&mut self) -> Vec<proto::Finding> {
        std::mem::take(&mut self.waiting)
    }

    /// Those that were not sent yet, and how many never will be.
    #[must_use]
    pub fn take_last(&mut self) -> Vec<proto::Finding> {
        let rest = self.total.saturating_sub(MAX_FINDINGS);
        let words = format!("and {rest} more findings: put the first ones right and ask again");
        let rest = (rest > 0).then(|| proto::Finding { words, ..proto::Finding::default() });
        self.take().into_iter().chain(rest).collect()
    }

    /// How many there were.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use obscura_proto::storage::v1::FindingKind;

    use super::*;

    #[test]
    fn what_is_beyond_the_bound_is_counted_and_told_as_a_number() {
        let mut findings = Findings::default();
        let finding = Finding::of_object(FindingKind::ObjectOrphaned, &"eea/x".parse().unwrap(), "x");
        for _ in 0..MAX_FINDINGS + 2 {
            findings.add(finding.clone());
        }
        assert_eq!((findings.take().len() as u64, findings.total()), (MAX_FINDINGS, MAX_FINDINGS + 2));
        let last = findings.take_last();
        assert_eq!(last.len(), 1);
        assert!(last[0].words.starts_with("and 2 more"));
    }

    #[tokio::test]
    async fn work_hears_when_nobody_waits_for_it_any_more() {
        let (reporter, mut reports) = Reporter::stream();
        reporter.send(1).await.unwrap();
        assert_eq!(reports.next().await.unwrap().unwrap(), 1);
        drop(reports);
        assert!(matches!(reporter.send(2).await, Err(Error::GoneAway)));
        assert!(Reporter::nobody().send(3).await.is_ok());
    }
}
