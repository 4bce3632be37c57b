//! URLs that carry their own permission.

use std::{collections::BTreeMap, time::Duration};

use jiff_of_s3::Timestamp as SigningTime;
use rusty_s3::S3Action;
use url::Url;

use super::{OWN, S3Bucket};
use crate::{BlobKey, Presigned};

/// The condition under which an object is written.
pub(super) const CONDITION: (&str, &str) = ("if-none-match", "*");

impl S3Bucket {
    /// Permission to upload exactly `size` bytes as the object, once: the length and the condition
    /// that there is no object yet are signed. It holds for `valid` (1 s to 7 days) from now.
    #[must_use]
    pub fn presign_put(&self, key: &BlobKey, size: u64, valid: Duration) -> Presigned {
        let mut action = self.bucket.put_object(Some(&self.credentials), key.as_str());
        action.headers_mut().insert("content-length", size.to_string());
        action.headers_mut().insert(CONDITION.0, CONDITION.1);
        let url = action.sign_with_time(valid, &self.signing_time());
        Presigned {
            url: url.into(),
            headers: BTreeMap::from([(CONDITION.0.to_owned(), CONDITION.1.to_owned())]),
        }
    }

    /// Permission to read the object, in ranges or whole, for `valid` (1 s to 7 days) from now.
    #[must_use]
    pub fn presign_get(&self, key: &BlobKey, valid: Duration) -> Presigned {
        let action = self.bucket.get_object(Some(&self.credentials), key.as_str());
        let url = action.sign_with_time(valid, &self.signing_time());
        Presigned { url: url.into(), headers: BTreeMap::new() }
    }

    /// Signs an own request.
    pub(super) fn sign<'a>(&self, action: &impl S3Action<'a>) -> Url {
        action.sign_with_time(OWN, &self.signing_time())
    }

    fn signing_time(&self) -> SigningTime {
        let nanos = i128::from(self.clock.wall().unix_nanos());
        SigningTime::from_nanosecond(nanos).unwrap_or(SigningTime::UNIX_EPOCH)
    }
}
