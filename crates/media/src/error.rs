use std::io;

use mp4_atom::FourCC;

/// Why media could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes end before the first sample could come.
    #[error(
        "the segment is cut off inside its `{0}` box, before the first sample; nothing of it can be played"
    )]
    Cut(FourCC),
    /// A box stands where another one belongs.
    #[error("box `{found}` at byte {at} of its parent, where {expected} belongs")]
    UnexpectedBox {
        /// What stands there.
        found: FourCC,
        /// Where, in bytes from the start of the segment or of the parent's content.
        at: usize,
        /// What belongs there.
        expected: &'static str,
    },
    /// A box is missing.
    #[error("box `{missing}` is missing")]
    MissingBox {
        /// What is missing.
        missing: FourCC,
    },
    /// A box breaks a rule of its format.
    #[error("box `{kind}` is malformed: {why}")]
    Malformed {
        /// Which box.
        kind: FourCC,
        /// Which rule.
        why: &'static str,
    },
    /// The box reader refused a box.
    #[error("box `{kind}` cannot be read")]
    Box {
        /// Which box.
        kind: FourCC,
        /// What the reader said.
        source: mp4_atom::Error,
    },
    /// The sample entry is of a codec that is not recorded.
    #[error("codec `{0}` is not supported: H.264 with parameter sets in the sample entry (`avc1`) is")]
    UnsupportedCodec(FourCC),
    /// A limit of this crate is reached.
    #[error("more than {limit} {what}; split the request")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// There is not one frame to write.
    #[error("no segment held a whole frame, so there is no clip to write")]
    Empty,
    /// Segments came in the wrong order.
    #[error(
        "a segment that starts at {start} came after one that starts at {previous}; add segments in order"
    )]
    OutOfOrder {
        /// Start of the segment that came.
        start: obscura_clock::Timestamp,
        /// Start of the one before it.
        previous: obscura_clock::Timestamp,
    },
    /// The clip could not be written.
    #[error("the clip could not be written")]
    Io(#[from] io::Error),
}

impl Error {
    /// For `map_err` on what `mp4_atom` returns for a box of this kind.
    pub(crate) fn in_box(kind: FourCC) -> impl FnOnce(mp4_atom::Error) -> Self {
        move |source| Self::Box { kind, source }
    }
}
