//! Against real witnesses behind HTTP.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::Path as UrlPath,
    http::header::CONTENT_TYPE,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use obscura_tlog::{
    Checkpoint, Hash, WitnessKey,
    witness::{FileStore, Refusal, Witness as Core},
};
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;

use super::{client::said, *};
use crate::{
    fault::{NoFaults, Step},
    metrics::AuditMetrics,
    projection::Projection,
    pulse::Publishing,
    test_support::{Backend, Bench, Injector, Place, test_event},
};

/// A witness on a port of its own.
struct Witnessing {
    address: SocketAddr,
    key: String,
    is_away: Arc<AtomicBool>,
    lie: Arc<Mutex<Option<Lie>>>,
}

/// What a witness says instead of what is true.
#[derive(Clone, Debug)]
struct Lie {
    /// Media type and text of its refusal of a checkpoint.
    refusal: (&'static str, &'static str),
    /// Status and text of the newest checkpoint.
    newest: (StatusCode, String),
}

fn answer(done: Result<String, Refusal>) -> Response {
    match done {
        Ok(text) => text.into_response(),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap();
            (status, [(CONTENT_TYPE, refusal.content_type())], refusal.body()).into_response()
        }
    }
}

impl Witnessing {
    fn secret(name: &str) -> WitnessKey {
        WitnessKey::from_seed(name, &[3; 32]).unwrap()
    }

    async fn start(folder: &Path, name: &str) -> Self {
        let key = Self::secret(name);
        let verifier_key = key.verifier_key();
        let store = FileStore::open(&folder.join(name)).unwrap();
        let core = Arc::new(Mutex::new(Core::new(key, vec![Place::key().verifier()], store)));
        let is_away = Arc::new(AtomicBool::new(false));
        let lie: Arc<Mutex<Option<Lie>>> = Arc::default();
        let (away, lying, asked) = (is_away.clone(), lie.clone(), core.clone());
        let add = move |body: Bytes| async move {
            if away.load(Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            if let Some(Lie { refusal: (kind, text), .. }) = lying.lock().unwrap().clone() {
                return (StatusCode::CONFLICT, [(CONTENT_TYPE, kind)], text).into_response();
            }
            let now = "2026-11-23T10:00:00Z".parse().unwrap();
            answer(asked.lock().unwrap().add_checkpoint(&body, now))
        };
        let lying = lie.clone();
        let newest = move |UrlPath(hash): UrlPath<String>| async move {
            let lie = lying.lock().unwrap().clone();
            lie.map_or_else(
                || answer(core.lock().unwrap().newest(&hash).map(|note| note.to_string())),
                |lie| lie.newest.into_response(),
            )
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router =
            Router::new().route("/add-checkpoint", post(add)).route("/{hash}/checkpoint", get(newest));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, key: verifier_key, is_away, lie }
    }

    fn lies(&self, refusal: (&'static str, &'static str), newest: (StatusCode, String)) {
        *self.lie.lock().unwrap() = Some(Lie { refusal, newest });
    }

    fn tells_the_truth(&self) {
        *self.lie.lock().unwrap() = None;
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
    assert!(lacking.why.contains("witness one: it answered 503"), "{lacking:?}");
    assert_eq!(lacking.contradiction, None);
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
async fn a_log_that_runs_ends_as_well_once_a_witness_shows_a_newer_one() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let (newer, older) = (Bench::sqlite().await, Bench::sqlite().await);
    let mut first = projection(&newer, &[&witness], 1).await.unwrap();
    for _ in 0..5 {
        newer.append(&test_event("x")).await;
    }
    first.publish().await.unwrap();
    witness.is_away.store(true, Ordering::SeqCst);
    let mut second = projection(&older, &[&witness], 1).await.unwrap();
    older.append(&test_event("y")).await;
    witness.is_away.store(false, Ordering::SeqCst);
    let refused = second.publish().await.unwrap_err();
    assert!(matches!(refused, Error::Ahead { known: 5, size: 1, .. }), "{refused}");
}

/// A checkpoint of this size by the log's key or another one, cosigned by whom.
fn note(size: u64, key: &LogKey, witness: Option<&WitnessKey>) -> String {
    let origin = key.origin().to_owned();
    let checkpoint = Checkpoint { origin, size, root: Hash::EMPTY, extension: String::new() };
    let mut note = SignedCheckpoint::sign(checkpoint, key).unwrap();
    if let Some(witness) = witness {
        let lines = witness.cosign(note.checkpoint(), 1_795_428_000);
        assert_eq!(note.add_cosignatures(&lines, &[witness.verifier()]), 1);
    }
    note.to_string()
}

#[tokio::test]
async fn a_witness_that_claims_a_newer_log_and_cannot_show_it_is_an_alarm_and_stops_nothing() {
    const SIZE: &str = "text/x.tlog.size";
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let bench = Bench::sqlite().await;
    let log = Place::key();
    let (own, stranger) = (Witnessing::secret("one"), WitnessKey::from_seed("one", &[4; 32]).unwrap());
    let forger = LogKey::from_seed(log.origin(), &[9; 32]).unwrap();
    let other = LogKey::from_seed("example.org/other", &[9; 32]).unwrap();
    let shown = |text: String| (StatusCode::OK, text);
    let beyond = (SIZE, "1000000\n");
    let lies = [
        (beyond, (StatusCode::NOT_FOUND, "not here".to_owned()), "404"),
        (beyond, (StatusCode::FOUND, note(1_000_000, &log, Some(&own))), "302"),
        (beyond, shown("rubbish".to_owned()), "not a checkpoint"),
        (beyond, shown("x".repeat(70_000)), "too long"),
        (beyond, shown(note(1_000_000, &log, None)), "no good cosignature"),
        (beyond, shown(note(1_000_000, &log, Some(&stranger))), "no good cosignature"),
        (beyond, shown(note(1_000_000, &forger, Some(&own))), "no good signature"),
        (beyond, shown(note(1_000_000, &other, Some(&own))), "is of the log `example.org/other`"),
        (beyond, shown(note(0, &log, Some(&own))), "the checkpoint is of size 0"),
        ((SIZE, "18446744073709551615\n"), shown("rubbish".to_owned()), "not a checkpoint"),
        ((SIZE, "many\n"), shown("rubbish".to_owned()), "409 Conflict: many"),
        ((SIZE, "-1\n"), shown("rubbish".to_owned()), "409 Conflict: -1"),
        (("text/html", "1000000\n"), shown("rubbish".to_owned()), "409 Conflict: 1000000"),
        ((SIZE, "0\n"), shown("rubbish".to_owned()), "goes on naming other sizes"),
    ];
    for (size, (refusal, newest, expected)) in (1..).zip(lies) {
        witness.lies(refusal, newest);
        let mut projection = projection(&bench, &[&witness], 1).await.unwrap();
        bench.append(&test_event("x")).await;
        let lacking = projection.publish().await.unwrap().unwrap();
        let contradiction = lacking.contradiction.unwrap();
        assert!(contradiction.contains(expected), "{expected} is not in: {contradiction}");
        let published = projection.published().borrow().as_ref().unwrap().checkpoint().size;
        assert_eq!((published, *projection.witnessed().borrow()), (size, 0), "{expected}");
    }
    witness.tells_the_truth();
    let mut projection = projection(&bench, &[&witness], 1).await.unwrap();
    assert_eq!(projection.publish().await.unwrap(), None);
    bench.verify(&[]);
}

#[tokio::test]
async fn a_witness_that_lies_to_a_running_service_is_an_event_and_the_service_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    witness.lies(("text/x.tlog.size", "1000000\n"), (StatusCode::OK, "rubbish".to_owned()));
    let bench = Bench::sqlite().await;
    bench.append(&test_event("x")).await;
    let (finish, shutdown) = (CancellationToken::new(), CancellationToken::new());
    finish.cancel();
    let publishing = Publishing {
        log: bench.log.clone(),
        projection: projection(&bench, &[&witness], 1).await.unwrap(),
        interval: Duration::from_millis(1),
        witness_patience: Duration::from_hours(1),
        wanted: Arc::default(),
        metrics: AuditMetrics::new(),
        finish,
        shutdown: shutdown.clone(),
    };
    publishing.run().await;
    assert!(!shutdown.is_cancelled());
    let alarm = bench.leaf(1).await;
    assert!(alarm.contains("audit_witness_contradicts") && alarm.contains("1000000 entries"), "{alarm}");
    bench.append(&test_event("and on")).await;
    assert_eq!(bench.size().await, 3);
}

#[tokio::test]
async fn a_witness_that_is_behind_is_asked_again_from_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let witness = Witnessing::start(folder.path(), "one").await;
    let bench = Bench::sqlite().await;
    let mut first = projection(&bench, &[&witness], 1).await.unwrap();
    for size in 1..=3 {
        bench.append(&test_event("x")).await;
        // Its heads are restored from a backup, or lost.
        if size == 3 {
            let heads = folder.path().join("one");
            let head = heads.join(obscura_tlog::witness::origin_hash(Place::key().origin()));
            std::fs::remove_file(head).unwrap();
        }
        assert_eq!(first.publish().await.unwrap(), None, "{size}");
        assert_eq!(*first.witnessed().borrow(), size);
    }
    bench.append(&test_event("x")).await;
    let mut again = projection(&bench, &[&witness], 1).await.unwrap();
    assert_eq!(again.publish().await.unwrap(), None, "one that knows nothing of the witness yet");
    assert_eq!(*again.witnessed().borrow(), 4);
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
    let contradiction = lacking.contradiction.unwrap();
    assert!(contradiction.contains("witness one:"), "somebody has to look at this: {contradiction}");
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
    let lacking = second.publish().await.unwrap().unwrap().contradiction.unwrap();
    assert!(lacking.contains("witness one: it answered 422") && lacking.contains("has forked"), "{lacking}");
}

#[test]
fn what_a_witness_says_is_one_short_line_without_control_characters() {
    assert_eq!(said("the log has forked\nsecond line"), ": the log has forked");
    assert_eq!(said("\u{1b}[31mred"), ": [31mred");
    assert_eq!((said(""), said("\n")), (String::new(), String::new()));
    assert_eq!(said(&"x".repeat(1_000)).len(), 122);
}
