//! Writing from front to back.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use crate::{BLOCK_BYTES, Batch, DirectReader, aligned::Aligned, open};

/// A new file that is appended to.
///
/// What was appended is on its way; [`AppendedFile::sync`] makes it durable. Until
/// [`AppendedFile::finish`] the file may end with zeros that were not appended, fewer than
/// [`BLOCK_BYTES`]: a reader must know where its own content ends.
#[derive(Debug)]
pub struct AppendedFile {
    file: File,
    /// Bytes from `written` on that are not yet handed over, or fill their last block only in part.
    waiting: Aligned,
    filled: usize,
    /// Where the first waiting byte belongs: a multiple of a block.
    written: u64,
}

impl AppendedFile {
    /// A new file with these permissions. At most about `memory` bytes wait before they are handed over.
    ///
    /// # Errors
    /// Where the file exists or cannot be created.
    pub fn create(path: &Path, mode: u32, memory: usize) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(mode);
        let file = open(&options, path)?;
        Ok(Self { file, waiting: Aligned::with_capacity(memory), filled: 0, written: 0 })
    }

    /// Bytes that were appended.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Appends.
    ///
    /// # Errors
    /// Those of writing; some of the bytes may be in the file then.
    pub fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.waiting.capacity() - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.waiting.get_mut(self.filled..self.filled + now.len()).copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.waiting.capacity() {
                self.hand_over_blocks()?;
            }
        }
        Ok(())
    }

    /// As [`Self::append`] of the batch's bytes, whole blocks of it straight from where they are, if the file ends
    /// where the batch was told that it would.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_batch(&mut self, batch: &mut Batch) -> io::Result<()> {
        self.hand_over_blocks()?;
        if batch.start != self.filled {
            self.append(batch.bytes())?;
            return self.hand_over_blocks();
        }
        batch.memory.get_mut(0..self.filled).copy_from_slice(self.waiting.get(0..self.filled));
        let whole = batch.end - batch.end % BLOCK_BYTES;
        self.write_blocks(&batch.memory, whole)?;
        let rest = batch.end - whole;
        self.waiting.get_mut(0..rest).copy_from_slice(batch.memory.get(whole..batch.end));
        self.filled = rest;
        self.written += whole as u64;
        Ok(())
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// Those of writing and syncing; what was not durable before need not be now.
    pub fn sync(&mut self) -> io::Result<()> {
        self.hand_over_blocks()?;
        self.hand_over_rest()?;
        self.file.sync_data()
    }

    /// Ends the file exactly where what was appended ends, and makes it durable.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn finish(&mut self) -> io::Result<()> {
        self.hand_over_blocks()?;
        self.hand_over_rest()?;
        self.file.set_len(self.length())?;
        self.file.sync_data()
    }

    /// Takes back everything after the first `length` bytes, of which all must have been synced.
    ///
    /// # Errors
    /// Those of cutting and of reading the last block again.
    pub fn cut(&mut self, length: u64) -> io::Result<()> {
        let start = length - length % BLOCK_BYTES as u64;
        let rest = usize::try_from(length - start).map_err(io::Error::other)?;
        self.file.set_len(length)?;
        let mut kept = 0;
        while kept < rest {
            match self.file.read_at(self.waiting.get_mut(kept..BLOCK_BYTES), start + kept as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => kept += read,
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.written, self.filled) = (start, rest);
        Ok(())
    }

    /// The file for reading what was handed over.
    ///
    /// # Errors
    /// Where the operating system has no descriptor left.
    pub fn reader(&self) -> io::Result<DirectReader> {
        self.file.try_clone().map(DirectReader::from)
    }

    /// Writes the whole blocks that wait; a block that is filled in part stays.
    fn hand_over_blocks(&mut self) -> io::Result<()> {
        let whole = self.filled - self.filled % BLOCK_BYTES;
        self.write_blocks(&self.waiting, whole)?;
        self.waiting.move_to_front(whole..self.filled);
        self.filled -= whole;
        self.written += whole as u64;
        Ok(())
    }

    /// Writes the last block, filled up with zeros. It is written again when more has come.
    fn hand_over_rest(&mut self) -> io::Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        self.waiting.get_mut(self.filled..BLOCK_BYTES).fill(0);
        self.write_blocks(&self.waiting, BLOCK_BYTES)
    }

    /// Writes the first `whole` bytes, a multiple of a block, to the end of the blocks that are written.
    fn write_blocks(&self, memory: &Aligned, whole: usize) -> io::Result<()> {
        let mut done = 0;
        while done < whole {
            let wrote = self.write(memory.get(done..whole), self.written + done as u64)?;
            // A device that stops in the middle of a block gets the whole block again.
            done += wrote - wrote % BLOCK_BYTES;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.write_at(bytes, at) {
                Ok(wrote) if wrote < BLOCK_BYTES => return Err(io::ErrorKind::WriteZero.into()),
                Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}
