//! Opening a connection: bind, connect, within a time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use monoio::net::TcpStream;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::clock::{self, Instant};
use crate::error::{Error, Kind};
use crate::io::Deadlines;
use crate::io::socket::Half;

/// Connects to the first of `addresses` that answers before `until`, and says which it is. Each gets
/// an equal share of the time that is left.
///
/// # Errors
/// The last address's refusal; [`Kind::Dns`] when there is no address.
pub async fn dial(
    addresses: &[SocketAddr],
    outbound: Option<IpAddr>,
    until: Instant,
    deadlines: &Deadlines,
) -> Result<(TcpStream, SocketAddr), Error> {
    let mut last = Error::new(Kind::Dns);
    let usable = addresses
        .iter()
        .filter(|address| outbound.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4()));
    let count = u32::try_from(usable.clone().count()).unwrap_or(u32::MAX);
    for (left, &address) in (1..=count).rev().zip(usable) {
        let timeout = until.saturating_duration_since(clock::now()) / left;
        match connect(address, outbound, timeout, deadlines).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to one address within `timeout`. May be dropped: the connect is then given up.
///
/// # Errors
/// The address's refusal, or none in time.
pub(crate) async fn connect(
    address: SocketAddr,
    outbound: Option<IpAddr>,
    timeout: Duration,
    deadlines: &Deadlines,
) -> Result<TcpStream, Error> {
    let stream = TcpStream::from_std(start(address, outbound).map_err(Error::connecting)?)
        .map_err(Error::connecting)?;
    let deadline = deadlines.arm_after(&stream, Half::Both, timeout);
    let ready = stream.writable(false).await;
    if deadline.expired() {
        return Err(Error::new(Kind::ConnectTimeout));
    }
    ready.map_err(Error::connecting)?;
    finish(&stream).map_err(Error::connecting)?;
    Ok(stream)
}

/// Begins a connect that does not block.
fn start(address: SocketAddr, outbound: Option<IpAddr>) -> io::Result<std::net::TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(ip) = outbound {
        // The port is chosen at connect, so that many connections share one address.
        bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or(0);
    // SAFETY: the descriptor is open while `socket` is borrowed; the pointer and length name `on`,
    // which outlives the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            len,
        )
    } != 0;
    if failed {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Asks how the connect ended, and hands the socket to the ring, which arms its own polling only
/// on sockets that may block.
fn finish(stream: &TcpStream) -> io::Result<()> {
    let socket = crate::io::socket::borrow(stream);
    let socket = SockRef::from(&socket);
    if let Some(error) = socket.take_error()? {
        return Err(error);
    }
    socket.peer_addr()?;
    if !monoio::utils::is_legacy() {
        socket.set_nonblocking(false)?;
    }
    Ok(())
}
