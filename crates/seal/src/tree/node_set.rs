//! Sets of nodes: what was released of a layer key, and what is left of one.
//!
//! To puncture a key is to keep the fewest nodes that open everything but some slots: the co-path.
//! Nothing computes the nodes above those that are kept, so the slots between them are gone with
//! the last copy of what there was before.
//!
//! Stored as
//!
//! ```text
//! format 1 | u16 BE count | count x ( depth u8 | u16 BE index | secret 32 )
//! ```
//!
//! in order of time. Thirty-two bytes are the root of a whole tree: the form before this one.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::{LayerKey, LeafKey, Node, TREE_DEPTH, child, descend};
use crate::{Error, Slot, SlotRange, SlotSet};

/// Most nodes of a stored set: one per slot. `n` removed ranges leave at most 2 * 11 * n + 4.
pub const MAX_SET_NODES: usize = 1_800;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 3;
const NODE_BYTES: usize = 35;
const ROOT_BYTES: usize = 32;

/// Nodes of one layer key: what was released of it, or what is left.
#[derive(Clone)]
pub struct NodeSet(Vec<Node>);

impl NodeSet {
    /// The set of these nodes, all of one layer key.
    #[must_use]
    pub const fn new(nodes: Vec<Node>) -> Self {
        Self(nodes)
    }

    /// All of a key.
    #[must_use]
    pub fn whole(key: &LayerKey) -> Self {
        Self(vec![Node { depth: 0, index: 0, secret: key.0.clone() }])
    }

    /// The nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.0
    }

    /// Whether it opens nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of the slot; `None` where no node covers it.
    #[must_use]
    pub fn leaf(&self, slot: Slot) -> Option<LeafKey> {
        let node = self.0.iter().find(|node| node.covers(slot))?;
        Some(LeafKey(descend(&node.secret, slot.get(), node.levels_below())))
    }

    /// The slots that it opens.
    #[must_use]
    pub fn slots(&self) -> SlotSet {
        self.0.iter().filter_map(Node::slots).collect()
    }

    /// The fewest nodes that open exactly those of `slots` that this set opens, in order of time.
    #[must_use]
    pub fn restrict(&self, slots: &SlotSet) -> Self {
        let mut kept = Vec::new();
        for node in &self.0 {
            keep(node, slots, &mut kept);
        }
        kept.sort_by_key(Node::first_leaf);
        Self(kept)
    }

    /// What is left when these slots are taken out.
    #[must_use]
    pub fn puncture(&self, slots: &SlotSet) -> Self {
        self.restrict(&self.slots().difference(slots))
    }

    /// Adds what another set of the same key opens and this one does not.
    #[must_use]
    pub fn join(mut self, other: &Self) -> Self {
        let missing = other.slots().difference(&self.slots());
        self.0.extend(other.restrict(&missing).0);
        self.0.sort_by_key(Node::first_leaf);
        self
    }

    /// Whether every node is one of this key. Takes the same time for every key.
    #[must_use]
    pub fn is_part_of(&self, key: &LayerKey) -> bool {
        let same = |node: &Node| {
            let expected = descend(&key.0, node.index, node.depth);
            verify_slices_are_equal(expected.as_ref(), node.secret.as_ref()).is_ok()
        };
        self.0.iter().map(same).fold(true, |all, one| all & one)
    }

    /// The bytes to store, sealed by whoever stores them.
    ///
    /// # Errors
    /// [`Error::NodeSet`] for more than [`MAX_SET_NODES`].
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let count = u16::try_from(self.0.len()).ok().filter(|_| self.0.len() <= MAX_SET_NODES);
        let count = count.ok_or(Error::NodeSet("it has more nodes than an hour has slots"))?;
        // Room for everything at once, because growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + NODE_BYTES * self.0.len()));
        bytes.push(FORMAT);
        bytes.extend_from_slice(&count.to_be_bytes());
        for node in &self.0 {
            bytes.push(node.depth);
            bytes.extend_from_slice(&node.index.to_be_bytes());
            bytes.extend_from_slice(node.secret.as_ref());
        }
        Ok(bytes)
    }

    /// Reads what [`NodeSet::encode`] wrote, or the 32 bytes of a root.
    ///
    /// # Errors
    /// [`Error::NodeSet`] and [`Error::Node`] for everything else: another length or format, nodes
    /// that overlap, are out of order or open no slot.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() == ROOT_BYTES {
            return Ok(Self(vec![Node::new(0, 0, secret(bytes)?)?]));
        }
        let cut = Error::NodeSet("it is cut");
        let ([format, count @ ..], nodes) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(cut)?;
        if *format != FORMAT {
            return Err(Error::NodeSet("its format is unknown"));
        }
        let count = usize::from(u16::from_be_bytes(*count));
        if count > MAX_SET_NODES || nodes.len() != count * NODE_BYTES {
            return Err(Error::NodeSet("its length is not that of its nodes"));
        }
        let nodes = nodes.chunks_exact(NODE_BYTES).map(node).collect::<Result<Vec<_>, _>>()?;
        check_order(&nodes)?;
        Ok(Self(nodes))
    }
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeSet").field(&self.0).finish()
    }
}

impl Node {
    const fn first_leaf(&self) -> u16 {
        self.index << self.levels_below()
    }

    const fn last_leaf(&self) -> u16 {
        self.first_leaf() + ((1 << self.levels_below()) - 1)
    }

    /// The slots below it; `None` where there are only leaves that are never used.
    fn slots(&self) -> Option<SlotRange> {
        let last = self.last_leaf().min(Slot::MAX.get());
        SlotRange::new(Slot::new(self.first_leaf()).ok()?, Slot::new(last).ok()?).ok()
    }

    fn child(&self, right: bool) -> Self {
        let index = self.index << 1 | u16::from(right);
        Self { depth: self.depth + 1, index, secret: child(&self.secret, right) }
    }
}

/// Keeps the node where it lies wholly in `slots`, and looks below it where it does in part.
fn keep(node: &Node, slots: &SlotSet, kept: &mut Vec<Node>) {
    let (first, last) = (node.first_leaf(), node.last_leaf());
    if slots.holds_all(first, last) {
        kept.push(node.clone());
    } else if slots.holds_any(first, last) && node.depth < TREE_DEPTH {
        keep(&node.child(false), slots, kept);
        keep(&node.child(true), slots, kept);
    }
}

fn node(bytes: &[u8]) -> Result<Node, Error> {
    let cut = Error::NodeSet("it is cut");
    let ([depth, index @ ..], rest) = bytes.split_first_chunk::<3>().ok_or(cut)?;
    Node::new(*depth, u16::from_be_bytes(*index), secret(rest)?)
}

fn secret(bytes: &[u8]) -> Result<[u8; 32], Error> {
    bytes.try_into().map_err(|_| Error::NodeSet("it is cut"))
}

fn check_order(nodes: &[Node]) -> Result<(), Error> {
    let mut next = 0;
    for node in nodes {
        if node.first_leaf() < next || node.slots().is_none() {
            return Err(Error::NodeSet("its nodes overlap, are out of order or open no slot"));
        }
        next = node.last_leaf() + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
