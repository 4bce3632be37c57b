//! Against ordinary reads of the same file.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    /// As a batch that expects the end of the file where it is, or so many bytes from there.
    Batch(Vec<u8>, u64),
    Sync,
    /// Back to what was synced last.
    Cut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = (any::<u8>(), 1..20_000_usize).prop_map(|(byte, length)| vec![byte | 1; length]);
    let batch = (bytes.clone(), prop_oneof![3 => Just(0), 1 => 0..5_000_u64]);
    let step = prop_oneof![
        4 => bytes.prop_map(Step::Append),
        4 => batch.prop_map(|(bytes, wrong)| Step::Batch(bytes, wrong)),
        2 => Just(Step::Sync),
        1 => Just(Step::Cut)
    ];
    prop::collection::vec(step, 0..20)
}

fn dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    (dir, path)
}

proptest! {
    #[test]
    fn a_file_holds_what_was_appended_and_at_most_a_block_of_zeros(steps in steps()) {
        let (_dir, path) = dir();
        let mut file = AppendedFile::create(&path, 0o600, 3 * BLOCK_BYTES).unwrap();
        let (mut appended, mut synced) = (Vec::new(), 0);
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    file.append(&bytes).unwrap();
                    appended.extend(bytes);
                }
                Step::Batch(bytes, wrong) => {
                    let mut batch = Batch::with_capacity(bytes.len());
                    batch.restart(file.length() + wrong);
                    prop_assert!(batch.push(&bytes));
                    file.append_batch(&mut batch).unwrap();
                    prop_assert_eq!(batch.bytes(), &bytes[..], "it can be written once more");
                    appended.extend(bytes);
                }
                Step::Sync => {
                    file.sync().unwrap();
                    synced = appended.len();
                    let found = fs::read(&path).unwrap();
                    prop_assert_eq!(&found[..synced], &appended[..]);
                    prop_assert!(found.len() < synced + BLOCK_BYTES);
                    prop_assert!(found[synced..].iter().all(|byte| *byte == 0));
                }
                Step::Cut => {
                    file.cut(synced as u64).unwrap();
                    appended.truncate(synced);
                }
            }
            prop_assert_eq!(file.length(), appended.len() as u64);
        }
        file.finish().unwrap();
        prop_assert_eq!(fs::read(&path).unwrap(), appended);
    }

    #[test]
    fn any_range_is_read_as_it_stands(length in 0..600_000_usize, from in 0..600_000_usize, bytes in 0..600_000_usize) {
        let (_dir, path) = dir();
        let content: Vec<u8> = (0..251_u8).cycle().take(length).collect();
        fs::write(&path, &content).unwrap();
        let mut into = vec![0; bytes];
        let read = DirectReader::open(&path).unwrap().read_exact_at(&mut into, from as u64);
        match content.get(from..from + bytes).filter(|_| bytes > 0) {
            Some(expected) => {
                read.unwrap();
                prop_assert!(into == expected);
            }
            None => prop_assert!(bytes == 0 || read.is_err()),
        }
    }
}

#[test]
fn what_is_synced_is_read_while_more_is_appended() {
    let (_dir, path) = dir();
    let mut file = AppendedFile::create(&path, 0o600, BLOCK_BYTES).unwrap();
    let reader = file.reader().unwrap();
    let mut seen = [0; 10];
    for round in 0..1_000_u64 {
        file.append(&[1 + u8::try_from(round % 200).unwrap(); 10]).unwrap();
        file.sync().unwrap();
        reader.read_exact_at(&mut seen, round * 10).unwrap();
        assert_eq!(seen, [1 + u8::try_from(round % 200).unwrap(); 10]);
    }
}

#[test]
fn a_batch_takes_all_or_nothing() {
    let mut batch = Batch::with_capacity(10_000);
    for offset in [0, 1, 4_095, 4_096, 12_345] {
        batch.restart(offset);
        assert!(batch.is_empty());
        assert!(batch.push(&[7; 9_000]));
        assert!(!batch.push(&[8; 8_000]));
        assert!(batch.push(&[9; 1_000]));
        assert_eq!(batch.bytes(), [[7; 9_000].as_slice(), &[9; 1_000]].concat());
        assert_eq!(batch.len(), 10_000);
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let (_dir, path) = dir();
    fs::write(&path, b"somebody's").unwrap();
    assert!(AppendedFile::create(&path, 0o600, BLOCK_BYTES).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
}
