use proptest::prelude::*;

use super::*;
use crate::SLOTS_PER_HOUR;

fn layer_key() -> LayerKey {
    LayerKey::from_bytes([42; 32])
}

fn all_slots() -> impl Iterator<Item = Slot> {
    (0..SLOTS_PER_HOUR).map(|slot| Slot::new(slot).unwrap())
}

fn range(first: u16, last: u16) -> SlotRange {
    SlotRange::new(Slot::new(first).unwrap(), Slot::new(last).unwrap()).unwrap()
}

fn slot_sets(ranges: std::ops::Range<usize>) -> impl Strategy<Value = SlotSet> {
    let range = (0..SLOTS_PER_HOUR, 0..400_u16)
        .prop_map(|(first, length)| range(first, (first + length).min(SLOTS_PER_HOUR - 1)));
    prop::collection::vec(range, ranges).prop_map(|ranges| ranges.into_iter().collect())
}

/// The definition of a cover: the largest subtrees that lie wholly in the set.
fn fewest(slots: &SlotSet, depth: u8, index: u16) -> Vec<(u8, u16)> {
    let width = 1 << (TREE_DEPTH - depth);
    let leaves: Vec<bool> = (index * width..(index + 1) * width)
        .map(|leaf| Slot::new(leaf).is_ok_and(|slot| slots.contains(slot)))
        .collect();
    if leaves.iter().all(|inside| *inside) {
        return vec![(depth, index)];
    }
    if leaves.iter().all(|inside| !inside) {
        return Vec::new();
    }
    [fewest(slots, depth + 1, index * 2), fewest(slots, depth + 1, index * 2 + 1)].concat()
}

fn invariant_opens_exactly(nodes: &NodeSet, slots: &SlotSet, key: &LayerKey) {
    assert_eq!(nodes.slots(), *slots);
    for slot in all_slots() {
        let leaf = nodes.leaf(slot);
        assert_eq!(leaf.is_some(), slots.contains(slot), "slot {}", slot.get());
        assert!(leaf.is_none_or(|leaf| leaf.expose() == key.leaf(slot).expose()));
    }
}

#[test]
fn thirty_two_bytes_are_a_whole_key() {
    let key = layer_key();
    invariant_opens_exactly(&NodeSet::decode(key.expose()).unwrap(), &SlotSet::whole_hour(), &key);
    invariant_opens_exactly(&NodeSet::whole(&key), &SlotSet::whole_hour(), &key);
}

#[test]
fn a_set_of_another_key_is_told_apart() {
    let left = NodeSet::whole(&layer_key()).puncture(&range(7, 900).into());
    assert!(left.is_part_of(&layer_key()));
    assert!(!left.is_part_of(&LayerKey::from_bytes([43; 32])));
}

#[test]
fn every_other_slot_still_fits() {
    let odd: SlotSet = (0..SLOTS_PER_HOUR / 2).map(|half| range(half * 2, half * 2)).collect();
    let left = NodeSet::whole(&layer_key()).puncture(&odd);
    assert_eq!(left.nodes().len(), 900);
    assert_eq!(NodeSet::decode(&left.encode().unwrap()).unwrap().slots(), left.slots());
}

#[test]
fn what_is_no_set_is_refused() {
    let two = NodeSet::whole(&layer_key()).restrict(&[range(0, 0), range(9, 9)].into_iter().collect());
    let good = two.encode().unwrap();
    assert!(NodeSet::decode(&good).is_ok());
    let (first, second) = (&good[3..38], &good[38..]);
    let unused = [&[11, 7, 8][..], &[1; 32]].concat();
    let outside = [&[12, 0, 0][..], &[1; 32]].concat();
    let refused = [
        Vec::new(),
        vec![1],
        vec![1, 0, 1],
        [&[2], &good[1..]].concat(),
        [&good[..], &[0]].concat(),
        good[..good.len() - 1].to_vec(),
        [&good[..3], second, first].concat(),
        [&good[..3], first, first].concat(),
        [&[1, 0, 2][..], &[0; 35], first].concat(),
        [&[1, 0, 1][..], &unused].concat(),
        [&[1, 0, 1][..], &outside].concat(),
        [&[1, 7, 9][..], &vec![0; 1_801 * 35]].concat(),
    ];
    for bytes in refused {
        assert!(NodeSet::decode(&bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_punctured_key_opens_everything_but_the_removed_slots(removed in slot_sets(0..6)) {
        let key = layer_key();
        let left = NodeSet::whole(&key).puncture(&removed);
        let stays = SlotSet::whole_hour().difference(&removed);
        invariant_opens_exactly(&left, &stays, &key);
        prop_assert!(left.nodes().len() <= 2 * 11 * removed.ranges().len() + 4);
        let positions: Vec<_> = left.nodes().iter().map(|node| (node.depth(), node.index())).collect();
        prop_assert_eq!(positions, fewest(&stays, 0, 0));
    }

    #[test]
    fn puncturing_twice_is_puncturing_once(first in slot_sets(0..4), second in slot_sets(0..4)) {
        let whole = NodeSet::whole(&layer_key());
        let twice = whole.puncture(&first).puncture(&second);
        let once = whole.puncture(&first.union(&second));
        prop_assert_eq!(twice.encode().unwrap(), once.encode().unwrap());
    }

    #[test]
    fn a_set_survives_being_stored(slots in slot_sets(0..6)) {
        let set = NodeSet::whole(&layer_key()).restrict(&slots);
        let bytes = set.encode().unwrap();
        prop_assert_eq!(bytes.len(), 3 + 35 * set.nodes().len());
        invariant_opens_exactly(&NodeSet::decode(&bytes).unwrap(), &slots, &layer_key());
    }

    #[test]
    fn joined_sets_open_what_either_opens(first in slot_sets(0..4), second in slot_sets(0..4)) {
        let whole = NodeSet::whole(&layer_key());
        let joined = whole.restrict(&first).join(&whole.restrict(&second));
        invariant_opens_exactly(&joined, &first.union(&second), &layer_key());
        prop_assert!(NodeSet::decode(&joined.encode().unwrap()).is_ok());
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_what_reads_writes_back(
        bytes in prop::collection::vec(any::<u8>(), 0..120), count in 0..4_u8,
    ) {
        let framed = [&[1, 0, count][..], &bytes].concat();
        for bytes in [bytes, framed] {
            if let Ok(set) = NodeSet::decode(&bytes) {
                prop_assert!(bytes.len() == 32 || set.encode().unwrap()[..] == bytes[..]);
            }
        }
    }
}
