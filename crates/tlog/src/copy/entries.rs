//! How the entries of a bundle differ from the hashes that they must have.

use std::collections::{HashMap, HashSet};

use crate::{BundleId, Hash, Problem};

/// Names every difference between the hashes that a sound tile has and those of the entries found.
pub fn differences(bundle: BundleId, expected: &[Hash], found: &[Hash]) -> Vec<Problem> {
    if expected == found {
        return Vec::new();
    }
    if expected.len() == found.len() {
        replaced(bundle, expected, found)
    } else {
        resized(bundle, expected, found)
    }
}

fn replaced(bundle: BundleId, expected: &[Hash], found: &[Hash]) -> Vec<Problem> {
    let places: HashMap<_, _> = expected.iter().zip(bundle.first_entry()..).collect();
    let pairs = expected.iter().zip(found).zip(bundle.first_entry()..);
    let problems: Vec<_> = pairs
        .filter(|((expected, found), _)| expected != found)
        .map(|((_, found), index)| match places.get(found) {
            Some(belongs_at) => Problem::EntryMoved { index, belongs_at: *belongs_at },
            None => Problem::EntryChanged { index },
        })
        .collect();
    let changed = |problem: &Problem| matches!(problem, Problem::EntryChanged { .. });
    if problems.len() > 1 && problems.len() == found.len() && problems.iter().all(changed) {
        return vec![Problem::ForeignBundle { path: bundle.to_string(), entries: found.len() }];
    }
    problems
}

fn resized(bundle: BundleId, expected: &[Hash], found: &[Hash]) -> Vec<Problem> {
    let path = bundle.to_string();
    let length = Problem::BundleLength { path: path.clone(), entries: found.len(), expected: expected.len() };
    let (wanted, there): (HashSet<_>, HashSet<_>) = (expected.iter().collect(), found.iter().collect());
    let missing = expected.iter().zip(bundle.first_entry()..);
    let missing = missing.filter(|(hash, _)| !there.contains(hash));
    let added = found.iter().enumerate().filter(|(_, hash)| !wanted.contains(hash));
    [length]
        .into_iter()
        .chain(missing.map(|(_, index)| Problem::EntryMissing { index }))
        .chain(added.map(|(position, _)| Problem::EntryAdded { path: path.clone(), position }))
        .collect()
}
