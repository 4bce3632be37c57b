//! What every back end must do, as one suite that each of them runs in its tests.

#![expect(clippy::expect_used, reason = "a suite says what is wrong by panicking")]

use std::io;

use bytes::Bytes;
use futures::{future, stream};
use uuid::Uuid;

use crate::{BlobKey, BlobStore, ByteStream, Error, MAX_REPLACEABLE_BYTES, body, read};

/// Runs the whole suite below keys that nobody else uses.
///
/// # Panics
/// Where the store breaks its contract.
pub async fn run(store: &dyn BlobStore) {
    run_but_for_races(store).await;
    one_of_many_concurrent_puts_wins(store).await;
}

/// The suite without uploads that compete for one key.
///
/// # Panics
/// Where the store breaks its contract.
pub async fn run_but_for_races(store: &dyn BlobStore) {
    run_but_for_writing_once(store).await;
    objects_are_written_once(store).await;
    what_was_replaced_is_not_written_again(store).await;
}

/// The suite for a store that does not honour conditional uploads, as the self-test says of it.
///
/// # Panics
/// Where the store breaks the rest of its contract.
pub async fn run_but_for_writing_once(store: &dyn BlobStore) {
    an_object_reads_back(store).await;
    an_empty_object_is_an_object(store).await;
    a_body_of_many_pieces_arrives_in_order(store).await;
    a_wrong_size_leaves_nothing_visible(store).await;
    a_broken_body_leaves_nothing_visible(store).await;
    ranges_must_lie_within_the_object(store).await;
    absent_objects_are_said_to_be_absent(store).await;
    deleting_twice_is_fine(store).await;
    keys_are_listed_in_order_and_page_by_page(store).await;
    a_whole_object_reads_within_its_limit(store).await;
    an_object_is_replaced_whole(store).await;
    who_reads_while_an_object_is_replaced_sees_the_old_or_the_new_one(store).await;
    only_small_objects_are_replaced(store).await;
}

fn key(prefix: &str, name: &str) -> BlobKey {
    format!("{prefix}{name}").parse().expect("a valid key")
}

fn fresh_prefix() -> String {
    format!("conformance/{}/", Uuid::new_v4())
}

fn pieces(pieces: Vec<io::Result<Bytes>>) -> ByteStream {
    Box::pin(stream::iter(pieces))
}

async fn put(store: &dyn BlobStore, key: &BlobKey, bytes: &[u8]) {
    let size = bytes.len() as u64;
    store.put(key, body(Bytes::copy_from_slice(bytes)), size).await.expect("a new object is stored");
}

async fn an_object_reads_back(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "object.pack");
    put(store, &key, b"sealed bytes").await;
    assert_eq!(store.size(&key).await.expect("it has a size"), 12);
    assert_eq!(read(store, &key, 0..12).await.expect("it reads"), "sealed bytes");
    assert_eq!(read(store, &key, 7..10).await.expect("a part reads"), "byt");
}

async fn an_empty_object_is_an_object(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "empty");
    put(store, &key, b"").await;
    assert_eq!(store.size(&key).await.expect("it has a size"), 0);
    assert!(read(store, &key, 0..0).await.expect("it reads").is_empty());
}

async fn a_body_of_many_pieces_arrives_in_order(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "large");
    let part = |number: u8| Bytes::from(vec![number; 50_000 + usize::from(number)]);
    let expected: Vec<u8> = (0..100).flat_map(part).collect();
    let size = expected.len() as u64;
    let sent = (0..100).flat_map(|number| [Ok(part(number)), Ok(Bytes::new())]).collect();
    store.put(&key, pieces(sent), size).await.expect("stored");
    let stored = read(store, &key, 0..size).await.expect("it reads");
    assert!(stored == expected, "the pieces came back in another order or number");
    let middle = read(store, &key, 1_000_000..3_500_000).await.expect("a long range reads");
    assert!(expected.get(1_000_000..3_500_000).is_some_and(|part| middle == part), "a long range differs");
}

async fn objects_are_written_once(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "once");
    put(store, &key, b"first").await;
    let second = store.put(&key, body("other"), 5).await;
    assert!(matches!(second, Err(Error::AlreadyExists(_))), "{second:?}");
    assert_eq!(read(store, &key, 0..5).await.expect("it reads"), "first");
}

async fn one_of_many_concurrent_puts_wins(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "race");
    let attempts = (0..16_u8).map(|number| {
        let key = &key;
        let bytes = vec![number; 70_000];
        async move { (number, store.put(key, body(bytes), 70_000).await) }
    });
    let mut winners = Vec::new();
    for (number, outcome) in future::join_all(attempts).await {
        match outcome {
            Ok(()) => winners.push(number),
            Err(error) => assert!(matches!(error, Error::AlreadyExists(_)), "{error}"),
        }
    }
    let stored = read(store, &key, 0..70_000).await.expect("it reads");
    assert_eq!(winners.len(), 1, "exactly one upload wins");
    assert!(stored.iter().all(|byte| winners.contains(byte)), "the bytes are those of the winner");
}

async fn nothing_is_visible(store: &dyn BlobStore, prefix: &str, key: &BlobKey) {
    assert!(matches!(store.size(key).await, Err(Error::NotFound(_))), "the object has a size");
    assert!(matches!(read(store, key, 0..0).await, Err(Error::NotFound(_))), "the object reads");
    assert!(store.list(prefix, None, 10).await.expect("it lists").is_empty(), "the object is listed");
}

async fn a_wrong_size_leaves_nothing_visible(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let key = key(&prefix, "liar");
    for announced in [0, 4, 6, u64::MAX] {
        let outcome = store.put(&key, body("bytes"), announced).await;
        assert!(matches!(outcome, Err(Error::WrongSize { .. })), "{announced}: {outcome:?}");
        nothing_is_visible(store, &prefix, &key).await;
    }
    put(store, &key, b"truth").await;
}

async fn a_broken_body_leaves_nothing_visible(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let key = key(&prefix, "broken");
    let broken = pieces(vec![Ok(Bytes::from_static(b"he")), Err(io::ErrorKind::ConnectionReset.into())]);
    let outcome = store.put(&key, broken, 5).await;
    assert!(matches!(outcome, Err(Error::Body(_))), "{outcome:?}");
    nothing_is_visible(store, &prefix, &key).await;
}

async fn ranges_must_lie_within_the_object(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "ranges");
    put(store, &key, b"0123456789").await;
    assert!(read(store, &key, 10..10).await.expect("an empty range at the end").is_empty());
    for (start, end) in [(0, 11), (11, 11), (10, 12), (5, 4), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let outcome = read(store, &key, start..end).await;
        assert!(matches!(outcome, Err(Error::OutOfBounds { size: 10, .. })), "{start}..{end}: {outcome:?}");
    }
}

async fn absent_objects_are_said_to_be_absent(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    nothing_is_visible(store, &prefix, &key(&prefix, "absent/below/nothing")).await;
    put(store, &key(&prefix, "object"), b"x").await;
    let below = store.size(&key(&prefix, "object/below")).await;
    assert!(matches!(below, Err(Error::NotFound(_))), "{below:?}");
}

async fn deleting_twice_is_fine(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let key = key(&prefix, "gone");
    put(store, &key, b"x").await;
    store.delete(&key).await.expect("it is deleted");
    store.delete(&key).await.expect("that it is absent is fine");
    nothing_is_visible(store, &prefix, &key).await;
    put(store, &key, b"again").await;
}

async fn keys_are_listed_in_order_and_page_by_page(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let mut expected = Vec::new();
    // `-` and `.` sort before `/`, digits after it: a tree that is walked by name alone gets it wrong.
    for name in ["a/1", "a/2", "a-b/1", "a.b/1", "a0/1", "a00", "b/c/d/e", "zz"] {
        expected.push(key(&prefix, name));
    }
    for key in &expected {
        put(store, key, b"x").await;
    }
    expected.sort();
    for page in [1, 3, 100] {
        assert_eq!(list_by_pages(store, &prefix, page).await, expected, "pages of {page}");
    }
    let below_a: Vec<_> = expected.iter().filter(|key| key.as_str().contains("/a/")).cloned().collect();
    assert_eq!(list_by_pages(store, &format!("{prefix}a/"), 10).await, below_a);
    assert!(store.list(&prefix, None, 0).await.expect("it lists").is_empty());
    let longer = key(&prefix, "b/longer");
    put(store, &longer, b"0123456789").await;
    let walked = store.walk(&format!("{prefix}b/"), None, 10).await.expect("it lists");
    // A store may keep sizes to itself; what it says is true.
    let told: Vec<_> = walked.iter().map(|found| (&found.key, found.size.unwrap_or(0))).collect();
    let below_b = expected.iter().find(|key| key.as_str().contains("/b/")).expect("there is one");
    assert!(told.iter().all(|(key, size)| *size == if *key == &longer { 10 } else { 1 }), "{told:?}");
    assert_eq!(told.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [below_b, &longer]);
}

async fn list_by_pages(store: &dyn BlobStore, prefix: &str, page: usize) -> Vec<BlobKey> {
    let mut keys: Vec<BlobKey> = Vec::new();
    loop {
        let next = store.list(prefix, keys.last(), page).await.expect("it lists");
        assert!(next.len() <= page, "no page is longer than asked for");
        if next.is_empty() {
            return keys;
        }
        keys.extend(next);
    }
}

async fn a_whole_object_reads_within_its_limit(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let key = key(&prefix, "whole");
    assert!(matches!(store.read_whole(&key, 10).await, Err(Error::NotFound(_))));
    put(store, &key, b"0123456789").await;
    assert_eq!(store.read_whole(&key, 10).await.expect("it reads"), "0123456789");
    let outcome = store.read_whole(&key, 9).await;
    assert!(matches!(outcome, Err(Error::TooLarge { bytes: 10, limit: 9 })), "{outcome:?}");
}

async fn replace(store: &dyn BlobStore, key: &BlobKey, bytes: impl Into<Bytes>) {
    store.replace(key, bytes.into()).await.expect("it is replaced");
}

async fn an_object_is_replaced_whole(store: &dyn BlobStore) {
    let prefix = fresh_prefix();
    let key = key(&prefix, "below/checkpoint");
    for text in ["first", "a longer second", "", "3"] {
        replace(store, &key, text).await;
        assert_eq!(store.read_whole(&key, 100).await.expect("it reads"), text);
        assert_eq!(store.size(&key).await.expect("it has a size"), text.len() as u64);
    }
    assert_eq!(store.list(&prefix, None, 10).await.expect("it lists"), std::slice::from_ref(&key));
    store.delete(&key).await.expect("it is deleted");
    nothing_is_visible(store, &prefix, &key).await;
}

async fn what_was_replaced_is_not_written_again(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "checkpoint");
    replace(store, &key, "first").await;
    let second = store.put(&key, body("other"), 5).await;
    assert!(matches!(second, Err(Error::AlreadyExists(_))), "{second:?}");
    assert_eq!(store.read_whole(&key, 10).await.expect("it reads"), "first");
}

async fn who_reads_while_an_object_is_replaced_sees_the_old_or_the_new_one(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "checkpoint");
    let version = |number: u8| Bytes::from(vec![number; 1_000 + 10_000 * usize::from(number)]);
    replace(store, &key, version(0)).await;
    let write = async {
        for number in 1..12 {
            replace(store, &key, version(number)).await;
        }
    };
    let look = async {
        for _ in 0..24 {
            let seen = store.read_whole(&key, 1_000_000).await.expect("it reads");
            let number = seen.first().copied().expect("no version is empty");
            assert!(seen == version(number), "neither the old bytes nor the new ones");
        }
    };
    future::join(write, look).await;
    assert!(store.read_whole(&key, 1_000_000).await.expect("it reads") == version(11), "the last one wins");
}

async fn only_small_objects_are_replaced(store: &dyn BlobStore) {
    let key = key(&fresh_prefix(), "large");
    replace(store, &key, vec![7; MAX_REPLACEABLE_BYTES]).await;
    let outcome = store.replace(&key, vec![8; MAX_REPLACEABLE_BYTES + 1].into()).await;
    assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{outcome:?}");
    let seen = store.read_whole(&key, MAX_REPLACEABLE_BYTES as u64).await.expect("it reads");
    assert!(seen.iter().all(|byte| *byte == 7), "the old bytes stay");
}
