//! Ports for servers that are other processes.
//!
//! A port that was free a moment ago may be somebody else's when the server gets to listening, or when it
//! is started again. So its socket is kept here, bound and never listening: Linux gives such a port to
//! nobody who asks for any, and lets a server listen on it that, as all here do, may reuse addresses
//! (`SO_REUSEADDR`, socket(7)). While the server is away, connections are refused as on a free port.

use std::{io, net::Ipv4Addr, net::SocketAddrV4, os::fd::OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// A port of the loopback interface that is ours as long as this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _bound: OwnedFd,
}

impl Port {
    /// Takes one of the system's choice.
    ///
    /// # Errors
    /// Where there is none.
    pub fn take() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let number = SocketAddrV4::try_from(getsockname(&socket)?)?.port();
        Ok(Self { number, _bound: socket })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::{
        nats::{Nats, Options},
        syslog::Syslog,
    };

    #[test]
    fn a_port_refuses_connections_until_its_server_listens_and_after_it() {
        let port = Port::take().unwrap();
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            // As any server of these tests it may reuse addresses.
            let server = TcpListener::bind(address).unwrap();
            TcpStream::connect(address).unwrap();
            drop(server);
        }
    }

    #[test]
    fn servers_listen_on_ports_that_are_kept_for_them_and_do_so_again_after_they_were_killed() {
        let (mut nats, mut syslog) = (Nats::start_with(Options::default()).unwrap(), Syslog::own().unwrap());
        for _ in 0..2 {
            nats.kill();
            syslog.kill();
            nats.start().unwrap();
            syslog.start().unwrap();
        }
    }
}
