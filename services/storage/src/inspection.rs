//! Looking at an uploaded object before it enters the index. Nobody's word about it is taken.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use obscura_blob::{BlobKey, BlobStore, Error as BlobError, read};
use obscura_ids::Digest;
use obscura_pack::{Day, Directory, HEAD_PREFIX, ObjectName};

use crate::Error;

/// An object that is the pack that it was announced to be.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// What lies in it: its head follows from it, byte for byte.
    pub directory: Directory,
    /// Bytes of the object.
    pub size: u64,
}

/// Reads the head of an object, and nothing behind it, and holds it against the name of the object
/// and the hash that the recorder made, where it is known.
///
/// # Errors
/// [`Error::NotUploaded`]; [`Error::Lying`] where hash, name, directory and size do not agree;
/// [`Error::Blob`].
pub async fn inspect(
    blobs: &dyn BlobStore,
    key: &BlobKey,
    name: &ObjectName,
    head_hash: Option<Digest>,
) -> Result<Inspected, Error> {
    let size = blobs.size(key).await.map_err(not_uploaded)?;
    let head = read_head(blobs, key, size).await?;
    if head_hash.is_some_and(|hash| sha256(&head) != hash) {
        return Err(lying(key, "its head has another hash than the recorder announced"));
    }
    let directory = Directory::decode_head(&head).map_err(|error| lying(key, error.to_string()))?;
    check_name(&directory, name).map_err(|why| lying(key, why))?;
    if size.checked_sub(head.len() as u64) != Some(directory.body_length()) {
        return Err(lying(key, format!("it has {size} bytes, which is not what its directory adds up to")));
    }
    Ok(Inspected { directory, size })
}

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest::from_bytes(hash)
}

async fn read_head(blobs: &dyn BlobStore, key: &BlobKey, size: u64) -> Result<Bytes, Error> {
    let prefix = read(blobs, key, 0..size.min(HEAD_PREFIX as u64)).await.map_err(not_uploaded)?;
    let prefix = prefix.first_chunk().ok_or_else(|| lying(key, "it is shorter than any pack"))?;
    let length = Directory::head_length(prefix).map_err(|error| lying(key, error.to_string()))? as u64;
    if length > size {
        return Err(lying(key, "it ends inside its head"));
    }
    read(blobs, key, 0..length).await.map_err(not_uploaded)
}

fn check_name(directory: &Directory, name: &ObjectName) -> Result<(), &'static str> {
    let agreements = [
        (directory.pack_id == name.pack, "its directory names another pack"),
        (directory.camera == name.camera, "its directory names another camera"),
        (directory.zone == name.zone, "its directory names another zone"),
        (directory.layer == name.layer, "its directory names another layer"),
        (Day::of(directory.span().start()) == name.day, "its directory names another day"),
    ];
    agreements.into_iter().find(|(agrees, _)| !agrees).map_or(Ok(()), |(_, why)| Err(why))
}

fn not_uploaded(error: BlobError) -> Error {
    match error {
        BlobError::NotFound(key) => Error::NotUploaded(key),
        error => error.into(),
    }
}

fn lying(key: &BlobKey, why: impl Into<String>) -> Error {
    Error::Lying { key: key.clone(), why: why.into() }
}
