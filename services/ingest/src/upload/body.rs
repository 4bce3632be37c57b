//! The bytes of a pack, read from the spool as they are sent: a pack is never whole in memory.

use std::{io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use crate::spool::{Extent, Spool};

/// Small extents are gathered up to so many bytes.
const READ_BYTES: usize = 256 * 1024;
/// Extents of this size are sent as they are.
const READ_BYTES_ALONE: u32 = 32 * 1024;
/// Reads that may wait to be sent.
const READ_AHEAD: usize = 4;

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

type Sender = mpsc::Sender<io::Result<Bytes>>;

fn read_all(spool: &Spool, head: Vec<u8>, extents: &[Extent], send: &Sender) -> io::Result<()> {
    let mut gathered = head;
    for extent in extents {
        if gathered.len() >= READ_BYTES || extent.length >= READ_BYTES_ALONE {
            let full = std::mem::take(&mut gathered);
            if !full.is_empty() && send.blocking_send(Ok(full.into())).is_err() {
                return Ok(()); // The request was given up; nobody reads any more.
            }
        }
        if extent.length >= READ_BYTES_ALONE {
            gathered = Vec::with_capacity(extent.length as usize);
        }
        spool.read(*extent, &mut gathered).map_err(io::Error::other)?;
    }
    if !gathered.is_empty() {
        let _ = send.blocking_send(Ok(gathered.into()));
    }
    Ok(())
}
