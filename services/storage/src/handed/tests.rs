use std::{fs::File, os::fd::AsFd as _};

use http::StatusCode;
use obscura_clock::{Clock as _, SharedClock};
use obscura_hand_over::{Offer, Piece, hand_over};

use super::*;
use crate::{
    metrics::Metrics,
    test_support::Installation,
    url_signer::{Method, Ticket},
};

const BYTES: &[u8] = b"0123456789";

struct Neighbours {
    installation: Installation,
    shutdown: CancellationToken,
}

impl Neighbours {
    async fn new() -> Self {
        let installation = Installation::start().await;
        let clock: SharedClock = Arc::clone(&installation.clock) as _;
        let (blobs, signer) = (Arc::clone(&installation.grpc.blobs), Arc::clone(&installation.signer));
        let objects = Arc::new(Objects::new(blobs, signer, clock, Metrics::default()));
        let shutdown = CancellationToken::new();
        listen(&installation.directory.path().join("socket"), objects, shutdown.clone()).unwrap();
        Self { installation, shutdown }
    }

    /// Where an object of `size` bytes may be put.
    fn target(&self, method: Method, size: u64) -> String {
        let expires = self.installation.clock.wall() + Duration::from_secs(300);
        self.installation.signer.sign(&Ticket { method, key: "eea/object".parse().unwrap(), size, expires })
    }

    /// Hands two bytes of a head and `length` of a file over.
    async fn hand(&self, target: String, length: u32) -> std::io::Result<StatusCode> {
        let path = self.installation.directory.path().join("spool");
        std::fs::write(&path, BYTES).unwrap();
        let pieces = vec![Piece { file: 0, offset: 2, length }];
        let offer = Offer { target, head: bytes::Bytes::from_static(b"01"), pieces };
        let file = File::open(path).unwrap();
        hand_over(&self.installation.directory.path().join("socket"), &offer, &[file.as_fd()]).await
    }

    async fn objects(&self) -> usize {
        self.installation.grpc.blobs.list("", None, 10).await.unwrap().len()
    }
}

#[tokio::test]
async fn what_is_handed_over_is_stored_and_its_repetition_is_harmless() {
    let neighbours = Neighbours::new().await;
    let target = neighbours.target(Method::Put, 10);
    assert_eq!(neighbours.hand(target.clone(), 8).await.unwrap(), StatusCode::CREATED);
    assert_eq!(neighbours.hand(target, 8).await.unwrap(), StatusCode::OK, "the first answer was lost");
    let blobs = &*neighbours.installation.grpc.blobs;
    assert_eq!(obscura_blob::read(blobs, &"eea/object".parse().unwrap(), 0..10).await.unwrap(), BYTES);
}

#[tokio::test]
async fn it_needs_a_target_that_was_signed_for_it() {
    let neighbours = Neighbours::new().await;
    let good = neighbours.target(Method::Put, 10);
    let forged = [
        neighbours.target(Method::Get, 10),
        good.replace("eea/object", "eea/other"),
        "/objects/eea/object".to_owned(),
    ];
    for target in forged {
        assert_eq!(neighbours.hand(target.clone(), 8).await.unwrap(), StatusCode::FORBIDDEN, "{target}");
    }
    neighbours.installation.clock.advance(Duration::from_secs(300));
    assert_eq!(neighbours.hand(good, 8).await.unwrap(), StatusCode::FORBIDDEN, "it expired");
    assert_eq!(neighbours.objects().await, 0);
}

#[tokio::test]
async fn a_size_that_was_not_signed_and_a_file_that_ends_too_early_leave_nothing() {
    let neighbours = Neighbours::new().await;
    let status = neighbours.hand(neighbours.target(Method::Put, 9), 8).await.unwrap();
    assert!(status.is_client_error(), "{status}");
    let status = neighbours.hand(neighbours.target(Method::Put, 11), 9).await.unwrap();
    assert!(!status.is_success(), "{status}");
    assert_eq!(neighbours.objects().await, 0);
}

#[tokio::test]
async fn nobody_takes_anything_after_the_end() {
    let neighbours = Neighbours::new().await;
    neighbours.shutdown.cancel();
    let target = neighbours.target(Method::Put, 10);
    let refused = async {
        while neighbours.hand(target.clone(), 8).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused).await.expect("the socket is closed");
}
