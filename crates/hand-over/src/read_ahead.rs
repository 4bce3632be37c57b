//! Bytes in several places, read as one stream.
//!
//! Every recorded byte goes through here, so the memory of a piece that was taken is used for a later one:
//! memory that the system has just given costs more than encrypting what is put there.

use std::{io, mem, sync::mpsc as blocking};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

/// Bytes that come at once.
const PIECE_BYTES: usize = 512 * 1024;
/// Pieces that may wait to be taken.
const READ_AHEAD: usize = 2;
/// Pieces whose memory may come back: what waits, what is being taken and what is being read.
const PIECES: usize = READ_AHEAD + 4;

/// Bytes in several places.
pub trait Gather: Send + 'static {
    /// How many bytes are in each place, in order.
    fn lengths(&self) -> Vec<u32>;

    /// Fills `into` with the bytes of one place from `offset` on, all of which are there. Blocking.
    ///
    /// # Errors
    /// Those of reading.
    fn read(&self, place: usize, offset: u32, into: &mut [u8]) -> io::Result<()>;
}

/// The bytes of all places in order: never more than a few pieces of them in memory. Ends with the first error.
pub fn read_ahead(source: impl Gather) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
    let (send, receive) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(&source, &send) {
            // Who takes the bytes sees them end with an error instead of too early.
            let _ = send.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receive, |mut receive| async { receive.recv().await.map(|item| (item, receive)) })
        .fuse()
}

/// Reads every place. Ends without an error where nobody takes the bytes any more.
fn read_all(source: &impl Gather, send: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let (back, returned) = blocking::sync_channel(PIECES);
    let mut piece = Filling::new(&back, Vec::new());
    for (place, length) in source.lengths().into_iter().enumerate() {
        let mut offset = 0;
        while offset < length {
            if piece.is_full() {
                let next = Filling::new(&back, returned.try_recv().unwrap_or_default());
                if send.blocking_send(Ok(mem::replace(&mut piece, next).into())).is_err() {
                    return Ok(());
                }
            }
            let room = piece.room(length - offset);
            source.read(place, offset, room)?;
            let filled = room.len();
            piece.filled += filled;
            offset = offset.saturating_add(u32::try_from(filled).unwrap_or(u32::MAX));
        }
    }
    if piece.filled > 0 {
        let _ = send.blocking_send(Ok(piece.into()));
    }
    Ok(())
}

/// Bytes on their way, in memory that goes back when they were taken.
struct Filling {
    memory: Vec<u8>,
    filled: usize,
    back: blocking::SyncSender<Vec<u8>>,
}

impl Filling {
    /// Zeros only where the memory is new.
    fn new(back: &blocking::SyncSender<Vec<u8>>, mut memory: Vec<u8>) -> Self {
        memory.resize(PIECE_BYTES, 0);
        Self { memory, filled: 0, back: back.clone() }
    }

    fn is_full(&self) -> bool {
        self.filled >= PIECE_BYTES
    }

    /// Room for at most so many more bytes.
    fn room(&mut self, most: u32) -> &mut [u8] {
        let end = self.filled.saturating_add(most as usize).min(PIECE_BYTES);
        self.memory.get_mut(self.filled..end).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Filling {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // Nobody waits for it once everything was read.
        let _ = self.back.try_send(mem::take(&mut self.memory));
    }
}

impl From<Filling> for Bytes {
    fn from(filling: Filling) -> Self {
        Self::from_owner(filling)
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt as _;
    use proptest::prelude::*;

    use super::*;

    struct Places(Vec<Vec<u8>>);

    impl Gather for Places {
        fn lengths(&self) -> Vec<u32> {
            self.0.iter().map(|place| u32::try_from(place.len()).unwrap()).collect()
        }

        fn read(&self, place: usize, offset: u32, into: &mut [u8]) -> io::Result<()> {
            let offset = usize::try_from(offset).unwrap();
            into.copy_from_slice(&self.0[place][offset..offset + into.len()]);
            Ok(())
        }
    }

    fn collected(places: Vec<Vec<u8>>) -> (usize, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let pieces: Vec<Bytes> =
            runtime.block_on(async { read_ahead(Places(places)).try_collect().await }).unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        (pieces.len(), pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_stream_is_every_place_in_order(
            lengths in prop::collection::vec(prop_oneof![0..100_usize, 1_000..1_300_000_usize], 0..12),
        ) {
            let places: Vec<Vec<u8>> =
                (1_u8..).zip(&lengths).map(|(number, length)| vec![number; *length]).collect();
            let expected = places.concat();
            let (pieces, bytes) = collected(places);
            prop_assert!(bytes == expected, "{} bytes instead of {}", bytes.len(), expected.len());
            prop_assert_eq!(pieces, expected.len().div_ceil(PIECE_BYTES));
        }
    }

    #[test]
    fn memory_that_comes_back_shows_nothing_of_what_was_in_it() {
        let (back, returned) = blocking::sync_channel(1);
        let mut piece = Filling::new(&back, Vec::new());
        piece.room(10).fill(7);
        piece.filled = 10;
        let sent = Bytes::from(piece);
        assert_eq!(&sent[..], [7; 10]);
        drop(sent);
        let mut piece = Filling::new(&back, returned.try_recv().unwrap());
        piece.room(3).fill(8);
        piece.filled = 3;
        assert_eq!(piece.as_ref(), [8; 3]);
    }

    struct Broken;

    impl Gather for Broken {
        fn lengths(&self) -> Vec<u32> {
            vec![10, 10]
        }

        fn read(&self, place: usize, _: u32, _: &mut [u8]) -> io::Result<()> {
            if place == 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_read_ends_the_stream_with_the_error() {
        let error = read_ahead(Broken).try_collect::<Vec<Bytes>>().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
