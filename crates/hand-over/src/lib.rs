//! Sealed footage handed from service to service on one machine by file descriptor.
//!
//! Between machines a recorder sends packs over TLS. On one machine that costs a third of what recording costs:
//! every byte is encrypted, copied into a socket and out of it, and decrypted, only to be written by the neighbour
//! to the same disk. Here the recorder passes descriptors of its files, opened for reading only, and says where in them
//! the bytes lie (`SCM_RIGHTS`, `unix(7)`); the other side reads them itself.
//!
//! It is an upload like any other: the target is the signed URL that the receiving service gave out over mutual
//! TLS, and it is checked before a byte is read. Both sides refuse a peer that another user runs.
//!
//! ```text
//! 4 bytes, big endian: length of the offer, with the descriptors     ──►
//! the offer (protobuf, see [`Offer`])                                ──►
//!                                     ◄──  2 bytes, big endian: an HTTP status
//! ```

mod offer;
mod read_ahead;
mod receive;
mod send;
#[cfg(test)]
mod tests;

pub use self::{
    offer::{MAX_FILES, MAX_OFFER_BYTES, Offer, Piece, Wrong},
    read_ahead::{Gather, read_ahead},
    receive::{Handed, Listener},
    send::hand_over,
};

use std::{io, os::fd::AsFd};

/// The longest path of a socket, in bytes (`unix(7)`: 108 with the zero at its end).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Refuses a peer that is run by another user: the folder of the socket should keep it away already.
fn check_peer(socket: impl AsFd) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    if peer.uid == rustix::process::geteuid() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other end belongs to another user"))
    }
}
