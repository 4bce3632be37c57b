/// Why shares cannot be made, read or used. Never quotes a share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// These numbers make no sense.
    #[error(
        "{threshold} of {shares} shares cannot be: at most 16 shares, at least 2 needed, not more needed than there are"
    )]
    Counts {
        /// Shares that would restore the root.
        threshold: u8,
        /// Shares in all.
        shares: u8,
    },
    /// One of several shares cannot be read.
    #[error("share {position} as given: {why}")]
    Share {
        /// Which one, from 1.
        position: usize,
        /// What is wrong with it.
        why: Box<Self>,
    },
    /// A group was copied wrongly.
    #[error("group {0} has a typo: compare it with the print")]
    Typo(usize),
    /// Groups are missing, too many or swapped, although each is right.
    #[error(
        "groups are missing, swapped or there are too many: it has {0} groups; compare it with the print"
    )]
    Groups(usize),
    /// A share of another program or a later one.
    #[error("it is no share that this program knows: its format is {0}, expected 1")]
    Format(u8),
    /// No share at all.
    #[error("no share was given")]
    None,
    /// Shares that were not made together.
    #[error("{other} was not made together with {first}: give shares of one set")]
    OtherSet {
        /// The first share.
        first: String,
        /// The one that does not belong to it.
        other: String,
    },
    /// One share given twice.
    #[error("share {0} was given twice: give different ones")]
    Twice(u8),
    /// Not enough.
    #[error("{given} of the {threshold} shares that are needed were given")]
    TooFew {
        /// Shares given.
        given: usize,
        /// Shares needed.
        threshold: u8,
    },
    /// The shares do not restore what was split.
    #[error("these shares do not restore the root that was split: at least one of them was changed")]
    Wrong,
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to split the root")]
    Library,
}
