//! Keys in the order of their bytes, without walking more of the tree than needed.

use std::{fs, io, path::Path};

use super::directories::sorted_names;
use crate::{BlobKey, Found};

/// As [`crate::BlobStore::walk`].
pub(super) fn walk(
    root: &Path,
    prefix: &str,
    after: Option<&BlobKey>,
    limit: usize,
) -> io::Result<Vec<Found>> {
    let mut listing =
        Listing { root, prefix, after: after.map_or("", BlobKey::as_str), limit, found: Vec::new() };
    listing.walk("")?;
    Ok(listing.found)
}

struct Listing<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<Found>,
}

impl Listing<'_> {
    /// Walks what is below `directory`, which is empty or ends with `/`. As deep as a key at most.
    fn walk(&mut self, directory: &str) -> io::Result<()> {
        for name in sorted_names(&self.root.join(directory))? {
            if self.found.len() >= self.limit {
                break;
            }
            let path = format!("{directory}{name}");
            if path.ends_with('/') {
                self.walk_below(&path)?;
            } else {
                self.offer(&path);
            }
        }
        Ok(())
    }

    fn walk_below(&mut self, directory: &str) -> io::Result<()> {
        let may_match = directory.starts_with(self.prefix) || self.prefix.starts_with(directory);
        let all_before = self.after > directory && !self.after.starts_with(directory);
        let is_component = directory.trim_end_matches('/').parse::<BlobKey>().is_ok();
        if may_match && !all_before && is_component { self.walk(directory) } else { Ok(()) }
    }

    fn offer(&mut self, path: &str) {
        if path.starts_with(self.prefix)
            && path > self.after
            && let Ok(key) = path.parse()
        {
            // One that was deleted since is still a key of the listing, of which nobody knows the size.
            let size = fs::metadata(self.root.join(path)).ok().map(|metadata| metadata.len());
            self.found.push(Found { key, size });
        }
    }
}
