//! Objects on their way out.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use bytes::{Bytes, BytesMut};

use super::{BATCH_BYTES, Inner};
use crate::{BlobKey, Error};

/// An object being read.
pub(super) struct Reading {
    file: File,
    /// What is still to be read from the file.
    range: Range<u64>,
    /// A piece that was read already.
    ready: Option<Bytes>,
}

impl Reading {
    /// Opens an object and reads its first piece at once: most reads are no longer than that.
    pub(super) fn open(store: &Inner, key: &BlobKey, range: Range<u64>) -> Result<Self, Error> {
        let (file, size) = store.open(key)?;
        if range.start > range.end || range.end > size {
            return Err(Error::OutOfBounds { range, size });
        }
        let mut reading = Self { file, range, ready: None };
        reading.ready = reading.read_piece().map_err(Error::io("reading an object"))?;
        Ok(reading)
    }

    /// The next piece and the rest; `None` at the end of the range.
    pub(super) async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if let Some(piece) = self.ready.take() {
            return Ok(Some((piece, self)));
        }
        if self.range.is_empty() {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || self.read_piece().map(|piece| (piece, self))).await;
        let (piece, reading) = read.map_err(io::Error::other)??;
        Ok(piece.map(|piece| (piece, reading)))
    }

    /// Reads up to [`BATCH_BYTES`]; `None` at the end of the range.
    fn read_piece(&mut self) -> io::Result<Option<Bytes>> {
        let left = self.range.end - self.range.start;
        if left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(left).unwrap_or(BATCH_BYTES).min(BATCH_BYTES);
        let mut piece = BytesMut::zeroed(length);
        self.file.read_exact_at(&mut piece, self.range.start)?;
        self.range.start += length as u64;
        Ok(Some(piece.freeze()))
    }
}
