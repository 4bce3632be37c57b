//! Both ends over a real socket.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream as StdStream},
    path::PathBuf,
};

use futures::TryStreamExt as _;
use http::StatusCode;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

const TARGET: &str = "/objects/eea/object?size=3";

struct Place {
    dir: tempfile::TempDir,
    listener: Listener,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&dir.path().join("socket")).unwrap();
        Self { dir, listener }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn file(&self, name: &str, content: &[u8]) -> File {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        File::open(path).unwrap()
    }

    /// Takes one offer whole.
    async fn take(&self, answer: StatusCode) -> io::Result<(String, u64, Vec<u8>)> {
        let handed = Handed::receive(self.listener.accept().await?).await?;
        let (target, size) = (handed.target().to_string(), handed.size());
        let (body, waiting) = handed.open();
        let bytes: Vec<bytes::Bytes> = body.try_collect().await?;
        waiting.answer(answer).await?;
        Ok((target, size, bytes.concat()))
    }
}

fn offer(pieces: &[(u32, u64, u32)]) -> Offer {
    let piece = |&(file, offset, length): &_| Piece { file, offset, length };
    Offer {
        target: TARGET.into(),
        head: bytes::Bytes::from_static(b"head"),
        pieces: pieces.iter().map(piece).collect(),
    }
}

#[tokio::test]
async fn what_lies_in_files_arrives_in_order_and_the_answer_comes_back() {
    let place = Place::new();
    let (one, other) = (place.file("one", b"0123456789"), place.file("other", &[7; 1_000_000]));
    let offer = offer(&[(0, 8, 2), (1, 1, 999_999), (0, 0, 3)]);
    let files = [one.as_fd(), other.as_fd()];
    let socket = place.socket();
    let (answered, taken) = tokio::join!(hand_over(&socket, &offer, &files), place.take(StatusCode::CREATED));
    assert_eq!(answered.unwrap(), StatusCode::CREATED);
    let (target, size, bytes) = taken.unwrap();
    assert_eq!((target.as_str(), size), (TARGET, 4 + 2 + 999_999 + 3));
    assert!(bytes == [&b"head89"[..], &vec![7; 999_999], b"012"].concat());
}

#[tokio::test]
async fn a_file_that_ends_too_early_is_an_error_and_no_answer() {
    let place = Place::new();
    let file = place.file("one", b"0123456789");
    let offer = offer(&[(0, 8, 3)]);
    let files = [file.as_fd()];
    let socket = place.socket();
    let (answered, taken) = tokio::join!(hand_over(&socket, &offer, &files), place.take(StatusCode::CREATED));
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(answered.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_offer_can_be_refused_unread() {
    let place = Place::new();
    let file = place.file("one", b"0123456789");
    let (offer, files, socket) = (offer(&[(0, 0, 3)]), [file.as_fd()], place.socket());
    let refuse = async {
        let stream = place.listener.accept().await.unwrap();
        Handed::receive(stream).await.unwrap().refuse(StatusCode::FORBIDDEN).await.unwrap();
    };
    let (answered, ()) = tokio::join!(hand_over(&socket, &offer, &files), refuse);
    assert_eq!(answered.unwrap(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn nobody_listening_is_told_from_everything_else() {
    let place = Place::new();
    let (offer, socket) = (offer(&[]), place.socket());
    let nowhere = place.dir.path().join("nowhere");
    assert_eq!(hand_over(&nowhere, &offer, &[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    drop(place.listener);
    assert!(!socket.exists(), "it leaves nothing");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(hand_over(&socket, &offer, &[]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    Listener::bind(&socket).expect("what a killed process left is removed");
}

#[tokio::test]
async fn the_socket_of_a_successor_stays() {
    let place = Place::new();
    let successor = Listener::bind(&place.socket()).unwrap();
    let socket = place.socket();
    drop(place.listener);
    assert!(socket.exists());
    drop(successor);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_name_that_is_taken_is_left_alone() {
    let place = Place::new();
    place.file("mine", b"something");
    let error = Listener::bind(&place.dir.path().join("mine")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(place.dir.path().join("mine")).unwrap(), b"something");
}

#[tokio::test]
async fn more_files_than_an_offer_may_name_are_not_sent() {
    let place = Place::new();
    let file = place.file("one", b"x");
    let files = vec![file.as_fd(); MAX_FILES + 1];
    let error = hand_over(&place.socket(), &offer(&[]), &files).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_is_no_offer_is_refused() {
    let place = Place::new();
    let of_missing = offer(&[(0, 0, 1)]).encode_to_vec();
    let length = |bytes: usize| u32::try_from(bytes).unwrap();
    let sent: [(u32, &[u8]); 3] =
        [(3, b"\xff\xff\xff"), (length(MAX_OFFER_BYTES + 1), b""), (length(of_missing.len()), &of_missing)];
    for (length, bytes) in sent {
        let mut stream = StdStream::connect(place.socket()).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(bytes).unwrap();
        let error = Handed::receive(place.listener.accept().await.unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[tokio::test]
async fn a_descriptor_of_something_else_than_a_file_is_refused() {
    let place = Place::new();
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    let (offer, files, socket) = (offer(&[(0, 0, 1)]), [pipe.as_fd()], place.socket());
    let receive = async { Handed::receive(place.listener.accept().await.unwrap()).await.map(drop) };
    let (answered, received) = tokio::join!(hand_over(&socket, &offer, &files), receive);
    assert!(received.unwrap_err().to_string().contains("no regular file"));
    assert!(answered.is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_an_offer_within_its_files_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), files in 0..4_usize) {
        if let Ok(offer) = Offer::read(&bytes, files) {
            prop_assert!(offer.pieces.iter().all(|piece| (piece.file as usize) < files));
            prop_assert!(offer.target.starts_with('/'));
        }
    }

    #[test]
    fn an_offer_reads_back(pieces in prop::collection::vec((0..3_u32, 0..1_u64 << 62, any::<u32>()), 0..50)) {
        let offer = offer(&pieces);
        prop_assert_eq!(Offer::read(&offer.encode_to_vec(), 3).unwrap(), offer);
    }
}
