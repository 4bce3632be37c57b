use futures::FutureExt as _;
use obscura_clock::Clock as _;

use super::*;
use crate::test_support::Installation;

const BYTES: &[u8] = b"0123456789";

fn url(installation: &Installation, method: Method, size: u64) -> String {
    let expires = installation.clock.wall() + Duration::from_secs(300);
    installation.signer.sign(&Ticket { method, key: "eea/object".parse().unwrap(), size, expires })
}

async fn with_object() -> (Installation, String) {
    let installation = Installation::start().await;
    installation.place(&"eea/object".parse().unwrap(), BYTES.to_vec()).await;
    let url = url(&installation, Method::Get, 10);
    (installation, url)
}

#[tokio::test]
async fn an_upload_is_stored_and_its_repetition_is_harmless() {
    let installation = Installation::start().await;
    let url = url(&installation, Method::Put, 10);
    assert_eq!(installation.put(&url, BYTES).await, StatusCode::CREATED);
    assert_eq!(installation.put(&url, BYTES).await, StatusCode::OK, "the first answer was lost");
    let stored = obscura_blob::read(&*installation.grpc.blobs, &"eea/object".parse().unwrap(), 0..10).await;
    assert_eq!(stored.unwrap(), BYTES);
}

#[tokio::test]
async fn an_object_of_another_size_is_not_mistaken_for_a_repetition() {
    let installation = Installation::start().await;
    assert_eq!(installation.put(&url(&installation, Method::Put, 10), BYTES).await, StatusCode::CREATED);
    assert_eq!(installation.put(&url(&installation, Method::Put, 5), b"01234").await, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_upload_needs_a_url_that_was_signed_for_it() {
    let installation = Installation::start().await;
    let good = url(&installation, Method::Put, 10);
    let forged = [
        url(&installation, Method::Get, 10),
        good.replace("eea/object", "eea/other"),
        good.replace("size=10", "size=11"),
        "/objects/eea/object".to_owned(),
    ];
    for url in forged {
        assert_eq!(installation.put(&url, BYTES).await, StatusCode::FORBIDDEN, "{url}");
    }
    installation.clock.advance(Duration::from_secs(300));
    assert_eq!(installation.put(&good, BYTES).await, StatusCode::FORBIDDEN, "it expired");
    let listed = installation.grpc.blobs.list("", None, 10).await.unwrap();
    assert!(listed.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn a_path_that_is_no_object_key_is_refused() {
    let installation = Installation::start().await;
    let query = url(&installation, Method::Put, 10).split_once('?').unwrap().1.to_owned();
    for path in
        ["/objects/../index.sqlite", "/objects/eea/%2e%2e/x", "/objects/.partial/x", "/objects//etc/passwd"]
    {
        let status = installation.put(&format!("{path}?{query}"), BYTES).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn an_upload_must_have_the_length_that_it_announces_and_was_signed_for() {
    let installation = Installation::start().await;
    let url = url(&installation, Method::Put, 10);
    let lengths: [(Option<u64>, &[u8]); 5] = [
        (None, BYTES),
        (Some(9), b"012345678"),
        (Some(11), BYTES),
        (Some(10), b"012"),
        (Some(10), b"0123456789A"),
    ];
    for (announced, bytes) in lengths {
        let mut request = Request::put(&url);
        if let Some(announced) = announced {
            request = request.header(header::CONTENT_LENGTH, announced);
        }
        // A body of a stream: axum knows no length of it, as over the network.
        let body = Body::from_stream(stream::iter([io::Result::Ok(bytes.to_vec())]));
        let (status, _, words) = installation.send(request.body(body).unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{announced:?} {words:?}");
    }
    assert!(installation.grpc.blobs.list("", None, 10).await.unwrap().is_empty(), "nothing became visible");
    assert_eq!(installation.put(&url, BYTES).await, StatusCode::CREATED, "the way is still free");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing_visible() {
    let installation = Installation::start().await;
    let pieces = [Ok(b"01234".to_vec()), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    let request = Request::put(url(&installation, Method::Put, 10)).header(header::CONTENT_LENGTH, 10);
    let request = request.body(Body::from_stream(stream::iter(pieces))).unwrap();
    assert_eq!(installation.send(request).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(installation.grpc.blobs.list("", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_range_is_answered_with_exactly_its_bytes() {
    let (installation, url) = with_object().await;
    for (range, content_range, bytes) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-1", "bytes 9-9/10", "9"),
    ] {
        let (status, headers, body) = installation.get(&url, range).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(headers[header::CONTENT_RANGE], content_range);
        assert_eq!(headers[header::CONTENT_LENGTH], bytes.len().to_string().as_str());
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(body, bytes);
    }
}

#[tokio::test]
async fn without_a_range_the_whole_object_comes() {
    let (installation, url) = with_object().await;
    let (status, headers, body) = installation.send(Request::get(&url).body(Body::empty()).unwrap()).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, BYTES));
    assert!(!headers.contains_key(header::CONTENT_RANGE));
}

#[tokio::test]
async fn several_ranges_and_ranges_behind_the_end_are_not_satisfiable() {
    let (installation, url) = with_object().await;
    for range in ["bytes=0-1,3-4", "bytes=10-", "lines=1-2"] {
        let (status, headers, _) = installation.get(&url, range).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(headers[header::CONTENT_RANGE], "bytes */10");
    }
    let twice = Request::get(&url).header(header::RANGE, "bytes=0-1").header(header::RANGE, "bytes=2-3");
    let (status, ..) = installation.send(twice.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_download_needs_a_url_that_was_signed_for_it() {
    let (installation, good) = with_object().await;
    for url in [url(&installation, Method::Put, 10), good.replace("size=10", "size=9")] {
        assert_eq!(installation.get(&url, "bytes=0-1").await.0, StatusCode::FORBIDDEN);
    }
    installation.clock.advance(Duration::from_secs(301));
    let (status, _, words) = installation.get(&good, "bytes=0-1").await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(words.starts_with(b"the URL expired at "), "{words:?}");
}

#[tokio::test]
async fn of_an_object_that_was_cut_comes_what_is_left() {
    let (installation, url) = with_object().await;
    let path = installation.directory.path().join("objects/eea/object");
    std::fs::File::options().write(true).open(path).unwrap().set_len(5).unwrap();
    let (status, headers, body) = installation.get(&url, "bytes=3-8").await;
    assert_eq!((status, &body[..]), (StatusCode::PARTIAL_CONTENT, &b"34"[..]));
    assert_eq!(headers[header::CONTENT_RANGE], "bytes 3-4/5");
    assert_eq!(installation.get(&url, "bytes=5-8").await.0, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test]
async fn a_deleted_object_is_not_found() {
    let (installation, url) = with_object().await;
    installation.grpc.blobs.delete(&"eea/object".parse().unwrap()).await.unwrap();
    assert_eq!(installation.get(&url, "bytes=0-1").await.0, StatusCode::NOT_FOUND);
}

fn objects(installation: &Installation) -> Objects {
    let clock: SharedClock = Arc::clone(&installation.clock) as _;
    let (blobs, signer) = (Arc::clone(&installation.grpc.blobs), Arc::clone(&installation.signer));
    Objects::new(blobs, signer, clock, Metrics::default())
}

#[tokio::test]
async fn a_download_holds_its_turn_until_its_body_is_gone() {
    let (installation, url) = with_object().await;
    let objects = objects(&installation);
    let response = objects.send(&url.parse().unwrap(), &HeaderMap::new()).await.unwrap();
    assert_eq!(objects.downloads.available_permits(), MAX_DOWNLOADS - 1);
    drop(response);
    assert_eq!(objects.downloads.available_permits(), MAX_DOWNLOADS);
}

#[tokio::test]
async fn who_comes_while_all_turns_are_taken_waits_and_is_then_told_to_come_again() {
    let installation = Installation::start().await;
    let objects = objects(&installation);
    let all = u32::try_from(MAX_UPLOADS).unwrap();
    let _all = Arc::clone(&objects.uploads).acquire_many_owned(all).await.unwrap();
    let request = Request::put(url(&installation, Method::Put, 10)).header(header::CONTENT_LENGTH, 10);
    let mut waiting = Box::pin(objects.receive(request.body(Body::from(BYTES)).unwrap()));
    tokio::time::pause();
    assert!(waiting.as_mut().now_or_never().is_none(), "it waits");
    tokio::time::advance(TURN + Duration::from_secs(1)).await;
    let error = waiting.await.unwrap_err();
    assert!(matches!(error, Error::Busy(MAX_UPLOADS)));
    assert_eq!(refusal(error).status(), StatusCode::TOO_MANY_REQUESTS);
}
