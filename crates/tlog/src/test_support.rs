//! A Merkle tree as the RFC defines it, slow and obvious, and logs to take apart.

use crate::{Hash, LogKey, WitnessKey, leaf_hash, node_hash};

/// Hashes of so many different leaves.
pub(crate) fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|index| leaf_hash(format!("leaf {index}").as_bytes())).collect()
}

/// RFC 6962, section 2.1, word by word.
pub(crate) fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::EMPTY,
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// The largest power of two smaller than `size`.
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// PATH(m, D[n]) of RFC 6962, section 2.1.1.
pub(crate) fn naive_path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, sibling) = if index < left.len() {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - left.len(), right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// PROOF(m, D[n]) of RFC 6962, section 2.1.2.
pub(crate) fn naive_consistency(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    naive_subproof(old, leaves, true)
}

fn naive_subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut proof, sibling) = if old <= left.len() {
        (naive_subproof(old, left, whole), naive_root(right))
    } else {
        (naive_subproof(old - left.len(), right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

pub(crate) const ORIGIN: &str = "example.org/obscura/audit/eu";

pub(crate) fn log_key() -> LogKey {
    LogKey::from_seed(ORIGIN, &[1; 32]).unwrap()
}

pub(crate) fn witness_key(number: u8) -> WitnessKey {
    WitnessKey::from_seed(&format!("witness{number}.example"), &[100 + number; 32]).unwrap()
}
