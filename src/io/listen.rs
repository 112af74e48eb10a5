//! Listeners: one for each thread that accepts, `SO_REUSEPORT` spreading clients over them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::bounds;

/// Connections that the kernel may hold for a worker that is busy: a fleet's reconnect after a
/// restart comes at once, and `net.core.somaxconn` (4096 by default) caps it anyway.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel keeps for a client that does not take them, beside what is on its way: so
/// that 20,000 readers who never read hold 2.5 GB of kernel memory and not 80 (`net.ipv4.tcp_wmem`
/// allows 4 MiB each), and that one that reads slowly is seen to read. The kernel has a writer go on
/// when half of it is free, which a client at `CLIENT_MIN_RATE` reaches within `CLIENT_IDLE_TIMEOUT`.
/// Connections inherit it from their listener.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

const _: () = assert!(
    UNSENT_BYTES_MAX as u64 / 2 <= bounds::CLIENT_MIN_RATE * bounds::CLIENT_IDLE_TIMEOUT.as_secs()
);

/// Binds one listener for each worker to the same address; port 0 is chosen by the first.
///
/// The first bind goes without `SO_REUSEPORT`, so that a port that another process listens on is
/// found out: with it, the kernel would let both share the port and split the clients between
/// them.
///
/// # Errors
/// The address is in use or not ours.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = open(address)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let first: std::net::TcpListener = first.into();
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        let next = open(address)?;
        next.set_reuse_port(true)?;
        next.bind(&address.into())?;
        next.listen(BACKLOG)?;
        listeners.push(next.into());
    }
    Ok(listeners)
}

/// Whether connections to `address` arrive at a socket of this machine that listens at `listening`.
pub fn is_reached_at(listening: SocketAddr, address: SocketAddr) -> bool {
    let (own, ip) = (listening.ip().to_canonical(), address.ip().to_canonical());
    let is_local = || UdpSocket::bind((ip, 0)).is_ok();
    listening.port() == address.port()
        && (own == ip || own.is_unspecified() && (ip.is_unspecified() || is_local()))
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Without it, connections in TIME_WAIT of a process just ended would hold the port.
    socket.set_reuse_address(true)?;
    bound_unsent(&socket)?;
    Ok(socket)
}

/// Bounds what the kernel keeps for clients that `listener` will take in, also where it was opened by
/// somebody else.
///
/// # Errors
/// The kernel refuses.
pub fn bound_unsent(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_reached_at_its_own_address_and_one_for_all_at_each_of_this_machine() {
        let reached = |listening: &str, address: &str| {
            is_reached_at(listening.parse().unwrap(), address.parse().unwrap())
        };
        assert!(reached("127.0.0.1:80", "127.0.0.1:80"));
        assert!(reached("127.0.0.1:80", "[::ffff:127.0.0.1]:80"));
        assert!(reached("0.0.0.0:80", "127.0.0.1:80"));
        assert!(reached("[::]:80", "127.0.0.1:80"));
        assert!(!reached("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!reached("127.0.0.1:80", "127.0.0.2:80"));
        // Nobody's (RFC 5737).
        assert!(!reached("0.0.0.0:80", "192.0.2.1:80"));
    }
}
