//! Against real witnesses behind HTTP.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, body::Bytes, http::header::CONTENT_TYPE, response::IntoResponse as _, routing::post};
use obscura_tlog::{
    WitnessKey,
    witness::{FileStore, Witness as Core},
};

use super::*;
use crate::{
    fault::{NoFaults, Step},
    projection::Projection,
    test_support::{Backend, Bench, Injector, Place, test_event},
};

/// A witness on a port of its own.
struct Witnessing {
    address: SocketAddr,
    key: String,
    is_away: Arc<AtomicBool>,
}

impl Witnessing {
    async fn start(folder: &Path, name: &str) -> Self {
        let key = WitnessKey::from_seed(name, &[3; 32]).unwrap();
        let verifier_key = key.verifier_key();
        let store = FileStore::open(&folder.join(name)).unwrap();
        let core = Arc::new(Mutex::new(Core::new(key, vec![Place::key().verifier()], store)));
        let is_away = Arc::new(AtomicBool::new(false));
        let away = is_away.clone();
        let handler = move |body: Bytes| async move {
            if away.load(Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            let now = "2026-11-23T10:00:00Z".parse().unwrap();
            match core.lock().unwrap().add_checkpoint(&body, now) {
                Ok(lines) => lines.into_response(),
                Err(refusal) => {
                    let status = StatusCode::from_u16(refusal.status()).unwrap();
                    (status, [(CONTENT_TYPE, refusal.content_type())], refusal.body()).into_response()
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/add-checkpoint", post(handler));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, key: verifier_key, is_away }
    }

    fn settings(&self) -> WitnessSettings {
        WitnessSettings { url: format!("http://{}", self.address).parse().unwrap(), key: self.key.clone() }
    }
}

async fn projection(bench: &Bench, witnesses: &[&Witnessing], quorum: usize) -> Result<Projection, Error> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings: Vec<WitnessSettings> = witnesses.iter().map(|witness| witness.settings()).collect();
    let witnesses = Witnesses::new(&settings, quorum).unwrap();
    bench.place.projection(&bench.log, &bench.blobs, Arc::new(NoFaults), witnesses).await
}

#[tokio::test]
async fn a_checkpoint_is_published_with_the_cosignatures_of_all_witnesses() {
    let bench = Bench::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let (one, two) =
        (Witnessing::start(folder.path(), "one").await, Witnessing::start(folder.path(), "two").await);
    let mut projection = projection(&bench, &[&one, &two], 2).await.unwrap();
    for size in 1..4 {
        bench.append(&test_event("x")).await;
        assert_eq!(projection.publish().await.unwrap(), None);
        let published = projection.published().borrow().clone().unwrap();
        let verifiers = [one.key.parse().unwrap(), two.key.parse().unwrap()];
        assert_eq!(published.cosignatures(&verifiers).len(), 2);
        assert_eq!((published.checkpoint().size, *projection.witnessed().borrow()), (size, size));
    }
    bench.verify(&[]);
    assert!(bench.place.path("cosigned.checkpoint").exists());
}

#[tokio::test]
async fn a_witness_that_is_away_holds_nothing_up_and_catches_up_later() {
    let bench = Bench::sqlite().await;
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let mut projection = projection(&bench, &[&witness], 1).await.unwrap();
    bench.append(&test_event("x")).await;
    projection.publish().await.unwrap();
    witness.is_away.store(true, Ordering::SeqCst);
    bench.append(&test_event("x")).await;
    let lacking = projection.publish().await.unwrap().unwrap();
    assert!(lacking.contains("witness one: it answered 503"), "{lacking}");
    let size = projection.published().borrow().as_ref().unwrap().checkpoint().size;
    assert_eq!((size, *projection.witnessed().borrow()), (2, 1));
    witness.is_away.store(false, Ordering::SeqCst);
    assert_eq!(projection.publish().await.unwrap(), None, "even where nothing is new");
    assert_eq!(*projection.witnessed().borrow(), 2);
}

#[tokio::test]
async fn a_log_that_was_rolled_back_is_refused_by_the_word_of_a_witness() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let bench = Bench::sqlite().await;
    let mut first = projection(&bench, &[&witness], 1).await.unwrap();
    for _ in 0..5 {
        bench.append(&test_event("x")).await;
    }
    first.publish().await.unwrap();
    // Everything is lost but the key, and somebody begins anew.
    let again = Place::new(Backend::Sqlite).start(Arc::new(NoFaults)).await;
    let refused = projection(&again, &[&witness], 1).await.unwrap_err().to_string();
    assert!(refused.contains("a witness knows is of size 5"), "{refused}");
}

#[tokio::test]
async fn a_fork_of_the_same_size_gets_no_cosignature() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let (one, other) = (Bench::sqlite().await, Bench::sqlite().await);
    let mut first = projection(&one, &[&witness], 1).await.unwrap();
    let mut second = projection(&other, &[&witness], 1).await.unwrap();
    one.append(&test_event("x")).await;
    other.append(&test_event("y")).await;
    first.publish().await.unwrap();
    let lacking = second.publish().await.unwrap().unwrap();
    assert!(lacking.contains("witness one:"), "somebody has to look at this: {lacking}");
    assert_eq!(*second.witnessed().borrow(), 0);
}

#[tokio::test]
async fn a_fault_around_a_cosignature_leaves_a_log_with_which_the_witness_goes_on() {
    for step in [Step::Cosign, Step::KeepCosigned, Step::ReplaceCheckpoint] {
        for is_crash in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let witness = Witnessing::start(folder.path(), "one").await;
            let bench = Bench::sqlite().await;
            let faults = Injector::new(step, 2, is_crash);
            for _ in 0..2 {
                let witnesses = Witnesses::new(&[witness.settings()], 1).unwrap();
                let opened =
                    bench.place.projection(&bench.log, &bench.blobs, faults.clone(), witnesses).await;
                let mut projection = opened.unwrap();
                bench.append(&test_event("x")).await;
                assert!(projection.publish().await.is_err(), "{step:?}");
                faults.revive();
            }
            let mut projection = projection(&bench, &[&witness], 1).await.unwrap();
            assert_eq!(projection.publish().await.unwrap(), None, "{step:?}");
            assert_eq!(*projection.witnessed().borrow(), 2);
            bench.verify(&[]);
        }
    }
}

#[tokio::test]
async fn a_fork_is_told_in_the_words_of_the_witness_and_does_not_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let (one, other) = (Bench::sqlite().await, Bench::sqlite().await);
    let mut first = projection(&one, &[&witness], 1).await.unwrap();
    one.append(&test_event("x")).await;
    first.publish().await.unwrap();
    for text in ["y", "z"] {
        other.append(&test_event(text)).await;
    }
    let mut second = projection(&other, &[&witness], 1).await.unwrap();
    let lacking = second.publish().await.unwrap().unwrap();
    assert!(lacking.contains("witness one: it answered 422") && lacking.contains("has forked"), "{lacking}");
}

#[test]
fn what_a_witness_says_is_one_short_line_without_control_characters() {
    assert_eq!(said("the log has forked\nsecond line"), ": the log has forked");
    assert_eq!(said("\u{1b}[31mred"), ": [31mred");
    assert_eq!((said(""), said("\n")), (String::new(), String::new()));
    assert_eq!(said(&"x".repeat(1_000)).len(), 122);
}
