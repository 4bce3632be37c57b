//! Small objects that change, one file put in the place of another.

use std::io;

use bytes::Bytes;

use super::{Inner, directories, partial::Partial};
use crate::{BlobKey, Error};

impl Inner {
    /// Writes a new file, makes it durable, and renames it over the old one. A crash leaves one of
    /// the two, whole; whoever has the old one open goes on reading it.
    pub(super) fn replace(&self, key: &BlobKey, bytes: &Bytes) -> Result<(), Error> {
        let size = bytes.len() as u64;
        let mut partial = Partial::create(&self.root, size)?.append(std::slice::from_ref(bytes))?;
        partial.finish().map_err(Error::io("syncing an object"))?;
        let path = self.path(key);
        self.directories.ensure_parent(&self.root, &path).map_err(Error::io("creating a directory"))?;
        partial.rename_to(&path).map_err(Error::io("replacing an object"))?;
        directories::sync_parent(&path).map_err(Error::io("syncing a directory"))
    }

    /// All bytes of the file that has the name now.
    pub(super) fn read_whole(&self, key: &BlobKey, limit: u64) -> Result<Bytes, Error> {
        let (mut file, size) = self.open(key)?;
        if size > limit {
            return Err(Error::TooLarge { bytes: size, limit });
        }
        let mut whole = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        io::Read::read_to_end(&mut file, &mut whole).map_err(Error::io("reading an object"))?;
        Ok(whole.into())
    }
}
