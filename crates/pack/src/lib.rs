//! Packs: individually sealed segments of one camera behind a clear directory.
//!
//! ```text
//! "OBSPACK" 0x01 | u32 BE length of the directory | directory | sealed segments, back to back
//! `---------------------------- head -----------------------'  `---------- body ------------'
//! ```
//!
//! The directory is `obscura.footage.v1.PackDirectory` in protobuf. It repeats what the headers of
//! the segments say, so that an index can be rebuilt from heads alone, and it is not trusted: every
//! header is decoded, and what it says must agree with the directory.

mod compact;
mod directory;
mod entry;
mod error;
mod object;
mod statement;

pub use compact::Stream;
pub use directory::{Directory, HEAD_PREFIX, MAX_BODY_BYTES, MAX_DIRECTORY_BYTES, MAX_ENTRIES};
pub use entry::Entry;
pub use error::{Error, InvalidEntry};
pub use object::{Day, ObjectName, object_key, parse_object_key};
pub use statement::Statement;
