//! The outbox against a real gRPC server that behaves badly.

mod append;
mod disk;
mod forgetting;
mod log;
mod sending;

use std::{
    collections::{BTreeSet, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use obscura_clock::{SharedClock, SystemClock};
use obscura_proto::audit::v1::{Event, GrantDecision, Outcome, Person, Test, event::Body};
use tokio::time;

use self::log::{BAD, Log, anywhere, channel, client, serve, strikes, trust};
use crate::{AuditLog, Error, Limits, OnOld, Outbox, event, file::Step};

fn clock() -> SharedClock {
    SystemClock::shared()
}

fn test(text: &str) -> Body {
    Body::Test(Test { text: text.into() })
}

fn record(outbox: &Outbox, texts: std::ops::Range<u32>) {
    texts.for_each(|number| outbox.record_body_or_drop(Outcome::Success, test(&number.to_string())));
}

fn numbers(texts: std::ops::Range<u32>) -> Vec<String> {
    texts.map(|number| number.to_string()).collect()
}

async fn open(folder: &tempfile::TempDir) -> Outbox {
    Outbox::open(folder.path(), Limits::default(), clock()).await.unwrap()
}

async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    time::timeout(Duration::from_secs(60), waiting).await.expect("in 60 s");
}

async fn until_empty(outbox: &Outbox) {
    until(|| outbox.queued() == 0).await;
}

#[tokio::test]
async fn flush_says_whether_the_disk_took_everything_and_never_waits_for_a_closed_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let looked_at = Arc::clone(&broken);
    let gate: crate::file::Gate = Box::new(move |step| match step {
        Step::SyncFile if looked_at.load(Ordering::SeqCst) => {
            Err(io::Error::other("no space left on device"))
        }
        _ => Ok(()),
    });
    let outbox = Outbox::open_with(folder.path(), Limits::default(), clock(), gate).await.unwrap();
    assert!(outbox.flush().await);
    broken.store(true, Ordering::SeqCst);
    record(&outbox, 0..1);
    assert!(!outbox.flush().await);
    broken.store(false, Ordering::SeqCst);
    assert!(outbox.flush().await);
    outbox.close().await;
    assert!(!outbox.flush().await);
}

#[tokio::test]
async fn a_second_process_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = open(&folder).await;
    let error = Outbox::open(folder.path(), Limits::default(), clock()).await.unwrap_err();
    assert!(error.to_string().contains("cannot be opened"), "{error}");
    outbox.close().await;
}
