//! What came out of a verification.

use crate::{Checkpoint, Cosigned, Problem, copy::MAX_PROBLEMS};

/// How far the verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries that were looked at, pruned ones too.
    pub entries: u64,
    /// Entries that there are.
    pub of: u64,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The checkpoint of the copy, if there is one that can be read.
    pub checkpoint: Option<Checkpoint>,
    /// Who cosigned it.
    pub cosigned: Vec<Cosigned>,
    /// Entries whose hashes are in the tree.
    pub entries: u64,
    /// Entries that are gone and may be.
    pub pruned: u64,
    /// Tiles that were read.
    pub tiles: u64,
    /// What is wrong: the first [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How much is wrong.
    pub problem_count: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.problem_count == 0
    }

    pub(super) fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }
}
