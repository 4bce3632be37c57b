//! Layer keys and the tree under them.
//!
//! The tree is the pseudorandom function of Goldreich, Goldwasser and Micali ("How to construct
//! random functions", J. ACM 33, 1986), used as a constrained (puncturable) one: who holds an
//! inner node can compute every leaf below it and learns nothing about the others (Boneh and
//! Waters 2013; Kiayias et al. 2013; Boyle, Goldwasser and Ivan 2014). Its length-doubling
//! generator is
//!
//! ```text
//! left 32 | right 32 = HKDF-Expand-SHA512(prk = parent, info = "obscura ggm tree v1", 64)
//! ```
//!
//! (RFC 5869 section 2.3; 64 bytes are one block, so one HMAC-SHA512). The root is the layer key,
//! random, so HKDF-Extract is not needed (section 3.3). Depth 11 has 2,048 leaves; leaf `n`
//! belongs to slot `n`, and the leaves from 1,800 on are never used.

mod node_set;

use std::fmt;

use aws_lc_rs::{hmac, rand};
use zeroize::Zeroizing;

pub use node_set::{MAX_SET_NODES, NodeSet};

use crate::{Error, Slot, SlotRange};

/// Depth of the leaves; the root is at 0.
pub const TREE_DEPTH: u8 = 11;
/// Most nodes that [`LayerKey::cover`] returns: two per level below the first.
pub const MAX_COVER_NODES: usize = 20;

/// The info of HKDF-Expand and the number of its only block.
const GENERATOR_INPUT: &[u8] = b"obscura ggm tree v1\x01";

/// 32 secret bytes, wiped when dropped and never printed.
type Secret = Zeroizing<[u8; 32]>;

/// The key of one camera, layer and hour: root of the tree.
pub struct LayerKey(Secret);

/// The key of one slot: a segment that starts in the slot is sealed under it.
#[derive(Clone)]
pub struct LeafKey(Secret);

/// A node of the tree: opens every slot below it.
#[derive(Clone)]
pub struct Node {
    depth: u8,
    index: u16,
    secret: Secret,
}

impl LayerKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`Error::Library`] where the operating system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut secret = Secret::default();
        rand::fill(secret.as_mut()).map_err(|_| Error::Library("make a random key"))?;
        Ok(Self(secret))
    }

    /// The key with these bytes, which must have come from [`LayerKey::generate`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key, for wrapping.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of the slot.
    #[must_use]
    pub fn leaf(&self, slot: Slot) -> LeafKey {
        LeafKey(descend(&self.0, slot.get(), TREE_DEPTH))
    }

    /// The fewest nodes that open exactly these slots, in order of time.
    ///
    /// At most [`MAX_COVER_NODES`].
    #[must_use]
    pub fn cover(&self, slots: SlotRange) -> Vec<Node> {
        let position = |(depth, index)| Node { depth, index, secret: descend(&self.0, index, depth) };
        cover_positions(slots).into_iter().map(position).collect()
    }
}

impl LeafKey {
    /// The leaf with these bytes, as fixed test vectors have it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The input key of the chunked encryption.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Node {
    /// The node at this position.
    ///
    /// # Errors
    /// [`Error::Node`] where the tree has no such position.
    pub fn new(depth: u8, index: u16, secret: [u8; 32]) -> Result<Self, Error> {
        let secret = Zeroizing::new(secret);
        if depth > TREE_DEPTH || index >> depth != 0 {
            return Err(Error::Node { depth, index });
        }
        Ok(Self { depth, index, secret })
    }

    /// Depth: 0 is the root, 11 a leaf.
    #[must_use]
    pub const fn depth(&self) -> u8 {
        self.depth
    }

    /// Position among the nodes of this depth, from 0.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.index
    }

    /// The 32 bytes, for sending to whom they are released.
    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    const fn levels_below(&self) -> u8 {
        TREE_DEPTH.saturating_sub(self.depth)
    }

    fn covers(&self, slot: Slot) -> bool {
        slot.get() >> self.levels_below() == self.index
    }
}

impl fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LayerKey")
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey")
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("depth", &self.depth).field("index", &self.index).finish_non_exhaustive()
    }
}

/// Walks down `levels` levels: the lowest `levels` bits of `path` are the turns, highest first.
fn descend(from: &Secret, path: u16, levels: u8) -> Secret {
    let mut secret = from.clone();
    for level in (0..levels).rev() {
        secret = child(&secret, path >> level & 1 == 1);
    }
    secret
}

/// One turn of the generator. HMAC cannot fail where HKDF's interface could; with one block of
/// output and 1 as the block's number they are the same.
fn child(parent: &Secret, right: bool) -> Secret {
    let both = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, parent.as_ref()), GENERATOR_INPUT);
    let mut secret = Secret::default();
    let half = both.as_ref().iter().skip(if right { 32 } else { 0 });
    secret.iter_mut().zip(half).for_each(|(to, from)| *to = *from);
    secret
}

/// Depths and indexes of the fewest subtrees whose leaves are exactly the slots.
///
/// Both ends walk up from the leaves. An end that is the inner child of its parent's subtree (a
/// right child on the left end, a left child on the right end) cannot be merged into the parent.
fn cover_positions(slots: SlotRange) -> Vec<(u8, u16)> {
    let (mut left, mut right) = (slots.first().get(), slots.last().get() + 1);
    let (mut from_left, mut from_right) = (Vec::new(), Vec::new());
    for depth in (0..=TREE_DEPTH).rev() {
        if left >= right {
            break;
        }
        if left & 1 == 1 {
            from_left.push((depth, left));
            left += 1;
        }
        if right & 1 == 1 {
            right -= 1;
            from_right.push((depth, right));
        }
        left >>= 1;
        right >>= 1;
    }
    from_left.into_iter().chain(from_right.into_iter().rev()).collect()
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk};
    use proptest::prelude::*;

    use super::*;
    use crate::SLOTS_PER_HOUR;

    struct Length(usize);

    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    fn layer_key() -> LayerKey {
        LayerKey::from_bytes([42; 32])
    }

    fn range(a: u16, b: u16) -> SlotRange {
        SlotRange::new(Slot::new(a.min(b)).unwrap(), Slot::new(a.max(b)).unwrap()).unwrap()
    }

    fn slots() -> impl Strategy<Value = SlotRange> {
        (0..SLOTS_PER_HOUR, 0..SLOTS_PER_HOUR).prop_map(|(a, b)| range(a, b))
    }

    /// The definition: the largest subtrees that lie wholly in the range.
    fn fewest(slots: SlotRange, depth: u8, index: u16) -> Vec<(u8, u16)> {
        let width = 1 << (TREE_DEPTH - depth);
        let (first, last) = (index * width, index * width + width - 1);
        if last < slots.first().get() || first > slots.last().get() {
            return Vec::new();
        }
        if first >= slots.first().get() && last <= slots.last().get() {
            return vec![(depth, index)];
        }
        [fewest(slots, depth + 1, index * 2), fewest(slots, depth + 1, index * 2 + 1)].concat()
    }

    #[test]
    fn the_generator_is_hkdf_expand_with_sha_512() {
        let parent = Zeroizing::new([7; 32]);
        let mut both = [0; 64];
        let prk = Prk::new_less_safe(HKDF_SHA512, parent.as_ref());
        prk.expand(&[b"obscura ggm tree v1"], Length(64)).unwrap().fill(&mut both).unwrap();
        assert_eq!(child(&parent, false).as_ref(), &both[..32]);
        assert_eq!(child(&parent, true).as_ref(), &both[32..]);
    }

    #[test]
    fn all_leaves_of_an_hour_differ() {
        let key = layer_key();
        let leaves: std::collections::BTreeSet<[u8; 32]> =
            (0..SLOTS_PER_HOUR).map(|slot| *key.leaf(Slot::new(slot).unwrap()).expose()).collect();
        assert_eq!(leaves.len(), usize::from(SLOTS_PER_HOUR));
    }

    #[test]
    fn a_position_outside_the_tree_is_refused() {
        for (depth, index) in [(12, 0), (255, 0), (0, 1), (11, 2_048), (3, 8)] {
            assert_eq!(Node::new(depth, index, [0; 32]).unwrap_err(), Error::Node { depth, index });
        }
        assert!(Node::new(11, 2_047, [0; 32]).is_ok());
    }

    #[test]
    fn a_debug_print_shows_no_secret() {
        let key = LayerKey::from_bytes([0xab; 32]);
        let node = Node::new(0, 0, [0xab; 32]).unwrap();
        let printed = format!("{key:?} {:?} {:?}", key.leaf(Slot::MAX), NodeSet::new(vec![node]));
        assert!(!printed.contains("171") && !printed.to_lowercase().contains("ab, "), "{printed}");
    }

    #[test]
    fn the_worst_span_needs_twenty_nodes() {
        let longest = (0..64)
            .flat_map(|from| (1_700..1_800).map(move |to| cover_positions(range(from, to)).len()))
            .max();
        assert!(longest <= Some(MAX_COVER_NODES), "{longest:?}");
        let of_all_leaves = SlotRange::WHOLE_HOUR;
        assert_eq!(cover_positions(of_all_leaves).len(), 4, "1024 + 512 + 256 + 8 slots");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_cover_opens_exactly_the_slots_in_range_and_no_other(slots in slots()) {
            let key = layer_key();
            let nodes = NodeSet::new(key.cover(slots));
            for slot in (0..SLOTS_PER_HOUR).map(|slot| Slot::new(slot).unwrap()) {
                match nodes.leaf(slot) {
                    Some(leaf) => {
                        prop_assert!(slots.contains(slot));
                        prop_assert!(leaf.expose() == key.leaf(slot).expose());
                    }
                    None => prop_assert!(!slots.contains(slot)),
                }
            }
        }

        #[test]
        fn a_cover_is_the_fewest_nodes_in_order_of_time(slots in slots()) {
            let positions = cover_positions(slots);
            prop_assert!(positions.len() <= MAX_COVER_NODES);
            prop_assert_eq!(positions, fewest(slots, 0, 0));
        }

        #[test]
        fn a_node_survives_being_sent(slots in slots(), slot in 0..SLOTS_PER_HOUR) {
            let (key, slot) = (layer_key(), Slot::new(slot).unwrap());
            let send = |node: &Node| Node::new(node.depth(), node.index(), *node.secret()).unwrap();
            let sent = key.cover(slots).iter().map(send).collect();
            prop_assert_eq!(NodeSet::new(sent).leaf(slot).is_some(), slots.contains(slot));
        }
    }
}
