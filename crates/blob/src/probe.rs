//! What a store really does, tried out before anything depends on it.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

use crate::{BlobKey, BlobStore, Error, body, read};

/// Something that a store does not do, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limitation {
    /// What it does not do.
    pub what: &'static str,
    /// What is lost.
    pub lost: &'static str,
}

impl fmt::Display for Limitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.lost)
    }
}

const CONDITIONAL: Limitation = Limitation {
    what: "the object store does not honour conditional uploads (If-None-Match)",
    lost: "whoever may upload an object once can replace it until the upload URL expires; such footage is found \
           damaged when it is verified, and cannot be brought back",
};
const RANGES: Limitation = Limitation {
    what: "the object store does not answer reads of a part of an object",
    lost: "packs cannot be committed and footage cannot be read: use another store",
};
const LISTING: Limitation = Limitation {
    what: "the object store does not list at once what was just stored",
    lost: "reconciliation and reindexing may miss the newest objects and call them missing",
};
const REPLACEMENT: Limitation = Limitation {
    what: "the object store shows old bytes after an object was replaced",
    lost: "the published checkpoint of the audit log may be older than the log, and witnesses may refuse it",
};
const DELETION: Limitation = Limitation {
    what: "the object store still shows an object after it was deleted",
    lost: "bytes stay after their retention, unreadable because their keys are destroyed: look for versioning or a \
           lock on the bucket",
};

/// Tries everything that is asked of a store on small objects below `self-test/`, and removes them.
/// The order of what is missing is that of the list above it.
///
/// # Errors
/// Where the store cannot be used at all: nobody there, wrong keys, no bucket.
pub async fn probe(store: &dyn BlobStore) -> Result<Vec<Limitation>, Error> {
    let probe = Probe { store, prefix: format!("self-test/{}/", Uuid::new_v4()) };
    let mut found = Vec::new();
    for (holds, limitation) in [
        (probe.writes_once().await?, CONDITIONAL),
        (probe.reads_ranges().await?, RANGES),
        (probe.lists_what_was_stored().await?, LISTING),
        (probe.shows_what_was_replaced().await?, REPLACEMENT),
        (probe.forgets_what_was_deleted().await?, DELETION),
    ] {
        found.extend((!holds).then_some(limitation));
    }
    Ok(found)
}

struct Probe<'a> {
    store: &'a dyn BlobStore,
    prefix: String,
}

impl Probe<'_> {
    fn key(&self, name: &str) -> Result<BlobKey, Error> {
        let key = format!("{}{name}", self.prefix).parse();
        key.map_err(|error| Error::Refused { doing: "trying the object store", why: format!("{error}") })
    }

    async fn put(&self, name: &str, bytes: &'static str) -> Result<(), Error> {
        self.store.put(&self.key(name)?, body(bytes), bytes.len() as u64).await
    }

    async fn writes_once(&self) -> Result<bool, Error> {
        self.put("once", "0123456789").await?;
        match self.put("once", "9876543210").await {
            Ok(()) => Ok(false),
            Err(Error::AlreadyExists(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn reads_ranges(&self) -> Result<bool, Error> {
        self.put("range", "0123456789").await?;
        match read(self.store, &self.key("range")?, 2..5).await {
            Ok(part) => Ok(part == "234"),
            Err(Error::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn lists_what_was_stored(&self) -> Result<bool, Error> {
        self.put("list-a", "a").await?;
        self.put("list-b", "b").await?;
        let (first, second) = (self.key("list-a")?, self.key("list-b")?);
        let prefix = format!("{}list-", self.prefix);
        let all = self.store.list(&prefix, None, 10).await?;
        let rest = self.store.list(&prefix, Some(&first), 10).await?;
        Ok(all == [first, second.clone()] && rest == [second])
    }

    async fn shows_what_was_replaced(&self) -> Result<bool, Error> {
        let key = self.key("replaced")?;
        self.store.replace(&key, Bytes::from_static(b"old")).await?;
        self.store.replace(&key, Bytes::from_static(b"newer")).await?;
        Ok(self.store.read_whole(&key, 10).await? == "newer")
    }

    async fn forgets_what_was_deleted(&self) -> Result<bool, Error> {
        for name in ["once", "range", "list-a", "list-b", "replaced"] {
            self.store.delete(&self.key(name)?).await?;
        }
        let sized = self.store.size(&self.key("once")?).await;
        Ok(matches!(sized, Err(Error::NotFound(_)))
            && self.store.list(&self.prefix, None, 10).await?.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tempfile::TempDir;

    use super::*;
    use crate::{Fault, LocalDirectory, Overwriting, WithFaults};

    fn local(directory: &TempDir) -> Arc<dyn BlobStore> {
        Arc::new(LocalDirectory::open(directory.path()).unwrap())
    }

    #[tokio::test]
    async fn a_store_that_does_everything_has_no_limitation_and_is_left_clean() {
        let directory = TempDir::new().unwrap();
        let store = local(&directory);
        assert_eq!(probe(&*store).await.unwrap(), []);
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_is_found_out_and_the_loss_is_named() {
        let directory = TempDir::new().unwrap();
        let store = Overwriting::new(local(&directory));
        let found = probe(&store).await.unwrap();
        assert_eq!(found, [CONDITIONAL]);
        assert!(found[0].to_string().contains("(If-None-Match): whoever may upload"), "{}", found[0]);
    }

    /// Which limitation shows when one of the calls of the self-test is confirmed and not done.
    async fn with_false_success(call: usize) -> Vec<Limitation> {
        let directory = TempDir::new().unwrap();
        let store = WithFaults::new(local(&directory));
        let honest = vec![Fault::None; call];
        store.script(honest.into_iter().chain([Fault::FalseSuccess]));
        probe(&*store).await.unwrap()
    }

    #[tokio::test]
    async fn a_store_that_forgets_shows_old_bytes_or_keeps_what_was_deleted_is_found_out() {
        // once, once, range, range, list-a, list-b, list, list, replaced, replaced, whole, five deletions.
        assert_eq!(with_false_success(5).await, [LISTING]);
        assert_eq!(with_false_success(9).await, [REPLACEMENT]);
        assert_eq!(with_false_success(11).await, [DELETION]);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_used_is_an_error_and_no_limitation() {
        let directory = TempDir::new().unwrap();
        let store = WithFaults::new(local(&directory));
        store.script([Fault::Unavailable]);
        assert!(matches!(probe(&*store).await, Err(Error::Unavailable { .. })));
    }
}
