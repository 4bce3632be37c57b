//! The contract against Garage, which keeps all of it but that an object is written once.
//!
//! Not a part of `make test`: building the server takes minutes. `make test-garage` runs it.

#![expect(clippy::unwrap_used, reason = "a panic in a test is a failed test with a line number")]

use obscura_blob::{BlobKey, BlobStore as _, S3Bucket, S3Settings, WebTrust, body, conformance, probe, read};
use obscura_clock::SystemClock;
use obscura_test_servers::garage::Garage;

const WHY: &str = "needs a server that takes minutes to build: `make test-garage`";

fn settings(server: &Garage) -> S3Settings {
    let (access_key, secret_key) = server.credentials();
    S3Settings {
        endpoint: server.endpoint().parse().unwrap(),
        region: server.region().into(),
        bucket: server.bucket().into(),
        virtual_host: false,
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        trust: WebTrust { ca: None, allow_http: true },
    }
}

fn open(settings: &S3Settings) -> S3Bucket {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    S3Bucket::open(settings, SystemClock::shared()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server that takes minutes to build: `make test-garage`"]
async fn garage_keeps_the_contract_but_for_writing_once() {
    let server = Garage::own().expect(WHY);
    conformance::run_but_for_writing_once(&open(&settings(&server))).await;
}

#[tokio::test]
#[ignore = "needs a server that takes minutes to build: `make test-garage`"]
async fn the_self_test_says_that_conditional_uploads_are_not_honoured_and_what_is_lost() {
    let server = Garage::own().expect(WHY);
    let bucket = open(&settings(&server));
    let found = probe(&bucket).await.unwrap();
    let said: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("does not honour conditional uploads (If-None-Match)"), "{said:?}");
    assert!(said[0].contains("can replace it until the upload URL expires"), "{said:?}");
    // And it is true.
    let key: BlobKey = "eea/pack".parse().unwrap();
    bucket.put(&key, body("first"), 5).await.unwrap();
    bucket.put(&key, body("other"), 5).await.unwrap();
    assert_eq!(read(&bucket, &key, 0..5).await.unwrap(), "other");
}

#[tokio::test]
#[ignore = "needs a server that takes minutes to build: `make test-garage`"]
async fn another_region_than_that_of_the_store_is_refused_in_words() {
    let server = Garage::own().expect(WHY);
    let elsewhere = S3Settings { region: "us-east-1".into(), ..settings(&server) };
    let error = probe(&open(&elsewhere)).await.unwrap_err().to_string();
    assert!(error.contains("region"), "{error}");
}
