//! Rows of packs as storage writes them, made without its layer.

use anyhow::Result;
use obscura_ids::PackId;
use obscura_pack::{Directory, Stream};
use tokio::sync::mpsc;

use super::{Plan, directory};

/// What `COPY ... (FORMAT BINARY)` begins with: signature, flags, length of an extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And what it ends with.
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Packs that are sent together while filling.
const BATCH: usize = 2_000;

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

/// Rows as `COPY packs_recent (start_ns, end_ns, stream, pack_id, directory) FROM STDIN (FORMAT BINARY)` takes them.
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

/// The number of the stream of the camera at this place.
///
/// # Errors
/// Where there are more than have numbers.
pub fn stream_of(place: usize) -> Result<i32> {
    Ok(i32::try_from(place + 1)?)
}

/// Makes all rows of the plan, in the order in which recorders bring them, until nobody takes them any more.
///
/// # Errors
/// Where times are beyond what a pack can hold.
pub fn make_rows(plan: &Plan, sender: &mpsc::Sender<Vec<Row>>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    for minute in (0..plan.minutes).filter(|minute| !Plan::is_away(*minute)) {
        for (place, camera) in plan.cameras.iter().enumerate() {
            batch.push(Row::of(stream_of(place)?, &directory(*camera, minute)?));
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                if sender.blocking_send(full).is_err() {
                    return Ok(());
                }
            }
        }
    }
    sender.blocking_send(batch).ok();
    Ok(())
}

fn field(bytes: &mut Vec<u8>, value: &[u8]) -> Result<()> {
    bytes.extend(i32::try_from(value.len())?.to_be_bytes());
    bytes.extend(value);
    Ok(())
}
