//! What is handed over.

use prost::Message;

/// Files that one offer may name. The kernel takes 253 (`SCM_MAX_FD`).
pub const MAX_FILES: usize = 128;
/// Longest offer: its head, and some ten bytes for each piece.
pub const MAX_OFFER_BYTES: usize = 4 * 1024 * 1024;

/// An upload: the head, then the pieces in order.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Offer {
    /// Path and query of the URL that was signed for the upload.
    #[prost(string, tag = "1")]
    pub target: String,
    /// The first bytes of the object.
    #[prost(bytes = "bytes", tag = "2")]
    pub head: bytes::Bytes,
    /// Where the rest lies.
    #[prost(message, repeated, tag = "3")]
    pub pieces: Vec<Piece>,
}

/// Bytes of one file.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Piece {
    /// Which of the descriptors, counted from zero.
    #[prost(uint32, tag = "1")]
    pub file: u32,
    /// Where in the file, in bytes.
    #[prost(uint64, tag = "2")]
    pub offset: u64,
    /// How many bytes.
    #[prost(uint32, tag = "3")]
    pub length: u32,
}

/// Why an offer is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Too long to be read.
    #[error("an offer of {0} bytes; the limit is {MAX_OFFER_BYTES}")]
    TooLong(usize),
    /// No protobuf message.
    #[error("an offer that cannot be read: {0}")]
    Malformed(String),
    /// Not a path of a URL with its query.
    #[error("an offer whose target is no path of a URL")]
    Target,
    /// A piece of a file that was not passed.
    #[error("piece {piece} is of file {file}, and {files} came with the offer")]
    NoSuchFile {
        /// Which piece, counted from zero.
        piece: usize,
        /// The file that it names.
        file: u32,
        /// How many files there are.
        files: usize,
    },
    /// A piece that ends beyond every file.
    #[error("piece {0} ends beyond the end of every file")]
    Beyond(usize),
}

impl Offer {
    /// Reads an offer that came with so many files.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(bytes: &[u8], files: usize) -> Result<Self, Wrong> {
        if bytes.len() > MAX_OFFER_BYTES {
            return Err(Wrong::TooLong(bytes.len()));
        }
        let offer = Self::decode(bytes).map_err(|error| Wrong::Malformed(error.to_string()))?;
        if !offer.target.starts_with('/') || offer.target.parse::<http::Uri>().is_err() {
            return Err(Wrong::Target);
        }
        for (number, piece) in offer.pieces.iter().enumerate() {
            if usize::try_from(piece.file).map_or(true, |file| file >= files) {
                return Err(Wrong::NoSuchFile { piece: number, file: piece.file, files });
            }
            if piece
                .offset
                .checked_add(u64::from(piece.length))
                .is_none_or(|end| end > i64::MAX.unsigned_abs())
            {
                return Err(Wrong::Beyond(number));
            }
        }
        Ok(offer)
    }

    /// Bytes of the whole object.
    #[must_use]
    pub fn size(&self) -> u64 {
        // Fits: there are at most as many pieces as an offer has bytes, of 4 GiB each.
        self.head.len() as u64 + self.pieces.iter().map(|piece| u64::from(piece.length)).sum::<u64>()
    }
}
