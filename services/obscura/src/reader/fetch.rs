//! Sealed bytes from signed URLs: neighbours together, within bounds.
//!
//! The URL says whether the storage service has them or a bucket. Neither is trusted with more than
//! keeping bytes: what comes is verified, never more than was asked for, and redirects are refused.

use std::{collections::BTreeMap, fs, io, ops::Range, path::PathBuf, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{StatusCode, header::RANGE};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use obscura_blob::{WebClient, WebTrust, is_presigned};
use obscura_identity::{BoxBody, HttpClient};
use serde::Deserialize;
use tokio::time::timeout;

use super::{Cause, Located};
use crate::{
    installation::Installation,
    problem::{Context as _, Result as Answer},
    services::Services,
};

/// Neighbouring segments are fetched together up to this many bytes.
const RUN_BYTES: u64 = 8 * 1024 * 1024;
/// Longest wait for the answer, and for each piece of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Speaks to whoever keeps the objects.
#[derive(Clone, Debug)]
pub struct Source {
    storage: HttpClient,
    buckets: WebClient,
}

impl Source {
    /// The storage service of these services, and the buckets that it may send us to.
    pub fn of(services: &Services) -> Answer<Self> {
        let storage = HttpClient::new(services.identity(), "storage");
        let trust = bucket_trust(services.installation()).doing("read [settings.s3] of storage")?;
        let buckets = WebClient::new(&trust).doing("use `ca_file` in [settings.s3] of storage")?;
        Ok(Self { storage, buckets })
    }

    async fn send(&self, request: http::Request<BoxBody>) -> Result<http::Response<Incoming>, Cause> {
        if is_presigned(request.uri()) {
            self.buckets.send(request.map(BodyExt::boxed_unsync)).await.map_err(unreachable)
        } else {
            self.storage.send(request).await.map_err(unreachable)
        }
    }
}

/// The part of storage's configuration that its readers need too.
#[derive(Debug, Default, Deserialize)]
struct StorageConfig {
    #[serde(default)]
    settings: StorageSettings,
}

#[derive(Debug, Default, Deserialize)]
struct StorageSettings {
    s3: Option<BucketSettings>,
}

#[derive(Debug, Default, Deserialize)]
struct BucketSettings {
    ca_file: Option<PathBuf>,
    #[serde(default)]
    allow_http: bool,
}

fn bucket_trust(installation: &Installation) -> io::Result<WebTrust> {
    let text = match fs::read_to_string(installation.config_file("storage")) {
        Err(absent) if absent.kind() == io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let config: StorageConfig = toml::from_str(&text).map_err(io::Error::other)?;
    let settings = config.settings.s3.unwrap_or_default();
    Ok(WebTrust { ca: settings.ca_file.map(fs::read).transpose()?, allow_http: settings.allow_http })
}

/// Fetches ranges of objects.
#[derive(Debug)]
pub struct Fetch {
    source: Source,
    urls: BTreeMap<String, http::Uri>,
}

impl Fetch {
    /// Fetches the objects with these URLs.
    pub fn new(source: Source, urls: BTreeMap<String, http::Uri>) -> Self {
        Self { source, urls }
    }

    /// The sealed bytes of neighbouring segments, each apart.
    pub async fn run(&self, run: &[Located]) -> Vec<Result<Bytes, Cause>> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return Vec::new() };
        let fetched = self.available(&first.object_key, first.object_offset..last.bytes().end).await;
        run.iter().map(|located| part(&fetched, first.object_offset, located)).collect()
    }

    /// Exactly this range.
    pub async fn range(&self, object_key: &str, range: Range<u64>) -> Result<Bytes, Cause> {
        let fetched = self.available(object_key, range.clone()).await?;
        whole(fetched, range)
    }

    /// As much of the range as the object has.
    async fn available(&self, object_key: &str, range: Range<u64>) -> Result<Bytes, Cause> {
        let url = self.urls.get(object_key).ok_or(Cause::Missing)?;
        let request = http::Request::get(url.clone())
            .header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)))
            .body(Empty::<Bytes>::new().map_err(|never| match never {}).boxed())
            .map_err(unreachable)?;
        let response = match timeout(PATIENCE, self.source.send(request)).await {
            Ok(response) => response?,
            Err(_) => return Err(unreachable(format_args!("no answer within {} s", PATIENCE.as_secs()))),
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT => body(response.into_body(), range.end - range.start).await,
            StatusCode::NOT_FOUND => Err(Cause::Missing),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(Bytes::new()),
            other => Err(unreachable(format_args!("storage says {other}"))),
        }
    }
}

fn unreachable(why: impl std::fmt::Display) -> Cause {
    Cause::Unreachable(why.to_string())
}

/// The body, never more than was asked for.
async fn body(mut body: Incoming, asked: u64) -> Result<Bytes, Cause> {
    let mut bytes = BytesMut::new();
    loop {
        let frame = timeout(PATIENCE, body.frame()).await.map_err(|_| unreachable("the transfer stopped"))?;
        let Some(frame) = frame else { return Ok(bytes.freeze()) };
        let Ok(data) = frame.map_err(unreachable)?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if u64::try_from(bytes.len()).is_ok_and(|length| length > asked) {
            return Err(unreachable("storage sent more than was asked for"));
        }
    }
}

/// The part of a run that belongs to one segment.
fn part(fetched: &Result<Bytes, Cause>, start: u64, located: &Located) -> Result<Bytes, Cause> {
    let fetched = fetched.as_ref().map_err(Clone::clone)?;
    let range = located.bytes();
    let in_run = |position: u64| usize::try_from(position.saturating_sub(start)).unwrap_or(usize::MAX);
    let (from, to) = (in_run(range.start), in_run(range.end));
    whole(fetched.slice(from.min(fetched.len())..to.min(fetched.len())), range)
}

/// Refuses bytes that are fewer than their range.
fn whole(bytes: Bytes, range: Range<u64>) -> Result<Bytes, Cause> {
    let there = range.start.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    if there < range.end {
        return Err(Cause::Cut { first: there, last: range.end - 1 });
    }
    Ok(bytes)
}

/// Splits segments into runs that lie back to back in one object, each within bounds.
pub fn runs(segments: Vec<Located>) -> Vec<Vec<Located>> {
    let mut runs: Vec<Vec<Located>> = Vec::new();
    for located in segments {
        match runs.last_mut() {
            Some(run) if continues(run, &located) => run.push(located),
            _ => runs.push(vec![located]),
        }
    }
    runs
}

fn continues(run: &[Located], next: &Located) -> bool {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
    last.object_key == next.object_key
        && last.bytes().end == next.object_offset
        && next.bytes().end - first.object_offset <= RUN_BYTES
}

#[cfg(test)]
mod tests {
    use obscura_blob::{BlobStore as _, S3Bucket, S3Settings, body as body_of};
    use obscura_clock::SystemClock;
    use obscura_identity::{Ca, Identity};
    use obscura_test_servers::seaweedfs;

    use super::*;
    use crate::reader::open::samples::located;

    fn at(object_key: &str, offset: u64, length: u64) -> Located {
        let mut located = located(0);
        (located.object_key, located.object_offset, located.entry.length) =
            (object_key.into(), offset, length);
        located
    }

    #[test]
    fn neighbours_are_fetched_together_within_bounds() {
        let half = RUN_BYTES / 2;
        let segments = vec![
            at("a", 100, half),
            at("a", 100 + half, half),
            at("a", 100 + 2 * half, 10),
            at("a", 200 + 2 * half, 10),
            at("b", 210 + 2 * half, 10),
        ];
        let lengths: Vec<_> = runs(segments).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
    }

    #[test]
    fn a_cut_object_costs_only_the_segments_behind_the_cut() {
        let run = [at("a", 100, 10), at("a", 110, 10), at("a", 120, 10)];
        let fetched = Ok(Bytes::from_static(b"0123456789abcde"));
        let parts: Vec<_> = run.iter().map(|located| part(&fetched, 100, located)).collect();
        assert_eq!(parts[0], Ok(Bytes::from_static(b"0123456789")));
        assert_eq!(parts[1], Err(Cause::Cut { first: 115, last: 119 }));
        assert_eq!(parts[2], Err(Cause::Cut { first: 120, last: 129 }));
    }

    async fn from_bucket() -> (S3Bucket, Fetch) {
        let server = seaweedfs::shared();
        let (access_key, secret_key) = server.credentials();
        let trust = WebTrust { ca: None, allow_http: true };
        let settings = S3Settings {
            endpoint: server.endpoint().parse().unwrap(),
            region: server.region().into(),
            bucket: server.new_bucket(),
            virtual_host: false,
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            trust: trust.clone(),
        };
        let clock = SystemClock::shared();
        let bucket = S3Bucket::open(&settings, clock.clone()).unwrap();
        let key = "eea/pack".parse().unwrap();
        bucket.put(&key, body_of(&b"0123456789"[..]), 10).await.unwrap();
        let url = bucket.presign_get(&key, Duration::from_hours(1)).url.parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::create(&folder.path().join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
        ca.issue("cli", &folder.path().join("cli"), Duration::from_hours(1), &*clock).unwrap();
        let identity = Identity::load(&folder.path().join("cli")).unwrap();
        let source = Source {
            storage: HttpClient::new(&identity, "storage"),
            buckets: WebClient::new(&trust).unwrap(),
        };
        (bucket, Fetch::new(source, BTreeMap::from([("eea/pack".to_owned(), url)])))
    }

    #[tokio::test]
    async fn ranges_come_straight_from_a_bucket() {
        let (bucket, fetch) = from_bucket().await;
        assert_eq!(fetch.range("eea/pack", 2..5).await, Ok(Bytes::from_static(b"234")));
        assert_eq!(fetch.range("eea/pack", 8..12).await, Err(Cause::Cut { first: 10, last: 11 }));
        assert_eq!(fetch.range("eea/pack", 20..22).await, Err(Cause::Cut { first: 20, last: 21 }));
        bucket.delete(&"eea/pack".parse().unwrap()).await.unwrap();
        assert_eq!(fetch.range("eea/pack", 2..5).await, Err(Cause::Missing));
    }
}
