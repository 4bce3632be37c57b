//! The bytes of a pack, read from the spool as they are sent: a pack is never whole in memory.
//!
//! Every recorded byte goes through here, so the memory of a piece that was sent is used for the next one:
//! memory that the system has just given costs more than encrypting what is put there.

use std::{
    io, mem,
    sync::{Arc, mpsc as blocking},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::spool::{Extent, Spool};

/// Bytes that are sent at once, where extents allow it; more where one extent is longer.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that may wait to be sent.
const READ_AHEAD: usize = 4;
/// Pieces whose memory may come back: what waits, what is being sent and what is being read.
const PIECES: usize = READ_AHEAD + 4;

/// The head of a pack, then the sealed bytes at `extents`.
pub fn of_spool(spool: Arc<Spool>, head: Vec<u8>, extents: Vec<Extent>) -> BoxBody<Bytes, io::Error> {
    let (send, receive) = mpsc::channel(READ_AHEAD);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = read_all(&spool, head, &extents, &send) {
            // Who sends the body sees it end with an error instead of too early.
            let _ = send.blocking_send(Err(error));
        }
    });
    let stream = futures::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|item| (item.map(Frame::data), receive))
    });
    StreamBody::new(stream).boxed()
}

/// Reads every extent. Ends without an error where the request was given up, because nobody reads any more.
fn read_all(
    spool: &Spool,
    head: Vec<u8>,
    extents: &[Extent],
    send: &mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    if send.blocking_send(Ok(head.into())).is_err() {
        return Ok(());
    }
    let (back, returned) = blocking::sync_channel(PIECES);
    let mut piece = Piece::new(&back, Vec::new());
    for extent in extents {
        if !piece.has_room(extent.length) {
            let next = Piece::new(&back, returned.try_recv().unwrap_or_default());
            if send.blocking_send(Ok(mem::replace(&mut piece, next).into())).is_err() {
                return Ok(());
            }
        }
        let room = piece.grow(extent.length);
        spool.read_into(*extent, room).map_err(io::Error::other)?;
    }
    if piece.filled > 0 {
        let _ = send.blocking_send(Ok(piece.into()));
    }
    Ok(())
}

/// Bytes on their way, in memory that goes back when they are sent.
struct Piece {
    memory: Vec<u8>,
    filled: usize,
    back: blocking::SyncSender<Vec<u8>>,
}

impl Piece {
    fn new(back: &blocking::SyncSender<Vec<u8>>, memory: Vec<u8>) -> Self {
        Self { memory, filled: 0, back: back.clone() }
    }

    /// Whether so many bytes fit; an empty piece takes any extent.
    fn has_room(&self, length: u32) -> bool {
        self.filled == 0 || self.filled.saturating_add(length as usize) <= PIECE_BYTES
    }

    /// Room for so many more bytes. Set to zero only where the memory is new.
    fn grow(&mut self, length: u32) -> &mut [u8] {
        let start = self.filled;
        self.filled = start.saturating_add(length as usize);
        if self.memory.len() < self.filled {
            self.memory.resize(self.filled.max(PIECE_BYTES), 0);
        }
        self.memory.get_mut(start..self.filled).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.filled).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nobody waits for it once everything was read.
        let _ = self.back.try_send(mem::take(&mut self.memory));
    }
}

impl From<Piece> for Bytes {
    fn from(piece: Piece) -> Self {
        Self::from_owner(piece)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use obscura_clock::SystemClock;
    use proptest::prelude::*;

    use super::*;
    use crate::spool::{
        Limits,
        record::{Kind, Record},
    };

    /// Extents of these lengths, each filled with its own number.
    async fn spooled(dir: &tempfile::TempDir, lengths: &[usize]) -> (Arc<Spool>, Vec<Extent>, Vec<u8>) {
        let limits = Limits::of_bytes(1 << 30);
        let (spool, _) = Spool::open(dir.path().to_owned(), limits, SystemClock::shared()).unwrap();
        let (mut extents, mut all, mut end) = (Vec::new(), Vec::new(), None);
        for (number, length) in (1_u8..).zip(lengths) {
            let payload = vec![number; *length];
            let record = Record { kind: Kind::Data, serial: spool.next_serial(), payload: &payload };
            let (extent, position) = spool.append(&[record]).unwrap();
            extents.extend(extent);
            all.extend(payload);
            end = Some(position);
        }
        spool.commit_soon();
        spool.wait_committed(end.unwrap()).await.unwrap();
        (spool, extents, all)
    }

    fn body_of(lengths: &[usize]) -> (Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (spool, extents, all) = spooled(&dir, lengths).await;
            let body = of_spool(Arc::clone(&spool), b"head".to_vec(), extents);
            (body.collect().await.unwrap().to_bytes().to_vec(), [&b"head"[..], &all].concat())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn a_body_is_the_head_and_every_extent_in_order(
            lengths in prop::collection::vec(prop_oneof![1..100_usize, 1_000..300_000_usize], 1..30),
        ) {
            let (body, expected) = body_of(&lengths);
            prop_assert!(body == expected, "{} bytes instead of {}", body.len(), expected.len());
        }
    }

    #[test]
    fn memory_that_comes_back_is_used_again_and_shows_nothing_of_what_was_in_it() {
        let (back, returned) = blocking::sync_channel(1);
        let mut piece = Piece::new(&back, Vec::new());
        piece.grow(10).fill(7);
        let sent = Bytes::from(piece);
        assert_eq!(&sent[..], [7; 10]);
        drop(sent);
        let mut piece = Piece::new(&back, returned.try_recv().unwrap());
        piece.grow(3).fill(8);
        assert_eq!(piece.as_ref(), [8; 3]);
    }

    #[test]
    fn an_extent_longer_than_a_piece_is_sent_alone() {
        let length = u32::try_from(PIECE_BYTES + 1).unwrap();
        let (back, _returned) = blocking::sync_channel(1);
        let mut piece = Piece::new(&back, Vec::new());
        assert!(piece.has_room(length));
        piece.grow(length);
        assert!(!piece.has_room(1));
    }
}
