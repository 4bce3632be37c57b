//! The key of an epoch: a tree with a leaf for every few rows, so that some rows can die before the others.
//!
//! ```text
//! secret outside the database    root of a tree (that of layer keys, `obscura_seal`), or the nodes that are left of it
//!   leaf                         one of 1,800, drawn for each row and stored in it
//!     row key                    of the leaf and the half inside the database ([`crate::row_key`])
//! ```
//!
//! To destroy rows early is to store the tree without their leaves as a new secret and to erase the old one.
//! Only rows that share a leaf with them are sealed anew: one in 1,800 of the epoch, whatever it holds. When
//! the leaves of an epoch are used up it gets a new tree and all its rows are sealed anew.
//!
//! Rows from before there were leaves are under the root itself; an epoch that has such rows gets a new tree
//! as soon as one of its rows dies early.

use std::collections::BTreeSet;

use aws_lc_rs::rand;
use obscura_row_cipher::Failed;
use obscura_seal::{NodeSet, Slot, SlotRange, SlotSet};
use zeroize::Zeroizing;

use crate::{
    error::Error,
    row_key::{Place, RowKey},
};

/// The key of one epoch. Has no `Debug`, so that it cannot be printed.
pub struct EpochKey {
    tree: NodeSet,
    half: Zeroizing<Vec<u8>>,
    /// Leaves that are left.
    leaves: SlotSet,
}

impl EpochKey {
    /// The key of these halves.
    pub fn new(tree: NodeSet, half: Zeroizing<Vec<u8>>) -> Self {
        let leaves = tree.slots();
        Self { tree, half, leaves }
    }

    /// The half inside the database.
    pub fn half(&self) -> &[u8] {
        &self.half
    }

    /// What is left of the tree without these leaves; `None` where nothing would be.
    pub fn without(&self, leaves: &BTreeSet<Slot>) -> Option<NodeSet> {
        let dead: SlotSet = leaves.iter().filter_map(|leaf| SlotRange::new(*leaf, *leaf).ok()).collect();
        let left = self.tree.puncture(&dead);
        (!left.is_empty()).then_some(left)
    }

    /// Seals what is left of a layer key under a leaf, which is drawn at random.
    pub fn seal(&self, place: Place<'_>, nodes: &NodeSet) -> Result<(Slot, Vec<u8>), Error> {
        let leaf = self.draw()?;
        let key = self.row_key(Some(leaf)).ok_or(Failed)?;
        Ok((leaf, key.seal(place, nodes)?))
    }

    /// Opens a row; nothing where its leaf is dead.
    ///
    /// # Errors
    /// [`Error::Damaged`] where any part of the row was changed.
    pub fn open(&self, place: Place<'_>, leaf: Option<Slot>, sealed: &[u8]) -> Result<NodeSet, Error> {
        match self.row_key(leaf) {
            Some(key) => key.open(place, sealed),
            None => Ok(NodeSet::new(Vec::new())),
        }
    }

    fn row_key(&self, leaf: Option<Slot>) -> Option<RowKey> {
        match leaf {
            Some(leaf) => Some(RowKey::derive(self.tree.leaf(leaf)?.expose(), &self.half)),
            None => Some(RowKey::derive(root(&self.tree)?, &self.half)),
        }
    }

    /// One of the leaves that are left.
    fn draw(&self) -> Result<Slot, Failed> {
        let mut random = [0; 8];
        rand::fill(&mut random).map_err(|_| Failed)?;
        let mut place = u64::from_be_bytes(random) % u64::from(self.leaves.len().max(1));
        for range in self.leaves.ranges() {
            let (first, last) = (range.first().get(), range.last().get());
            let length = u64::from(last - first) + 1;
            if place < length {
                let leaf = u16::try_from(place).ok().and_then(|place| Slot::new(first + place).ok());
                return leaf.ok_or(Failed);
            }
            place -= length;
        }
        Err(Failed)
    }

    /// Seals as it was before there were leaves.
    #[cfg(test)]
    pub fn seal_under_root(&self, place: Place<'_>, nodes: &NodeSet) -> Vec<u8> {
        self.row_key(None).unwrap().seal(place, nodes).unwrap()
    }

    /// The 32 bytes of the root, for tests that look for them.
    #[cfg(test)]
    pub fn expose(&self) -> &[u8; 32] {
        root(&self.tree).unwrap()
    }
}

/// The root, where the tree is whole.
pub fn root(tree: &NodeSet) -> Option<&[u8; 32]> {
    match tree.nodes() {
        [root] if root.depth() == 0 => Some(root.secret()),
        _ => None,
    }
}
