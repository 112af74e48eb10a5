//! Whole reads and writes on a socket, liveness checks, and the end of a connection.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf};
use monoio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};

use super::Buf;

/// Reads once, appending to `buf`, and says how many bytes came; 0 is the end of the stream.
///
/// The future must be run to its end or the connection given up: while it runs, the kernel owns
/// the buffer, and a dropped read may have taken bytes from the socket.
pub async fn read_some<S: AsyncReadRent>(
    stream: &mut S,
    buf: &mut Buf,
    room: usize,
) -> io::Result<usize> {
    buf.reserve(room);
    let (bytes, start) = buf.lend();
    let end = bytes.len();
    let (result, slice) = stream.read(bytes.slice_mut(end..)).await;
    buf.restore(slice.into_inner(), start);
    result
}

/// Waits until there is something to be read, or the end of the stream, and takes nothing.
///
/// # Errors
/// Whatever the socket says.
pub async fn readable(half: &OwnedReadHalf<TcpStream>) -> io::Result<()> {
    // SAFETY: the stream lives as long as this half of it, which is borrowed; monoio reaches it the
    // same way for reads and writes side by side, and waiting only reads its descriptor's number.
    let stream = unsafe { &*half.0.get() };
    stream.readable(false).await
}

/// Appends to `buf` what has arrived already and fits into its spare room. The end of the stream and
/// errors are left to the next read.
pub fn read_now(socket: &impl AsRawFd, buf: &mut Buf) {
    let bytes = buf.writable();
    let spare = bytes.spare_capacity_mut();
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; pointer and length name
    // the vector's spare room, which outlives the call.
    let count = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            spare.as_mut_ptr().cast(),
            spare.len(),
            libc::MSG_DONTWAIT,
        )
    };
    if let Ok(count) = usize::try_from(count) {
        // SAFETY: the kernel has written this many bytes behind the vector's, within its capacity.
        unsafe { bytes.set_len(bytes.len() + count) };
    }
}

/// Appends to `bytes` what has arrived already and fits into its spare room. 0 is the end of the stream
/// (or no room), and `WouldBlock` says that there is nothing.
///
/// # Errors
/// Whatever the socket says.
pub fn receive_now(socket: &impl AsRawFd, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let spare = bytes.spare_capacity_mut();
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; pointer and length name
    // the vector's spare room, which outlives the call.
    let count = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            spare.as_mut_ptr().cast(),
            spare.len(),
            libc::MSG_DONTWAIT,
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written this many bytes behind the vector's, within its capacity.
    unsafe { bytes.set_len(bytes.len() + count) };
    Ok(count)
}

/// Sends as much of `bytes` as the kernel takes at once, perhaps nothing.
///
/// # Errors
/// Whatever the socket says, but not that it would block.
pub fn send_now(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; pointer and length name
    // `bytes`, which outlive the call.
    let count = unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        },
    }
}

/// Writes all unread bytes of `buf` and empties it.
///
/// # Errors
/// Whatever the socket says; `WriteZero` when it takes nothing. The buffer is emptied all the same,
/// since its connection is of no more use.
pub async fn write_all<S: AsyncWriteRent>(stream: &mut S, buf: &mut Buf) -> io::Result<()> {
    let (mut bytes, mut start) = buf.lend();
    let mut outcome = Ok(());
    while start < bytes.len() {
        let (result, slice) = stream.write(bytes.slice(start..)).await;
        bytes = slice.into_inner();
        match result {
            Ok(0) => {
                outcome = Err(io::ErrorKind::WriteZero.into());
                break;
            }
            Ok(count) => start += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    bytes.clear();
    buf.restore(bytes, 0);
    outcome
}

/// What a look at a socket, without taking anything from it, tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peek {
    /// Nothing has arrived and the connection stands.
    Quiet,
    /// Bytes wait to be read.
    Bytes,
    /// The other side has ended its stream (it closed, or half-closed).
    Ended,
    /// The connection is broken.
    Broken,
}

/// Looks at a socket with `MSG_PEEK | MSG_DONTWAIT`: one system call, about 0.3 µs.
pub fn peek(socket: &impl AsRawFd) -> Peek {
    let mut byte = [0_u8];
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the pointer and
    // length name one writable byte that outlives the call.
    let count = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            byte.as_mut_ptr().cast(),
            byte.len(),
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    match count {
        0 => Peek::Ended,
        1.. => Peek::Bytes,
        _ if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => Peek::Quiet,
        _ => Peek::Broken,
    }
}

/// Which half of a connection to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Pending and later reads end as if the stream had ended; answers can still be written.
    Read,
    /// Sends FIN; answers can still be read.
    Write,
    /// Reads and writes end.
    Both,
}

/// Ends one or both halves of a connection, so that operations in flight on it complete.
pub fn shut(socket: &impl AsRawFd, half: Half) {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed.
    unsafe { shut_raw(socket.as_raw_fd(), half) }
}

/// [`shut`] for a bare descriptor.
///
/// # Safety
/// `fd` must be open and still belong to the connection that is meant.
pub(super) unsafe fn shut_raw(fd: RawFd, half: Half) {
    // SAFETY: the caller's promise.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    let how = match half {
        Half::Read => std::net::Shutdown::Read,
        Half::Write => std::net::Shutdown::Write,
        Half::Both => std::net::Shutdown::Both,
    };
    // The only failure is that the peer is gone already, which is as good.
    let _ = SockRef::from(&socket).shutdown(how);
}

/// Makes closing the socket reset its connection, and the kernel forget what it still had to send:
/// to somebody who does not take it, it would keep that for minutes.
pub fn reset_at_close(socket: &impl AsRawFd) {
    let socket = borrow(socket);
    // With no time to linger, closing resets (SO_LINGER, socket(7)). A refusal leaves an ordinary
    // close.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Ends the connection when the other side's system has not confirmed anything for so long, although
/// it was sent something or asked whether it is there. At least a second.
///
/// # Errors
/// The kernel refuses.
pub fn end_when_silent(socket: &impl AsRawFd, silence: Duration) -> io::Result<()> {
    let socket = borrow(socket);
    let socket = SockRef::from(&socket);
    let second = Duration::from_secs(1);
    // Asked each second of silence (tcp(7)); the kernel gives up by the user timeout alone.
    let asking = TcpKeepalive::new().with_time(second).with_interval(second);
    socket.set_tcp_keepalive(&asking)?;
    socket.set_tcp_user_timeout(Some(silence.max(second)))
}

/// Lets the other side be as silent as it likes again. One that takes nothing for long, but confirms that it is
/// there, is silent to the kernel, too: its window is closed.
pub fn bear_silence(socket: &impl AsRawFd) {
    let socket = borrow(socket);
    // A refusal leaves the connection one that ends early.
    let _ = SockRef::from(&socket).set_tcp_user_timeout(None);
}

/// Resets a connection now: its peer sees that what it got is not the whole, and operations in flight
/// on it complete.
pub fn abort(socket: &impl AsRawFd) {
    // In case the next call is refused.
    reset_at_close(socket);
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let len = libc::socklen_t::try_from(size_of_val(&nowhere)).unwrap_or(0);
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the pointer and length name
    // `nowhere`, which outlives the call. Connecting to nowhere disconnects (connect(2)).
    let _ = unsafe { libc::connect(socket.as_raw_fd(), &raw const nowhere, len) };
}

/// Borrows a socket for `SockRef` and its like.
pub fn borrow<S: AsRawFd>(socket: &S) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and so is the result.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_system_is_asked_each_second_and_given_up_in_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        end_when_silent(&stream, Duration::from_secs(3)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(1));
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(1)
        );
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(3))
        );
    }
}
