//! Whether it is one object that cannot be read, or the whole store that is away.
//!
//! A store that lost the data of an object may know its size still, and answers that it has a fault whenever somebody
//! reads it, in the same words as one that is overloaded. So others are asked for: whoever reads them is not away.

use obscura_blob::{Error as BlobError, read};

use super::{Check, Scrubber};
use crate::{Error, index::PackRow, store::Walk};

/// So many other objects are tried; a disk that went took more than one with it.
const OTHERS: u16 = 4;

/// Whether one object cannot be read, rather than the whole store not be asked or the disk be busy.
pub(super) fn is_of_object(error: &BlobError) -> bool {
    !error.may_pass() && !matches!(error, BlobError::NotFound(_) | BlobError::Refused { .. })
}

impl Check<'_> {
    /// Whether it may be the object: the store knows it, and does not read it.
    pub(super) fn may_be_of_object(&self, error: &BlobError) -> bool {
        self.has_size && matches!(error, BlobError::Unavailable { .. } | BlobError::Unanswered { .. })
    }
}

impl Scrubber {
    /// Whether the store reads any of the objects behind this one, or, at the end, of the first ones.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(super) async fn reads_others(&self, row: &PackRow) -> Result<bool, Error> {
        let behind = Walk { after: Some(row.key.clone()), limit: OTHERS, ..Walk::default() };
        let first = Walk { after: None, ..behind.clone() };
        for walk in [behind, first] {
            for other in self.store.walk(&walk).await?.iter().filter(|other| other.pack != row.pack) {
                if read(&*self.blobs, &other.key, 0..other.head_bytes()).await.is_ok() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
