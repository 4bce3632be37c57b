//! The bytes of a pack, read from the spool as they are sent: a pack is never whole in memory.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use obscura_hand_over::{Gather, read_ahead};
use obscura_identity::BoxBody;

use crate::spool::{Error, Extent, Position, Spool};

/// The head of a pack, then the sealed bytes at `extents`.
#[derive(Clone, Debug)]
pub struct Body {
    /// Where the bytes are.
    pub spool: Arc<Spool>,
    /// What comes first.
    pub head: Bytes,
    /// Where the rest lies, in order.
    pub extents: Vec<Extent>,
}

impl Body {
    /// All its bytes.
    pub fn length(&self) -> u64 {
        self.head.len() as u64 + self.extents.iter().map(|extent| u64::from(extent.length)).sum::<u64>()
    }

    /// Whether the disk does not give all of it back, and what it says instead. To be asked when sending it
    /// failed: whoever takes the bytes only sees them end.
    pub async fn unreadable(&self) -> Option<Error> {
        let (spool, extents) = (Arc::clone(&self.spool), self.extents.clone());
        let read = move || extents.iter().try_for_each(|extent| spool.check(*extent));
        let read = tokio::task::spawn_blocking(read).await.ok()?;
        read.err().filter(|error| error.unreadable().is_some())
    }

    /// The bytes, as they are read.
    pub fn stream(self) -> BoxBody {
        let head = stream::once(std::future::ready(Ok(self.head)));
        let rest = read_ahead(Extents { spool: self.spool, extents: self.extents });
        BodyExt::boxed(StreamBody::new(head.chain(rest).map(|piece| piece.map(Frame::data))))
    }
}

struct Extents {
    spool: Arc<Spool>,
    extents: Vec<Extent>,
}

impl Gather for Extents {
    fn lengths(&self) -> Vec<u32> {
        self.extents.iter().map(|extent| extent.length).collect()
    }

    fn read(&self, place: usize, offset: u32, into: &mut [u8]) -> io::Result<()> {
        let extent = self.extents.get(place).ok_or(io::ErrorKind::InvalidInput)?;
        let length = u32::try_from(into.len()).map_err(io::Error::other)?;
        let part = Extent { start: Position(extent.start.0.saturating_add(u64::from(offset))), length };
        self.spool.read_into(part, into).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use obscura_clock::SystemClock;
    use obscura_hand_over::{MAX_FILES, Piece};

    use super::*;
    use crate::spool::{
        Limits,
        record::{Kind, Record},
    };

    /// Extents of these lengths, each filled with its own number.
    async fn spooled(dir: &tempfile::TempDir, lengths: &[usize]) -> (Body, Vec<u8>) {
        // Files of a megabyte or so.
        let limits = Limits::of_bytes(1);
        let (spool, _) = Spool::open(dir.path().to_owned(), limits, SystemClock::shared()).unwrap();
        let (mut extents, mut all) = (Vec::new(), b"head".to_vec());
        for (number, length) in (1_u8..).zip(lengths) {
            let payload = vec![number; *length];
            let record = Record { kind: Kind::Data, serial: spool.next_serial(), payload: &payload };
            let (extent, position) = spool.append_again(&[record]).unwrap();
            extents.extend(extent);
            all.extend(payload);
            spool.commit_soon();
            spool.wait_committed(position).await.unwrap();
        }
        (Body { spool, head: Bytes::from_static(b"head"), extents }, all)
    }

    const LENGTHS: [usize; 7] = [1, 3_000_000, 5_000, 700_000, 2_000_000, 8, 900_000];

    #[tokio::test]
    async fn a_body_is_the_head_and_every_extent_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (body, all) = spooled(&dir, &LENGTHS).await;
        assert_eq!(body.length(), all.len() as u64);
        assert!(body.stream().collect().await.unwrap().to_bytes() == all);
    }

    #[tokio::test]
    async fn what_is_lent_are_the_same_bytes_and_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let (body, all) = spooled(&dir, &LENGTHS).await;
        let (files, pieces) = body.spool.lend(&body.extents, MAX_FILES).unwrap().unwrap();
        assert!(files.len() > 1, "the extents lie in several files");
        let mut found = b"head".to_vec();
        for Piece { file, offset, length } in pieces {
            let mut bytes = vec![0; length as usize];
            files[file as usize].read_exact_at(&mut bytes, offset).unwrap();
            found.extend(bytes);
        }
        assert!(found == all);
        for file in &files {
            let flags = rustix::fs::fcntl_getfl(file).unwrap();
            assert_eq!(flags & rustix::fs::OFlags::ACCMODE, rustix::fs::OFlags::RDONLY);
        }
        assert!(body.spool.lend(&body.extents, 1).unwrap().is_none(), "more files than may be lent");
    }
}
