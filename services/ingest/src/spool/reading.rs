//! Reading back what was committed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use obscura_direct_file::DirectReader;
use obscura_hand_over::Piece;

use super::{Error, Extent, Position, Spool, file::LogFile};

/// Memory for bytes that are only read to see whether they can be.
const CHECK_BYTES: u32 = 256 * 1024;

/// Files of the spool, and where in them what is lent lies.
pub type Lent = (Vec<DirectReader>, Vec<Piece>);

impl Spool {
    /// Reads bytes that are committed. Blocking.
    ///
    /// # Errors
    /// [`Error::Unreadable`] where the disk does not give the bytes back; [`Error::Io`] where they cannot be
    /// read for another reason.
    pub fn read(&self, extent: Extent) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; extent.length as usize];
        self.read_into(extent, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`Spool::read`], into memory of exactly the length of `extent`.
    ///
    /// # Errors
    /// As [`Spool::read`]; [`Error::Length`] for other memory.
    pub fn read_into(&self, extent: Extent, into: &mut [u8]) -> Result<(), Error> {
        if into.len() != extent.length as usize {
            return Err(Error::Length { expected: extent.length, given: into.len() });
        }
        let (start, file) = self.file_of(extent)?;
        file.read(&*self.disk, extent.start.0 - start.0, into)
    }

    /// Reads bytes that are committed and forgets them: whether the disk gives them back. Blocking.
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub fn check(&self, extent: Extent) -> Result<(), Error> {
        let mut piece = vec![0; CHECK_BYTES.min(extent.length) as usize];
        let (mut at, end) = (extent.start.0, extent.start.0 + u64::from(extent.length));
        while at < end {
            let length = u32::try_from(end - at).unwrap_or(u32::MAX).min(CHECK_BYTES);
            let into = piece.get_mut(..length as usize).unwrap_or_default();
            self.read_into(Extent { start: Position(at), length }, into)?;
            at += u64::from(length);
        }
        Ok(())
    }

    /// The file that holds these bytes, and where in it they start.
    #[cfg(test)]
    pub fn place(&self, extent: Extent) -> (std::path::PathBuf, u64) {
        let (start, file) = self.file_of(extent).unwrap();
        (file.path().to_owned(), extent.start.0 - start.0)
    }

    /// Opens the files that hold bytes that are committed anew, for reading only, and says where in them they lie.
    /// `None` where they are more than `most` files. Blocking.
    ///
    /// # Errors
    /// [`Error::Io`] where a file cannot be opened.
    pub fn lend(&self, extents: &[Extent], most: usize) -> Result<Option<Lent>, Error> {
        let (mut files, mut numbers, mut pieces) = (Vec::new(), BTreeMap::new(), Vec::new());
        for extent in extents {
            let (start, file) = self.file_of(*extent)?;
            let number = match numbers.entry(start) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(_) if files.len() >= most => return Ok(None),
                Entry::Vacant(new) => {
                    files.push(file.reopen()?);
                    *new.insert(u32::try_from(files.len() - 1).unwrap_or(u32::MAX))
                }
            };
            let offset = extent.start.0 - start.0;
            pieces.push(Piece { file: number, offset, length: extent.length });
        }
        Ok(Some((files, pieces)))
    }

    /// The file that holds these bytes, and where it starts.
    fn file_of(&self, extent: Extent) -> Result<(Position, Arc<LogFile>), Error> {
        let files = self.files();
        let found = files.by_start.range(..=extent.start).next_back();
        found
            .map(|(start, file)| (*start, Arc::clone(file)))
            .ok_or_else(|| Error::Failed(format!("no spool file holds position {}", extent.start.0)))
    }
}
