//! The end that has the bytes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    path::Path,
};

use http::StatusCode;
use prost::Message as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::UnixStream,
};

use crate::{MAX_FILES, MAX_OFFER_BYTES, Offer, check_peer};

/// Hands the bytes in these files over, and waits for the answer. Whoever calls sets an end to the waiting.
///
/// # Errors
/// Those of connecting, as they are: nobody listening is [`io::ErrorKind::NotFound`] or
/// [`io::ErrorKind::ConnectionRefused`]. [`io::ErrorKind::InvalidInput`] for an offer over a limit, and
/// [`io::ErrorKind::PermissionDenied`] where another user listens: nothing was sent then.
pub async fn hand_over(socket: &Path, offer: &Offer, files: &[BorrowedFd<'_>]) -> io::Result<StatusCode> {
    let bytes = offer.encode_to_vec();
    if files.len() > MAX_FILES || bytes.len() > MAX_OFFER_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than one offer may hold"));
    }
    let mut stream = UnixStream::connect(socket).await?;
    check_peer(&stream)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?.to_be_bytes();
    stream.async_io(Interest::WRITABLE, || send_with_files(&stream, length, files)).await?;
    stream.write_all(&bytes).await?;
    let mut status = [0; 2];
    stream.read_exact(&mut status).await?;
    StatusCode::from_u16(u16::from_be_bytes(status)).map_err(io::Error::other)
}

fn send_with_files(stream: &UnixStream, length: [u8; 4], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("the descriptors do not fit"));
    }
    match sendmsg(stream, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)? {
        sent if sent == length.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}
