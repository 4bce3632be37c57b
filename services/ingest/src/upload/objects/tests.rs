use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use obscura_blob::{BlobKey, BlobStore as _, Presigned, S3Bucket, S3Settings};
use obscura_clock::SystemClock;
use obscura_hand_over::{Handed, Listener};
use obscura_identity::{Ca, Identity};
use obscura_test_servers::seaweedfs;
use tempfile::TempDir;

use super::*;
use crate::spool::{
    Extent, Limits, Position, Spool,
    record::{Kind, Record},
};

fn bucket() -> S3Bucket {
    let server = seaweedfs::shared();
    let (access_key, secret_key) = server.credentials();
    let settings = S3Settings {
        endpoint: server.endpoint().parse().unwrap(),
        region: server.region().into(),
        bucket: server.new_bucket(),
        virtual_host: false,
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        trust: WebTrust { ca: None, allow_http: true },
    };
    S3Bucket::open(&settings, SystemClock::shared()).unwrap()
}

fn objects(allow_http: bool, hand_over: Option<PathBuf>) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    let ca = Ca::create(&folder.path().join("ca"), &"shop.example".parse().unwrap(), &*clock).unwrap();
    ca.issue("ingest", &folder.path().join("ingest"), Duration::from_hours(1), &*clock).unwrap();
    let identity = Identity::load(&folder.path().join("ingest")).unwrap();
    Objects::new(HttpClient::new(&identity, "storage"), &WebTrust { ca: None, allow_http }, hand_over)
        .unwrap()
}

/// What the spool in `dir` holds: 3 MB, each byte the number of its tenth of a megabyte.
async fn body(dir: &TempDir) -> Body {
    let (spool, _) =
        Spool::open(dir.path().to_owned(), Limits::of_bytes(1 << 30), SystemClock::shared()).unwrap();
    let mut extents = Vec::new();
    for number in 0..30 {
        let payload = [number; 100_000];
        let record = Record { kind: Kind::Data, serial: spool.next_serial(), payload: &payload };
        let (extent, position) = spool.append(&[record]).unwrap();
        extents.extend(extent);
        if number == 29 {
            spool.commit_soon();
            spool.wait_committed(position).await.unwrap();
        }
    }
    Body { spool, head: Bytes::new(), extents }
}

/// The same length, half of which no file holds.
fn cut(body: &Body) -> Body {
    let half = body.extents.len() / 2;
    let beyond = Extent { start: Position(body.spool.appended_bytes() + 100_000), length: 100_000 };
    let mut extents = body.extents.clone();
    extents.iter_mut().skip(half).for_each(|extent| *extent = beyond);
    Body { extents, ..body.clone() }
}

fn upload(to: &Presigned) -> CreateUploadResponse {
    let headers: HashMap<_, _> = to.headers.clone().into_iter().collect();
    CreateUploadResponse { url: to.url.clone(), headers, ..CreateUploadResponse::default() }
}

#[tokio::test]
async fn a_pack_streams_into_a_bucket_once_and_half_of_it_leaves_nothing() {
    let (dir, bucket, objects) = (TempDir::new().unwrap(), bucket(), objects(true, None));
    let body = body(&dir).await;
    let key: BlobKey = "eea/pack".parse().unwrap();
    let upload = upload(&bucket.presign_put(&key, 3_000_000, Duration::from_hours(1)));
    assert!(objects.send(&upload, cut(&body)).await.is_err(), "the spool ended too early");
    assert!(bucket.list("", None, 10).await.unwrap().is_empty());
    assert_eq!(objects.send(&upload, body.clone()).await.unwrap(), StatusCode::OK);
    assert_eq!(objects.send(&upload, body).await.unwrap(), StatusCode::PRECONDITION_FAILED);
    let stored = bucket.read_whole(&key, 3_000_000).await.unwrap();
    assert!(stored.iter().zip(0_u32..).all(|(byte, at)| u32::from(*byte) == at / 100_000));
}

#[tokio::test]
async fn plain_http_is_refused_unless_it_is_allowed() {
    let dir = TempDir::new().unwrap();
    let presigned = bucket().presign_put(&"eea/pack".parse().unwrap(), 3_000_000, Duration::from_hours(1));
    let refused = objects(false, None).send(&upload(&presigned), body(&dir).await).await.unwrap_err().cause;
    assert!(refused.contains("http is not allowed") && !refused.contains("X-Amz"), "{refused}");
}

fn to_storage() -> CreateUploadResponse {
    // A port that is taken by nobody who speaks TLS.
    let url = "https://127.0.0.1:9/objects/eea/pack?size=3000000".into();
    CreateUploadResponse { url, ..CreateUploadResponse::default() }
}

#[tokio::test]
async fn a_neighbour_is_handed_the_pack_with_the_target_that_was_signed() {
    let dir = TempDir::new().unwrap();
    let socket = dir.path().join("socket");
    let neighbour = Listener::bind(&socket).unwrap();
    let spooled = TempDir::new().unwrap();
    let body = body(&spooled).await;
    let take = async {
        let handed = Handed::receive(neighbour.accept().await.unwrap()).await.unwrap();
        assert_eq!(handed.target(), "/objects/eea/pack?size=3000000");
        let (body, waiting) = handed.open();
        let pieces: Vec<Bytes> = body.try_collect().await.unwrap();
        waiting.answer(StatusCode::CREATED).await.unwrap();
        pieces.concat()
    };
    let objects = objects(false, Some(socket));
    let upload = to_storage();
    let (answer, taken) = tokio::join!(objects.send(&upload, body.clone()), take);
    assert_eq!(answer.unwrap(), StatusCode::CREATED);
    assert!(taken == body.stream().collect().await.unwrap().to_bytes());
}

#[tokio::test]
async fn where_nobody_takes_it_the_pack_goes_over_tls() {
    let (dir, spooled) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let objects = objects(false, Some(dir.path().join("nobody")));
    let fault = objects.send(&to_storage(), body(&spooled).await).await.unwrap_err();
    assert!(fault.is_outage() && !fault.cause.contains("handing"), "{}", fault.cause);
}
