//! Files that are written and read past the page cache (`O_DIRECT`), where the file system can.
//!
//! Recorded footage is written once, synced at once, and read at most once more. In the page cache it costs
//! a copy, memory that the system must find and clear, and the room of what is worth caching. Where a
//! file system refuses `O_DIRECT` the same calls go through the cache.
//!
//! The kernel wants offsets, lengths and memory at multiples of the device's block (`open(2)`, under
//! `O_DIRECT`); [`BLOCK_BYTES`] is a multiple of every block size in use. Whoever uses these files need not
//! care: bytes wait in aligned memory until they fill blocks.

mod aligned;
mod appending;
mod batch;
mod reading;
#[cfg(test)]
mod tests;

pub use self::{appending::AppendedFile, batch::Batch, reading::DirectReader};

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// Offsets, lengths and memory are multiples of this.
pub const BLOCK_BYTES: usize = 4096;

/// Opens past the page cache, or through it where the file system cannot do without.
fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    match options.clone().custom_flags(direct).open(path) {
        // What was created before the flag was refused is empty and ours.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
            options.clone().create(true).create_new(false).open(path)
        }
        opened => opened,
    }
}
