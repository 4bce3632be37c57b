//! One TLS connection, and what can be known about the other end of it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::task::AbortOnDropHandle;

use super::Settings;
use crate::feed::{pem, sink::Trouble};

/// For the connection and the handshake, and for each write.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server that refuses our certificate has to say so before the first event is sent. An
/// alert that comes later ends the connection all the same, and nothing counts as arrived by then.
const ALERT: Duration = Duration::from_millis(300);

/// A connection to a receiver that knows us.
#[derive(Debug)]
pub struct Connection {
    writer: WriteHalf<TlsStream<TcpStream>>,
    /// The same socket: TLS does not give it back.
    socket: OwnedFd,
    /// Why the connection ended, as the reading end saw it.
    lost: watch::Receiver<Option<String>>,
    _reader: AbortOnDropHandle<()>,
}

impl Connection {
    /// Connects, shakes hands and waits a moment for a refusal.
    pub async fn open(settings: &Settings) -> Result<Self, Trouble> {
        let config =
            pem::client_config(&settings.ca_file, &settings.certificate_file, &settings.key_file).await?;
        let name = ServerName::try_from(settings.server_name().to_owned()).map_err(|_| {
            Trouble::Parked("the name of the syslog receiver is neither a host name nor an address".into())
        })?;
        let dial = async {
            let stream = TcpStream::connect(&settings.address).await?;
            let socket = stream.as_fd().try_clone_to_owned()?;
            Ok((TlsConnector::from(Arc::new(config)).connect(name, stream).await?, socket))
        };
        let dialled = timeout(TIMEOUT, dial).await.map_err(|_| io::ErrorKind::TimedOut.into());
        let (stream, socket) =
            dialled.flatten().map_err(|error: io::Error| again("cannot connect", &error))?;
        let (reader, writer) = split(stream);
        let (tell, mut lost) = watch::channel(None);
        let reader = AbortOnDropHandle::new(tokio::spawn(read_until_lost(reader, tell)));
        let refused = timeout(ALERT, lost.changed()).await.is_ok();
        let connection = Self { writer, socket, lost, _reader: reader };
        if refused {
            connection.look()?;
        }
        Ok(connection)
    }

    /// Hands bytes to our kernel.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let write = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        let written = timeout(TIMEOUT, write).await.map_err(|_| io::ErrorKind::TimedOut.into()).flatten();
        // What the other end said is a better reason than a broken pipe.
        written.map_err(|error: io::Error| self.look().err().unwrap_or_else(|| again("cannot send", &error)))
    }

    /// Says that nothing follows, as RFC 5425 wants it (section 4.4).
    pub async fn close(mut self) {
        // A connection that is lost already needs no farewell.
        let _ = self.writer.shutdown().await;
    }

    /// Whether the other kernel has everything; an error where the connection is lost.
    pub fn look(&self) -> Result<bool, Trouble> {
        if let Some(why) = &*self.lost.borrow() {
            return Err(Trouble::Again(format!("the syslog receiver ended the connection: {why}")));
        }
        let bytes = unacknowledged(self.socket.as_fd())
            .map_err(|error| again("cannot look at the socket", &error))?;
        Ok(bytes == 0)
    }
}

/// Receivers of syslog say nothing: whatever comes is the end.
async fn read_until_lost(mut reader: ReadHalf<TlsStream<TcpStream>>, tell: watch::Sender<Option<String>>) {
    let mut buffer = [0; 256];
    let why = loop {
        match reader.read(&mut buffer).await {
            Ok(0) => break "it closed it".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    tell.send_replace(Some(why));
}

/// Bytes that we wrote and the other kernel has not acknowledged (`SIOCOUTQ`, tcp(7)).
fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    use rustix::ioctl::{Getter, Opcode, ioctl};

    #[expect(clippy::cast_possible_truncation, reason = "numbers of ioctls have 32 bits")]
    const SIOCOUTQ: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: SIOCOUTQ has the number of TIOCOUTQ and writes one int, which is what the getter holds.
    #[expect(unsafe_code, reason = "no safe binding of SIOCOUTQ exists; the call reads only")]
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, libc::c_int>::new()) };
    Ok(bytes?)
}

fn again(what: &str, error: &io::Error) -> Trouble {
    Trouble::Again(format!("{what} to the syslog receiver: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener, TcpStream},
        thread,
    };

    use super::*;

    #[test]
    fn bytes_count_as_unacknowledged_until_the_other_kernel_has_them() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(sender.as_fd()).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        let mut written = 0;
        // More than the other kernel takes while nobody reads, also where it is slow to take it.
        for _ in 0..20 {
            while let Ok(bytes) = sender.write(&[0; 65_536]) {
                written += bytes;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(unacknowledged(sender.as_fd()).unwrap() > 0);
        receiver.read_exact(&mut vec![0; written]).unwrap();
        let all_there = || unacknowledged(sender.as_fd()).unwrap() == 0;
        assert!((0..12_000).any(|_| all_there() || {
            thread::sleep(Duration::from_millis(5));
            false
        }));
    }
}
