//! A body of exactly the announced size, or none.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use crate::{ByteStream, Error};

/// What was wrong with a body, told behind its back: the connection only knows that it broke off.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<Error>>>);

impl Verdict {
    fn set(&self, error: Error) -> io::Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        io::ErrorKind::InvalidData.into()
    }

    /// What was wrong, if anything was.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Exact {
    body: ByteStream,
    size: u64,
    received: u64,
    /// The piece that came last. The receiver stores the object with its last byte, so that one goes
    /// out only when the body has ended.
    held: Option<Bytes>,
    verdict: Verdict,
}

/// The body as long as it is right; it breaks off before its last piece where it is not.
pub(super) fn exact(body: ByteStream, size: u64) -> (ByteStream, Verdict) {
    let verdict = Verdict::default();
    let exact = Exact { body, size, received: 0, held: None, verdict: verdict.clone() };
    (Box::pin(stream::try_unfold(exact, Exact::next)), verdict)
}

impl Exact {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        while let Some(piece) = self.body.next().await {
            let piece = piece.map_err(|error| self.verdict.set(Error::Body(error)))?;
            self.received = self.received.saturating_add(piece.len() as u64);
            if self.received > self.size {
                return Err(self.wrong_size());
            }
            if piece.is_empty() {
                continue;
            }
            if let Some(held) = self.held.replace(piece) {
                return Ok(Some((held, self)));
            }
        }
        if self.received != self.size {
            return Err(self.wrong_size());
        }
        self.body = Box::pin(stream::empty());
        Ok(self.held.take().map(|held| (held, self)))
    }

    fn wrong_size(&self) -> io::Error {
        self.verdict.set(Error::WrongSize { announced: self.size, received: self.received })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(pieces: Vec<Vec<u8>>, size: u64) -> (Vec<u8>, Option<Error>) {
        let body: ByteStream = Box::pin(stream::iter(pieces.into_iter().map(|piece| Ok(piece.into()))));
        let (body, verdict) = exact(body, size);
        let sent: Vec<io::Result<Bytes>> =
            futures::FutureExt::now_or_never(body.collect::<Vec<_>>()).unwrap();
        (sent.into_iter().flatten().flatten().collect(), verdict.take())
    }

    proptest! {
        #[test]
        fn the_last_byte_goes_out_only_where_the_size_is_right(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5), 0..8),
            size in 0..20_u64,
        ) {
            let all = pieces.concat();
            let (sent, fault) = run(pieces, size);
            if all.len() as u64 == size {
                prop_assert_eq!(sent, all);
                prop_assert!(fault.is_none());
            } else {
                prop_assert!((sent.len() as u64) < size.max(1));
                prop_assert!(matches!(fault, Some(Error::WrongSize { .. })), "{:?}", fault);
            }
        }
    }
}
