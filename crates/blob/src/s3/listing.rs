//! Keys in the order of their bytes, level by level.
//!
//! S3 promises that order, and stores that keep a tree of directories (SeaweedFS) break it: there
//! `a/1` comes before `a-b/1`. Asked for one level at a time and sorted here, every store agrees. A
//! level is read whole, which for a day of one camera is a page or two.

use http::{Request, StatusCode};
use rusty_s3::actions::{ListObjectsV2, ListObjectsV2Response};

use super::{S3Bucket, answer};
use crate::{BlobKey, Error, Found};

const DOING: &str = "listing objects";
/// Names in one answer; S3 gives no more.
const PAGE: usize = 1_000;
/// Bytes of one answer: a page of keys with what is said about each.
const ANSWER: usize = 4 * 1024 * 1024;
/// Answers for one level.
const PAGES: usize = 1_000;

impl S3Bucket {
    pub(super) async fn walk_keys(
        &self,
        prefix: &str,
        after: Option<&BlobKey>,
        limit: usize,
    ) -> Result<Vec<Found>, Error> {
        let after = after.map_or("", BlobKey::as_str);
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        // What is still to be looked at, the next on top.
        let mut names = self.level(prefix).await?;
        while let Some((name, size)) = names.pop() {
            if name.ends_with('/') {
                let all_before = after > name.as_str() && !after.starts_with(&name);
                if !all_before && name.trim_end_matches('/').parse::<BlobKey>().is_ok() {
                    names.extend(self.level(&name).await?);
                }
            } else if name.as_str() > after
                && let Ok(key) = name.parse()
            {
                found.push(Found { key, size });
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The keys that start with `prefix`, each cut behind the next `/`, and the sizes of objects; in falling
    /// order.
    async fn level(&self, prefix: &str) -> Result<Vec<(String, Option<u64>)>, Error> {
        let mut names = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let page = self.page(prefix, token.as_deref()).await?;
            names.extend(page.contents.into_iter().map(|object| (object.key, object.size)));
            names.extend(page.common_prefixes.into_iter().map(|level| (level.prefix, None)));
            token = page.next_continuation_token;
            if token.is_none() {
                // Names that are not below the prefix would have us go round for ever.
                names.retain(|(name, _)| name.starts_with(prefix) && name != prefix);
                names.sort_unstable_by(|one, other| other.cmp(one));
                names.dedup_by(|one, other| one.0 == other.0);
                return Ok(names);
            }
        }
        let why = format!("a level of the bucket has more than {} names", PAGES * PAGE);
        Err(Error::Refused { doing: DOING, why })
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<ListObjectsV2Response, Error> {
        let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
        action.with_prefix(prefix);
        action.with_delimiter("/");
        action.with_max_keys(PAGE);
        if let Some(token) = token {
            action.with_continuation_token(token);
        }
        let response = self.ask(DOING, Request::get(self.sign(&action).as_str())).await?;
        if response.status() != StatusCode::OK {
            return Err(answer::refusal(DOING, response).await);
        }
        let text = answer::text(DOING, response, ANSWER).await?;
        ListObjectsV2::parse_response(&String::from_utf8_lossy(&text)).map_err(|_| answer::nonsense(DOING))
    }
}
