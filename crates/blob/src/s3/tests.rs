use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http::{Response, header::RANGE};
use obscura_clock::{SimulatedClock, SystemClock};
use obscura_test_servers::seaweedfs::{self, SeaweedFs};

use super::*;
use crate::{
    Fault, Presigned, RetryPolicy, Timeouts, WithFaults, WithRetry, WithTimeout, body, conformance, probe,
    read,
};

const BYTES: &[u8] = b"0123456789";

fn settings(server: &SeaweedFs, bucket: String) -> S3Settings {
    let (access_key, secret_key) = server.credentials();
    S3Settings {
        endpoint: server.endpoint().parse().unwrap(),
        region: server.region().into(),
        bucket,
        virtual_host: false,
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        trust: WebTrust { ca: None, allow_http: true },
    }
}

fn open(settings: &S3Settings) -> S3Bucket {
    S3Bucket::open(settings, SystemClock::shared()).unwrap()
}

fn new_bucket() -> S3Bucket {
    let server = seaweedfs::shared();
    open(&settings(server, server.new_bucket()))
}

fn key(text: &str) -> BlobKey {
    text.parse().unwrap()
}

/// Sends what a client with a URL sends.
async fn send(
    presigned: &Presigned,
    method: Method,
    bytes: &'static [u8],
    length: u64,
) -> Result<Response<Incoming>, WebError> {
    let mut request = Request::builder().method(method.clone()).uri(&presigned.url);
    for (name, value) in &presigned.headers {
        request = request.header(name, value);
    }
    if method == Method::PUT {
        request = request.header(http::header::CONTENT_LENGTH, length);
    }
    let pieces = stream::iter([Ok(Bytes::from_static(bytes))])
        .map(|piece: std::io::Result<_>| piece.map(hyper::body::Frame::data));
    let body = http_body_util::StreamBody::new(pieces).boxed_unsync();
    let web = WebClient::new(&WebTrust { ca: None, allow_http: true }).unwrap();
    web.send(request.body(body).unwrap()).await
}

async fn put_status(presigned: &Presigned, bytes: &'static [u8]) -> u16 {
    send(presigned, Method::PUT, bytes, bytes.len() as u64).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_contract() {
    conformance::run(&new_bucket()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_contract_as_the_service_uses_it() {
    let faults: Arc<dyn BlobStore> = WithFaults::new(Arc::new(new_bucket()));
    let timely = Arc::new(WithTimeout::new(faults, Timeouts::default()));
    conformance::run(&WithRetry::new(timely, RetryPolicy::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_contract_but_for_races_when_every_body_goes_in_parts() {
    let mut bucket = new_bucket();
    bucket.sizes = Sizes { single: 0, part: 5 * 1024 * 1024 };
    conformance::run_but_for_races(&bucket).await;
}

#[tokio::test]
async fn a_large_object_travels_in_parts_and_is_still_written_once() {
    let mut bucket = new_bucket();
    bucket.sizes = Sizes { single: 8 * 1024 * 1024, part: 5 * 1024 * 1024 };
    let piece = |number: u8| Bytes::from(vec![number; 1_000_000]);
    let pieces = || -> ByteStream { Box::pin(stream::iter(0..14).map(move |number| Ok(piece(number)))) };
    bucket.put(&key("eea/large"), pieces(), 14_000_000).await.unwrap();
    let part = read(&bucket, &key("eea/large"), 4_999_999..6_000_001).await.unwrap();
    assert_eq!((part.len(), part[0], part[1], part[1_000_001]), (1_000_002, 4, 5, 6));
    let again = bucket.put(&key("eea/large"), pieces(), 14_000_000).await;
    assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
    let short = bucket.put(&key("eea/short"), pieces(), 14_000_001).await;
    assert!(matches!(short, Err(Error::WrongSize { .. })), "{short:?}");
    assert_eq!(bucket.list("", None, 10).await.unwrap(), [key("eea/large")]);
}

#[tokio::test]
async fn a_level_of_more_than_a_page_is_listed_whole_and_in_order() {
    let bucket = new_bucket();
    let keys: Vec<BlobKey> = (0..1_030).map(|number| key(&format!("eea/day/{number:04}"))).collect();
    stream::iter(&keys)
        .map(|key| bucket.replace(key, Bytes::new()))
        .buffered(32)
        .for_each(|done| async { done.unwrap() })
        .await;
    assert_eq!(bucket.list("eea/", None, 2_000).await.unwrap(), keys);
    assert_eq!(bucket.list("eea/day/", Some(&keys[1_000]), 20).await.unwrap(), keys[1_001..1_021]);
}

#[tokio::test]
async fn the_self_test_finds_nothing_missing() {
    assert_eq!(probe(&new_bucket()).await.unwrap(), []);
}

#[tokio::test]
async fn a_presigned_upload_takes_exactly_these_bytes_once() {
    let bucket = new_bucket();
    let presigned = bucket.presign_put(&key("eea/pack"), 10, Duration::from_hours(1));
    for wrong in [&b"012345678"[..], b"0123456789A"] {
        assert_eq!(put_status(&presigned, wrong).await, 403, "the size is signed");
    }
    let mut without_condition = presigned.clone();
    without_condition.headers.clear();
    assert_eq!(put_status(&without_condition, BYTES).await, 403, "the condition is signed");
    let elsewhere = Presigned { url: presigned.url.replace("eea/pack", "eea/other"), ..presigned.clone() };
    assert_eq!(put_status(&elsewhere, BYTES).await, 403, "the key is signed");
    let get = send(&presigned, Method::GET, b"", 0).await.unwrap();
    assert_eq!(get.status().as_u16(), 403, "the method is signed");
    assert!(bucket.list("", None, 10).await.unwrap().is_empty(), "nothing came of any of them");
    assert_eq!(put_status(&presigned, BYTES).await, 200);
    assert_eq!(put_status(&presigned, BYTES).await, 412, "once");
    assert_eq!(bucket.read_whole(&key("eea/pack"), 10).await.unwrap(), BYTES);
}

#[tokio::test]
async fn a_presigned_url_expires() {
    let server = seaweedfs::shared();
    let clock = SimulatedClock::at(SystemClock::shared().wall() - Duration::from_secs(61));
    let bucket = S3Bucket::open(&settings(server, server.new_bucket()), clock).unwrap();
    let minute = Duration::from_secs(60);
    assert_eq!(put_status(&bucket.presign_put(&key("eea/pack"), 10, minute), BYTES).await, 403);
    assert_eq!(put_status(&bucket.presign_put(&key("eea/pack"), 10, 60 * minute), BYTES).await, 200);
    let get = |valid| bucket.presign_get(&key("eea/pack"), valid);
    assert_eq!(send(&get(minute), Method::GET, b"", 0).await.unwrap().status().as_u16(), 403);
    assert_eq!(send(&get(60 * minute), Method::GET, b"", 0).await.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn a_presigned_download_answers_ranges() {
    let bucket = new_bucket();
    bucket.put(&key("eea/pack"), body(BYTES), 10).await.unwrap();
    let presigned = bucket.presign_get(&key("eea/pack"), Duration::from_hours(1));
    let request = Request::get(&presigned.url).header(RANGE, "bytes=2-4");
    let response = bucket.ask("reading", request).await.unwrap();
    assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "234");
}

#[tokio::test]
async fn half_an_upload_to_a_presigned_url_leaves_nothing() {
    let bucket = new_bucket();
    let presigned = bucket.presign_put(&key("eea/pack"), 10, Duration::from_hours(1));
    assert!(send(&presigned, Method::PUT, b"01234", 10).await.is_err());
    assert!(bucket.list("", None, 10).await.unwrap().is_empty());
    assert!(matches!(bucket.size(&key("eea/pack")).await, Err(Error::NotFound(_))));
    assert_eq!(put_status(&presigned, BYTES).await, 200, "the way is still free");
}

#[tokio::test]
async fn wrong_credentials_are_told_in_words_and_without_the_secret() {
    let server = seaweedfs::shared();
    let good = settings(server, server.new_bucket());
    let wrong_secret = S3Settings { secret_key: "anothersecret".into(), ..good.clone() };
    let unknown_key = S3Settings { access_key: "nobody".into(), ..good.clone() };
    for (settings, words) in [(wrong_secret, "`secret_key_file`"), (unknown_key, "`access_key_file`")] {
        let error = probe(&open(&settings)).await.unwrap_err();
        let text = format!("{error} {error:?} {settings:?} {:?}", open(&settings));
        assert!(matches!(error, Error::Refused { .. }) && text.contains(words), "{text}");
        assert!(!text.contains("anothersecret") && !text.contains("X-Amz"), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_told_in_words() {
    let nowhere =
        S3Settings { bucket: "no-such-bucket".into(), ..settings(seaweedfs::shared(), String::new()) };
    let error = probe(&open(&nowhere)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains("compare `bucket`"), "{error}");
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unavailable() {
    let endpoint = "http://127.0.0.1:1".parse().unwrap();
    let nowhere =
        S3Settings { endpoint, bucket: "footage".into(), ..settings(seaweedfs::shared(), String::new()) };
    let error = open(&nowhere).size(&key("x")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_success_of_the_store_that_was_not_one_is_not_believed() {
    let bucket = new_bucket();
    let nothing = bucket.confirm(&key("eea/pack"), 10).await;
    assert!(matches!(nothing, Err(Error::Unanswered { .. })), "{nothing:?}");
    bucket.put(&key("eea/pack"), body(BYTES), 10).await.unwrap();
    let other = bucket.confirm(&key("eea/pack"), 11).await;
    assert!(matches!(other, Err(Error::Unanswered { .. })), "{other:?}");
}

#[tokio::test]
async fn faults_on_the_way_to_a_real_store_lose_nothing() {
    let bucket: Arc<dyn BlobStore> = Arc::new(new_bucket());
    let faults = WithFaults::new(Arc::clone(&bucket));
    let policy = RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default() };
    let store = WithRetry::new(Arc::clone(&faults) as _, policy);
    for (number, fault) in
        [Fault::Unavailable, Fault::HalfUpload, Fault::ResetBefore, Fault::ResetAfter].into_iter().enumerate()
    {
        let key = key(&format!("eea/{number}"));
        faults.script([fault, fault]);
        store.put(&key, body(BYTES), 10).await.unwrap();
        assert_eq!(bucket.read_whole(&key, 10).await.unwrap(), BYTES);
    }
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let good = S3Settings {
        endpoint: "https://s3.example".parse().unwrap(),
        region: "eu-central-1".into(),
        bucket: "footage-eea".into(),
        virtual_host: true,
        access_key: "key".into(),
        secret_key: "secret".into(),
        trust: WebTrust::default(),
    };
    open(&good);
    let endpoint = |text: &str| S3Settings { endpoint: text.parse().unwrap(), ..good.clone() };
    let wrong = [
        (endpoint("http://127.0.0.1:8333"), "allow_http"),
        (endpoint("ftp://s3.example"), "https://"),
        (endpoint("https://user:pass@s3.example"), "without a user"),
        (endpoint("https://s3.example?x=y"), "without `?`"),
        (endpoint("https://192.0.2.1"), "host name"),
        (S3Settings { bucket: "Footage".into(), ..good.clone() }, "name of a bucket"),
        (S3Settings { bucket: "a/b".into(), ..good.clone() }, "name of a bucket"),
        (S3Settings { region: String::new(), ..good.clone() }, "the region"),
        (S3Settings { secret_key: "with space".into(), ..good.clone() }, "the secret key"),
    ];
    for (settings, words) in wrong {
        let error = S3Bucket::open(&settings, SystemClock::shared()).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains("pass"), "{error}");
    }
    let trust = WebTrust { allow_http: true, ca: None };
    let far = S3Settings { trust, ..endpoint("http://192.0.2.1") };
    assert!(S3Bucket::open(&far, SystemClock::shared()).unwrap_err().to_string().contains("127.0.0.1"));
}
