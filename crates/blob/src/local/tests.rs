use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{body, conformance, read};

fn files_below(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { files_below(&entry.path()) } else { 1 }).sum()
}

fn key(text: &str) -> BlobKey {
    text.parse().unwrap()
}

/// Opens a directory that was open a moment ago. A process that another test is just starting has it open as well,
/// until it becomes a program.
fn open_again(directory: &Path) -> LocalDirectory {
    for _ in 0..6_000 {
        match LocalDirectory::open(directory) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("{} is still locked", directory.display());
}

#[tokio::test]
async fn a_local_directory_keeps_the_contract() {
    let directory = TempDir::new().unwrap();
    conformance::run(&LocalDirectory::open(directory.path()).unwrap()).await;
    assert_eq!(files_below(&directory.path().join(partial::DIRECTORY)), 0, "no upload is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_local_directory_keeps_the_contract_on_many_threads() {
    let directory = TempDir::new().unwrap();
    conformance::run(&LocalDirectory::open(directory.path()).unwrap()).await;
}

#[tokio::test]
async fn a_crash_in_the_middle_of_an_upload_leaves_nothing_after_the_next_start() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    store.put(&key("kept/object"), body("kept"), 4).await.unwrap();
    drop(store);
    // As a crash leaves it: once before the link, once between the link and the removal.
    let leftovers = directory.path().join(partial::DIRECTORY);
    fs::write(leftovers.join("half"), b"half an obj").unwrap();
    fs::hard_link(directory.path().join("kept/object"), leftovers.join("linked")).unwrap();

    let store = open_again(directory.path());
    assert_eq!(files_below(&leftovers), 0);
    assert_eq!(store.list("", None, 10).await.unwrap(), [key("kept/object")]);
    assert_eq!(read(&store, &key("kept/object"), 0..4).await.unwrap(), "kept");
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_replacement_leaves_the_old_bytes() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    store.replace(&key("log/checkpoint"), Bytes::from_static(b"old")).await.unwrap();
    for leftover in [&b"n"[..], b"new"] {
        // As a crash leaves it: once while the file is written, once before it is renamed.
        fs::write(directory.path().join(partial::DIRECTORY).join("new"), leftover).unwrap();
    }
    drop(store);
    let store = open_again(directory.path());
    assert_eq!(files_below(&directory.path().join(partial::DIRECTORY)), 0);
    assert_eq!(store.read_whole(&key("log/checkpoint"), 10).await.unwrap(), "old");
}

#[tokio::test]
async fn a_replacement_that_fails_leaves_the_old_object_and_no_file() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    store.put(&key("log/tile"), body("old"), 3).await.unwrap();
    for _ in 0..2 {
        // A directory cannot be renamed over, and nothing lies below a file.
        for impossible in ["log", "log/tile/below"] {
            assert!(store.replace(&key(impossible), Bytes::from_static(b"new")).await.is_err());
        }
    }
    assert_eq!(files_below(directory.path()), 1);
    assert_eq!(store.read_whole(&key("log/tile"), 10).await.unwrap(), "old");
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_leaves_no_file() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    let first = stream::once(async { Ok(Bytes::from(vec![1; 2 * BATCH_BYTES])) });
    let endless: ByteStream = Box::pin(first.chain(stream::pending()));
    let name = key("a");
    let upload = store.put(&name, endless, u64::MAX);
    assert!(tokio::time::timeout(Duration::from_millis(200), upload).await.is_err());
    // The last write may still be under way on the blocking pool.
    let gone = async {
        while files_below(directory.path()) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
}

#[tokio::test]
async fn a_second_process_cannot_open_the_directory() {
    let directory = TempDir::new().unwrap();
    let _first = LocalDirectory::open(directory.path()).unwrap();
    let second = LocalDirectory::open(directory.path()).unwrap_err();
    assert!(matches!(second, Error::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn objects_and_directories_are_for_their_owner_only() {
    let directory = TempDir::new().unwrap();
    let root = directory.path().join("objects");
    let store = LocalDirectory::open(&root).unwrap();
    store.put(&key("zone/object"), body("x"), 1).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("zone")), 0o700);
    assert_eq!(mode(&root.join("zone/object")), 0o600);
}

#[tokio::test]
async fn an_object_that_was_cut_behind_our_back_ends_the_stream_with_an_error() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    let size = 3 * BATCH_BYTES as u64;
    store.put(&key("cut"), body(vec![1; 3 * BATCH_BYTES]), size).await.unwrap();
    let mut pieces = store.get(&key("cut"), 0..size).await.unwrap();
    pieces.next().await.unwrap().unwrap();
    File::options().write(true).open(directory.path().join("cut")).unwrap().set_len(10).unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn files_that_are_not_objects_are_not_listed() {
    let directory = TempDir::new().unwrap();
    let store = LocalDirectory::open(directory.path()).unwrap();
    fs::write(directory.path().join("README.TXT"), b"x").unwrap();
    fs::create_dir(directory.path().join("LOST")).unwrap();
    fs::write(directory.path().join("LOST/a"), b"x").unwrap();
    assert!(store.list("", None, 10).await.unwrap().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn listing_agrees_with_sorting_all_keys(
        names in proptest::collection::btree_set("[ab][.0-]?(/[ab][.0-]?){0,2}", 0..12),
        prefix in "([ab][.0-]?/?)?",
        after in "[ab][.0-]?(/[ab])?",
    ) {
        let directory = TempDir::new().unwrap();
        for name in &names {
            let path = directory.path().join(name);
            // A name below an object, or above one, cannot be a file too.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() {
                let _ = fs::write(path, b"x");
            }
        }
        let after = key(&after);
        let expected: Vec<BlobKey> = names
            .iter()
            .filter(|name| directory.path().join(name).is_file())
            .map(|name| key(name))
            .filter(|key| key.as_str().starts_with(&prefix) && *key > after)
            .collect();
        let listed = listing::walk(directory.path(), &prefix, Some(&after), 100).unwrap();
        let listed: Vec<_> = listed.into_iter().map(|found| found.key).collect();
        prop_assert_eq!(listed, expected);
    }
}
