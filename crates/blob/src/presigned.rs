//! Permission to move one object, for whoever has no keys of the bucket.

use std::{collections::BTreeMap, fmt};

use http::Uri;

/// A signed URL and the headers that it was signed with, which must be sent exactly as they are.
/// Whoever has it may use it, so it is a secret until it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct Presigned {
    /// The URL.
    pub url: String,
    /// Headers by lower-case name; `host` and, of uploads, `content-length` go without saying.
    pub headers: BTreeMap<String, String>,
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presigned").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// Whether a URL was signed for a bucket (AWS Signature Version 4, query string), and not by the
/// storage service for itself.
#[must_use]
pub fn is_presigned(url: &Uri) -> bool {
    let mut parameters = url.query().unwrap_or_default().split('&');
    parameters.any(|parameter| parameter.starts_with("X-Amz-Signature="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_the_storage_service_is_told_from_one_of_a_bucket() {
        let of_storage = "https://10.0.0.1:9000/objects/eea/x?size=1&expires=2&signature=abc";
        let of_a_bucket = "https://s3.example/footage/eea/x?X-Amz-Expires=300&X-Amz-Signature=abc";
        assert!(!is_presigned(&Uri::from_static(of_storage)));
        assert!(is_presigned(&Uri::from_static(of_a_bucket)));
        assert!(!is_presigned(&Uri::from_static("https://s3.example/X-Amz-Signature=abc")));
    }

    #[test]
    fn a_signed_url_does_not_get_into_a_log() {
        let presigned = Presigned { url: "https://s3.example/x?secret".into(), headers: BTreeMap::new() };
        assert!(!format!("{presigned:?}").contains("secret"));
    }
}
