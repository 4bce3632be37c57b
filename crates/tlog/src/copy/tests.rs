//! Small logs, taken apart in every way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    Hash, LogKey, RightEdge, encode_bundle, leaf_hash,
    test_support::{ORIGIN, log_key, witness_key},
};

/// Files by path.
#[derive(Clone, Debug, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Copied for Files {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(path).cloned())
    }

    fn each_path(&self, found: &mut dyn FnMut(&str)) -> io::Result<()> {
        self.0.keys().for_each(|path| found(path));
        Ok(())
    }
}

fn entry(index: usize) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

/// The files of a log with these entries.
fn files(entries: &[Vec<u8>]) -> Files {
    let mut edge = RightEdge::default();
    let hashes: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let mut files: BTreeMap<_, _> =
        edge.append(&hashes).iter().map(|tile| (tile.id.to_string(), tile.to_bytes())).collect();
    for (bundle, entries) in crate::BundleId::all(0, edge.size()).zip(entries.chunks(256)) {
        files.insert(bundle.to_string(), encode_bundle(entries).unwrap());
    }
    files.insert("checkpoint".into(), sign(edge.size(), edge.root(), &log_key()).to_string().into_bytes());
    Files(files)
}

fn log(size: usize) -> Files {
    files(&(0..size).map(entry).collect::<Vec<_>>())
}

fn sign(size: u64, root: Hash, key: &LogKey) -> SignedCheckpoint {
    let checkpoint = Checkpoint { origin: ORIGIN.into(), size, root, extension: String::new() };
    SignedCheckpoint::sign(checkpoint, key).unwrap()
}

fn verify_with(copy: &Files, expected: &Expectations) -> Report {
    verify_copy(copy, &log_key().verifier(), expected, &mut |_| {}).unwrap()
}

fn verify(copy: &Files) -> Report {
    verify_with(copy, &Expectations::default())
}

fn problems(copy: &Files) -> Vec<Problem> {
    verify(copy).problems
}

fn checkpoint_of(copy: &Files) -> Checkpoint {
    verify(copy).checkpoint.unwrap()
}

const SIZES: [usize; 9] = [0, 1, 2, 3, 255, 256, 257, 600, 66_000];

#[test]
fn an_untouched_log_is_good_and_fully_counted() {
    for size in SIZES {
        let mut last = None;
        let mut progress = |now: Progress| last = Some(now);
        let copy = log(size);
        let report =
            verify_copy(&copy, &log_key().verifier(), &Expectations::default(), &mut progress).unwrap();
        assert!(report.is_good(), "{size}: {:?}", report.problems);
        assert_eq!((report.entries, report.pruned), (size as u64, 0));
        assert_eq!(report.tiles, crate::TileId::all(0, size as u64).count() as u64);
        assert_eq!(last.map_or(0, |last| last.entries), size as u64);
    }
}

/// What names a bit flip at this place of this file.
fn names(problem: &Problem, path: &str, byte: usize) -> bool {
    match problem {
        Problem::TileHash { path: named, position } => named == path && *position == byte / 32,
        Problem::EntryChanged { .. }
        | Problem::EntryMissing { .. }
        | Problem::EntryMoved { .. }
        | Problem::EntryAdded { .. } => path.starts_with("tile/entries/"),
        Problem::Bundle { path: named, .. }
        | Problem::BundleLength { path: named, .. }
        | Problem::ForeignBundle { path: named, .. } => named == path,
        Problem::Checkpoint(_) => path == "checkpoint",
        _ => false,
    }
}

#[test]
fn every_single_flipped_bit_of_a_small_log_is_found_and_its_place_named() {
    for size in [1, 2, 5, 20] {
        let good = log(size);
        for (path, content) in &good.0 {
            for bit in 0..content.len() * 8 {
                let mut copy = good.clone();
                copy.0.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
                let found = problems(&copy);
                assert!(
                    found.iter().any(|problem| names(problem, path, bit / 8)),
                    "{size} {path} {bit}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_any_tile_of_a_larger_log_is_named_alone() {
    let good = log(66_000);
    for (path, content) in good.0.iter().filter(|(path, _)| path.parse::<crate::TileId>().is_ok()) {
        for byte in [0, content.len() / 2, content.len() - 1] {
            let mut copy = good.clone();
            copy.0.get_mut(path).unwrap()[byte] ^= 0x10;
            assert_eq!(problems(&copy), [Problem::TileHash { path: path.clone(), position: byte / 32 }]);
        }
        if content.len() < 2_000 || path.starts_with("tile/1") {
            continue;
        }
        // The tiles of level 0 are alike: a few of them are enough.
        if path.ends_with("005") {
            break;
        }
    }
}

#[test]
fn a_changed_entry_is_named_by_its_index_in_any_bundle() {
    let good = log(600);
    for index in [0, 1, 255, 256, 511, 512, 599] {
        let mut entries: Vec<_> = (0..600).map(entry).collect();
        entries[index][0] ^= 1;
        let mut copy = good.clone();
        let bundle = crate::BundleId::of_entry(index as u64, 600).unwrap();
        let first = usize::try_from(bundle.first_entry()).unwrap();
        let part = &entries[first..(first + 256).min(600)];
        copy.0.insert(bundle.to_string(), encode_bundle(part).unwrap());
        let report = verify(&copy);
        assert_eq!(report.problems, [Problem::EntryChanged { index: index as u64 }]);
        assert_eq!(report.entries, 599);
    }
}

fn with_bundle(size: usize, bundle: &str, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<Problem> {
    let mut copy = log(size);
    let bytes = copy.0.get_mut(bundle).unwrap();
    let mut entries: Vec<_> = crate::decode_bundle(bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    change(&mut entries);
    *bytes = encode_bundle(&entries).unwrap();
    problems(&copy)
}

#[test]
fn dropped_added_and_swapped_entries_are_named() {
    let path = "tile/entries/001.p/44";
    let length = |entries| Problem::BundleLength { path: path.into(), entries, expected: 44 };
    for position in [0, 20, 43_usize] {
        let dropped = with_bundle(300, path, |entries| drop(entries.remove(position)));
        assert_eq!(dropped, [length(43), Problem::EntryMissing { index: 256 + position as u64 }]);
        let added = with_bundle(300, path, |entries| entries.insert(position, b"new".to_vec()));
        assert_eq!(added, [length(45), Problem::EntryAdded { path: path.into(), position }]);
        let doubled = with_bundle(300, path, |entries| entries.insert(position, entries[position].clone()));
        assert_eq!(doubled, [length(45)]);
    }
    let swapped = with_bundle(300, path, |entries| entries.swap(3, 40));
    let moved = |index, belongs_at| Problem::EntryMoved { index, belongs_at };
    assert_eq!(swapped, [moved(259, 296), moved(296, 259)]);
    let replaced = with_bundle(300, path, |entries| {
        entries.remove(43);
        entries.insert(43, b"new".to_vec());
    });
    assert_eq!(replaced, [Problem::EntryChanged { index: 299 }]);
}

fn swap(copy: &mut Files, a: &str, b: &str) {
    let (first, second) = (copy.0[a].clone(), copy.0[b].clone());
    copy.0.insert(a.into(), second);
    copy.0.insert(b.into(), first);
}

#[test]
fn swapped_bundles_and_tiles_are_named_by_their_paths() {
    let mut copy = log(600);
    swap(&mut copy, "tile/entries/000", "tile/entries/001");
    let foreign = |path: &str| Problem::ForeignBundle { path: path.into(), entries: 256 };
    assert_eq!(problems(&copy), [foreign("tile/entries/000"), foreign("tile/entries/001")]);
    let mut copy = log(600);
    swap(&mut copy, "tile/0/000", "tile/0/001");
    let found = problems(&copy);
    assert_eq!(found.len(), 512);
    assert!(found.iter().all(|problem| matches!(problem, Problem::TileHash { .. })));
    // Both together: the tree has other leaves in other places, and the tile above says so.
    swap(&mut copy, "tile/entries/000", "tile/entries/001");
    let tile = |path: &str| Problem::Tile { path: path.into() };
    assert_eq!(problems(&copy), [tile("tile/0/000"), tile("tile/0/001")]);
}

#[test]
fn every_missing_file_and_every_truncated_one_is_named() {
    for size in [1, 300, 600] {
        let good = log(size);
        for (path, content) in &good.0 {
            let mut copy = good.clone();
            copy.0.remove(path);
            assert_eq!(problems(&copy), [Problem::MissingFile { path: path.clone() }], "{size}");
            for length in [0, 1, content.len() / 2, content.len() - 1] {
                let mut copy = good.clone();
                copy.0.get_mut(path).unwrap().truncate(length);
                let found = problems(&copy);
                let named = |problem: &Problem| match problem {
                    Problem::TileLength { path: named, bytes, .. } => named == path && *bytes == length,
                    other => names(other, path, 0),
                };
                assert!(found.iter().any(named), "{size} {path} {length}: {found:?}");
            }
            let mut copy = good.clone();
            copy.0.get_mut(path).unwrap().push(0);
            assert!(!problems(&copy).is_empty(), "{path} with a byte more");
        }
    }
}

#[test]
fn files_that_do_not_belong_are_named() {
    for path in
        ["tile/0/002", "tile/0/001.p/45", "tile/entries/001.p/45", "tile/1/000.p/2", "notes.txt", "tile/0/1"]
    {
        let mut copy = log(300);
        copy.0.insert(path.into(), vec![0; 32]);
        assert_eq!(problems(&copy), [Problem::ExtraFile { path: path.into() }]);
    }
    let mut copy = log(300);
    copy.0.insert("notes.txt".into(), Vec::new());
    let expected = Expectations { more_files: vec!["notes.txt".into()], ..Expectations::default() };
    assert!(verify_with(&copy, &expected).is_good());
}

#[test]
fn a_replaced_partial_file_may_stay_if_it_is_the_beginning_of_the_new_one() {
    let mut copy = log(300);
    for (path, content) in log(44).0.iter().chain(&log(270).0) {
        copy.0.entry(path.clone()).or_insert_with(|| content.clone());
    }
    assert!(verify(&copy).is_good(), "{:?}", problems(&copy));
    for path in ["tile/0/000.p/44", "tile/0/001.p/14", "tile/entries/000.p/44", "tile/entries/001.p/14"] {
        let mut changed = copy.clone();
        *changed.0.get_mut(path).unwrap().last_mut().unwrap() ^= 1;
        assert!(
            matches!(&problems(&changed)[..], [Problem::NotBeginning { path: named, .. }] if named == path)
        );
        changed.0.get_mut(path).unwrap().pop();
        assert!(
            matches!(&problems(&changed)[..], [Problem::NotBeginning { path: named, .. }] if named == path)
        );
    }
}

#[test]
fn pruned_entries_may_be_gone_and_no_others() {
    let mut copy = log(1_000);
    copy.0.remove("tile/entries/000");
    copy.0.remove("tile/entries/001");
    let below = |index| Expectations { pruned: Pruned::Below(index), ..Expectations::default() };
    for expected in
        [below(512), below(600), Expectations { pruned: Pruned::Detect, ..Expectations::default() }]
    {
        let report = verify_with(&copy, &expected);
        assert!(report.is_good(), "{expected:?}: {:?}", report.problems);
        assert_eq!((report.entries, report.pruned), (488, 512));
    }
    let missing = |path: &str| Problem::MissingFile { path: path.into() };
    assert_eq!(verify_with(&copy, &below(511)).problems, [missing("tile/entries/001")]);
    assert_eq!(problems(&copy), [missing("tile/entries/000"), missing("tile/entries/001")]);
    // A hole behind the first bundle is no pruning.
    copy.0.insert("tile/entries/000".into(), log(1_000).0["tile/entries/000"].clone());
    let detect = Expectations { pruned: Pruned::Detect, ..Expectations::default() };
    assert_eq!(verify_with(&copy, &detect).problems, [missing("tile/entries/001")]);
}

#[test]
fn every_flipped_bit_of_the_tiles_of_a_pruned_log_is_found() {
    let mut good = log(600);
    good.0.retain(|path, _| !path.starts_with("tile/entries"));
    let detect = Expectations { pruned: Pruned::Detect, ..Expectations::default() };
    assert_eq!(verify_with(&good, &detect).pruned, 600);
    for (path, content) in good.0.iter().filter(|(path, _)| path.starts_with("tile/")) {
        for bit in (0..content.len() * 8).step_by(41) {
            let mut copy = good.clone();
            copy.0.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_with(&copy, &detect).is_good(), "{path} {bit}");
        }
    }
}

#[test]
fn a_log_with_other_history_behind_the_old_name_and_signature_is_found() {
    let mut entries: Vec<_> = (0..600).map(entry).collect();
    entries[7] = b"another".to_vec();
    // Everything is consistent in itself; only the checkpoint is the good log's.
    let mut copy = files(&entries);
    copy.0.insert("checkpoint".into(), log(600).0["checkpoint"].clone());
    assert_eq!(problems(&copy), [Problem::Root]);
}

#[test]
fn forks_and_rollbacks_are_found_with_a_checkpoint_that_was_seen_before() {
    let mut entries: Vec<_> = (0..600).map(entry).collect();
    entries[7] = b"another".to_vec();
    let copy = files(&entries);
    let seen = |copy: &Files| Expectations { earlier: vec![checkpoint_of(copy)], ..Expectations::default() };
    for size in [0, 1, 7, 255, 256, 300, 512, 600] {
        assert!(verify_with(&log(600), &seen(&log(size))).is_good(), "{size}");
        let forked = verify_with(&copy, &seen(&log(size))).problems;
        assert_eq!(forked, if size > 7 { vec![Problem::Fork { size: size as u64 }] } else { vec![] });
    }
    let rolled_back = verify_with(&log(600), &seen(&log(601))).problems;
    assert_eq!(rolled_back, [Problem::Rollback { size: 600, seen: 601 }]);
    let mut other = checkpoint_of(&log(1));
    other.origin = "example.org/other".into();
    let expected = Expectations { earlier: vec![other], ..Expectations::default() };
    assert_eq!(
        verify_with(&log(600), &expected).problems,
        [Problem::OtherLog { origin: "example.org/other".into() }]
    );
}

#[test]
fn a_checkpoint_by_a_stranger_or_without_witnesses_is_not_believed() {
    let mut copy = log(3);
    let good = checkpoint_of(&copy);
    let policy = Policy::new(1, vec![witness_key(1).verifier()]).unwrap();
    let expected = Expectations { policy: policy.clone(), ..Expectations::default() };
    assert!(matches!(verify_with(&copy, &expected).problems[..], [Problem::Checkpoint(_)]));
    let mut signed = sign(3, good.root, &log_key());
    signed.add_cosignatures(&witness_key(1).cosign(&good, 9), policy.witnesses());
    copy.0.insert("checkpoint".into(), signed.to_string().into_bytes());
    assert_eq!(verify_with(&copy, &expected).cosigned[0].unix_s, 9);
    let stranger = LogKey::from_seed(ORIGIN, &[7; 32]).unwrap();
    copy.0.insert("checkpoint".into(), sign(3, good.root, &stranger).to_string().into_bytes());
    assert!(matches!(problems(&copy)[..], [Problem::Checkpoint(_)]));
}

#[test]
fn a_copy_in_a_folder_is_read_as_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in &log(300).0 {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let copy = DirectoryCopy::open(folder.path()).unwrap();
    let check =
        || verify_copy(&copy, &log_key().verifier(), &Expectations::default(), &mut |_| {}).unwrap().problems;
    assert_eq!(check(), []);
    std::os::unix::fs::symlink("000", folder.path().join("tile/entries/007")).unwrap();
    assert_eq!(check(), [Problem::ExtraFile { path: "tile/entries/007".into() }]);
    std::fs::remove_file(folder.path().join("tile/entries/000")).unwrap();
    assert!(check().contains(&Problem::MissingFile { path: "tile/entries/000".into() }));
    assert!(DirectoryCopy::open(&folder.path().join("checkpoint")).is_err());
}

#[test]
fn problems_beyond_the_limit_are_only_counted() {
    let mut copy = log(66_000);
    copy.0.retain(|path, _| path == "checkpoint" || !path.starts_with("tile/entries"));
    let mut more = copy.clone();
    (0..2_000).for_each(|number| drop(more.0.insert(format!("extra {number}"), Vec::new())));
    let report = verify(&more);
    assert_eq!(report.problem_count, 258 + 2_000);
    assert_eq!(report.problems.len(), MAX_PROBLEMS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_of_any_file_is_found(
        size in 1..700_usize, file: prop::sample::Index, at: prop::sample::Index, to: u8, kind in 0..4,
    ) {
        let good = log(size);
        let mut copy = good.clone();
        let path = file.get(&good.0.keys().collect::<Vec<_>>()).to_string();
        let content = copy.0.get_mut(&path).unwrap();
        let place = at.index(content.len());
        match kind {
            0 => content[place] = to,
            1 => drop(content.remove(place)),
            2 => content.insert(place, to),
            _ => content.truncate(place),
        }
        prop_assert_eq!(verify(&copy).is_good(), copy.0 == good.0);
    }
}
