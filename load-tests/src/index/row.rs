//! Rows of packs as storage writes them, made without its layer.

use anyhow::Result;
use obscura_ids::PackId;
use obscura_pack::{Directory, Stream};

/// What `COPY ... (FORMAT BINARY)` begins with: signature, flags, length of an extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And what it ends with.
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Number of the stream.
    pub stream: i32,
    /// First frame, nanoseconds since the Unix epoch.
    pub start: i64,
    /// End of the last frame.
    pub end: i64,
    /// The pack.
    pub pack: PackId,
    /// The rest of the directory, compact.
    pub directory: Vec<u8>,
}

impl Row {
    /// The row of a pack whose stream has this number, which is that of its camera ([`Stream::of`]).
    #[must_use]
    pub fn of(stream: i32, directory: &Directory) -> Self {
        let span = directory.span();
        Self {
            stream,
            start: span.start().unix_nanos(),
            end: span.end().unix_nanos(),
            pack: directory.pack_id,
            directory: directory.to_compact(&Stream::of(directory)),
        }
    }
}

/// Rows as `COPY packs_of_days (start_ns, end_ns, stream, pack_id, directory) FROM STDIN (FORMAT BINARY)` takes them.
///
/// # Errors
/// Where a directory is longer than the format can say.
pub fn copy(rows: &[Row]) -> Result<Vec<u8>> {
    let mut bytes = COPY_HEADER.to_vec();
    for row in rows {
        bytes.extend(5_i16.to_be_bytes());
        field(&mut bytes, &row.start.to_be_bytes())?;
        field(&mut bytes, &row.end.to_be_bytes())?;
        field(&mut bytes, &row.stream.to_be_bytes())?;
        field(&mut bytes, row.pack.as_bytes())?;
        field(&mut bytes, &row.directory)?;
    }
    bytes.extend(COPY_TRAILER);
    Ok(bytes)
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    bytes.extend(i32::try_from(value.len())?.to_be_bytes());
    bytes.extend(value);
    Ok(())
}
