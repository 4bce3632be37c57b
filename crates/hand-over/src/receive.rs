//! The end that takes the bytes.

use std::{
    fs::{self, File},
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use http::{StatusCode, Uri};
use obscura_direct_file::DirectReader;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, Interest},
    net::{UnixListener, UnixStream},
};

use crate::{Gather, MAX_FILES, MAX_OFFER_BYTES, Offer, Piece, Wrong, check_peer, read_ahead};

/// How long a whole offer may take to come.
const OFFER: Duration = Duration::from_secs(10);

/// Where offers come in.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and number of the file: another one by its name is a successor's.
    file: (u64, u64),
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What a killed process leaves there is removed by the next one.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens at this path. What an earlier run left there is removed; nothing else is.
    ///
    /// # Errors
    /// Where something other than a socket has the name, or the path is too long or cannot be used.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(left) if left.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(absent) if absent.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let socket = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let file = identity(&fs::symlink_metadata(path)?);
        Ok(Self { socket, path: path.to_owned(), file })
    }

    /// Waits until somebody connects.
    ///
    /// # Errors
    /// Those of accepting.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.socket.accept().await.map(|(stream, _)| stream)
    }
}

/// An offer that came in, and whom to answer.
#[derive(Debug)]
pub struct Handed {
    stream: UnixStream,
    target: Uri,
    offer: Offer,
    files: Vec<DirectReader>,
}

impl Handed {
    /// Reads the offer of whoever has connected. No byte of what it offers was read then.
    ///
    /// # Errors
    /// For a peer that another user runs, one that is slow, and what is no offer of regular files.
    pub async fn receive(stream: UnixStream) -> io::Result<Self> {
        check_peer(&stream)?;
        tokio::time::timeout(OFFER, Self::read(stream)).await?
    }

    async fn read(mut stream: UnixStream) -> io::Result<Self> {
        let (length, files) = stream.async_io(Interest::READABLE, || receive_with_files(&stream)).await?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
        if length > MAX_OFFER_BYTES {
            return Err(wrong(Wrong::TooLong(length)));
        }
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes).await?;
        let offer = Offer::read(&bytes, files.len()).map_err(wrong)?;
        let target = offer.target.parse().map_err(|_| wrong(Wrong::Target))?;
        let files = files.into_iter().map(regular).collect::<io::Result<_>>()?;
        Ok(Self { stream, target, offer, files })
    }

    /// Path and query for which the upload was signed.
    #[must_use]
    pub fn target(&self) -> &Uri {
        &self.target
    }

    /// Bytes of the object.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.offer.size()
    }

    /// The bytes of the object, and whom to answer when they are stored.
    pub fn open(self) -> (impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static, Waiting) {
        let head = stream::once(std::future::ready(Ok(self.offer.head)));
        let pieces = Pieces { files: self.files, pieces: self.offer.pieces };
        (head.chain(read_ahead(pieces)), Waiting { stream: self.stream })
    }

    /// Refuses it.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn refuse(self, status: StatusCode) -> io::Result<()> {
        Waiting { stream: self.stream }.answer(status).await
    }
}

/// Somebody who waits for an answer.
#[derive(Debug)]
pub struct Waiting {
    stream: UnixStream,
}

impl Waiting {
    /// Answers.
    ///
    /// # Errors
    /// Those of writing.
    pub async fn answer(mut self, status: StatusCode) -> io::Result<()> {
        self.stream.write_all(&status.as_u16().to_be_bytes()).await
    }
}

struct Pieces {
    files: Vec<DirectReader>,
    pieces: Vec<Piece>,
}

impl Gather for Pieces {
    fn lengths(&self) -> Vec<u32> {
        self.pieces.iter().map(|piece| piece.length).collect()
    }

    fn read(&self, place: usize, offset: u32, into: &mut [u8]) -> io::Result<()> {
        let piece = self.pieces.get(place).ok_or(io::ErrorKind::InvalidInput)?;
        let file = usize::try_from(piece.file).ok().and_then(|file| self.files.get(file));
        let file = file.ok_or(io::ErrorKind::InvalidInput)?;
        file.read_exact_at(into, piece.offset.saturating_add(u64::from(offset)))
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// The length of the offer, and the files that came with it.
fn receive_with_files(stream: &UnixStream) -> io::Result<([u8; 4], Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors);
        }
    }
    if received.bytes != length.len() || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(wrong(Wrong::Malformed("its first four bytes did not come together".into())));
    }
    Ok((length, files))
}

/// Reading anything else might never end.
fn regular(descriptor: OwnedFd) -> io::Result<DirectReader> {
    let file = File::from(descriptor);
    if file.metadata()?.is_file() {
        Ok(DirectReader::from(file))
    } else {
        Err(wrong(Wrong::Malformed("one of its descriptors is no regular file".into())))
    }
}

fn wrong(why: Wrong) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
