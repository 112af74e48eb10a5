//! Whether a client is still there while something is done for it.

use std::cell::Cell;
use std::os::fd::RawFd;
use std::time::Duration;

use monoio::io::OwnedReadHalf;
use monoio::net::TcpStream;

use super::client::Client;
use super::hub::Hub;
use crate::clock::{self, Instant};
use crate::io::Buf;
use crate::io::socket::{Peek, peek, read_now, readable};

/// Bytes that a client may send ahead while it is watched; beyond them it is not watched any more. A
/// client that speaks TLS at once sends half a KiB.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Room made for what it sends ahead.
const ROOM: usize = 2 * 1024;

/// How soon after its request a client must end its stream to be taken as one that has nothing more to
/// say and waits; later it is one that left.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(100);

/// What is watched of a client.
pub(super) struct Watched<'c> {
    pub(super) fd: RawFd,
    pub(super) reader: &'c OwnedReadHalf<TcpStream>,
    pub(super) inbuf: &'c mut Buf,
}

/// [`until_left`], of a client to which nothing is said meanwhile.
pub(super) async fn left(client: &mut Client, hub: &Hub, since: Option<Instant>) {
    let watched = Watched {
        fd: client.fd,
        reader: &client.reader,
        inbuf: &mut client.inbuf,
    };
    until_left(watched, hub, since, &Cell::new(false)).await;
}

/// Ends when the client has left. What it sends ahead is taken into its buffer.
///
/// With `since`, the time of its request, a stream that ends right behind that is half-closed, and so
/// is one that ends while its answer is under way: whether that arrives will be seen. Without, every
/// end is a farewell, since a tunnel of which one end is closed before it stands is of no use.
pub(super) async fn until_left(
    client: Watched<'_>,
    hub: &Hub,
    since: Option<Instant>,
    answering: &Cell<bool>,
) {
    let Watched { fd, reader, inbuf } = client;
    loop {
        if readable(reader).await.is_err() {
            return;
        }
        match peek(&fd) {
            Peek::Quiet => {}
            Peek::Broken => return,
            Peek::Ended => {
                let waited = since.map(|since| clock::now().saturating_duration_since(since));
                let gone = waited.is_none_or(|waited| waited > HALF_CLOSE_GRACE);
                if gone && !answering.get() {
                    return;
                }
                return ended(hub).await;
            }
            Peek::Bytes => {
                if inbuf.len() >= AHEAD_BYTES_MAX {
                    return ended(hub).await;
                }
                inbuf.reserve(ROOM);
                read_now(&fd, inbuf);
            }
        }
    }
}

/// Ends with the proxy: nothing more is to be learned from the socket.
async fn ended(hub: &Hub) {
    while !hub.is_aborting() {
        monoio::time::sleep(LOOK).await;
    }
}

/// How often it is looked whether the proxy ends.
const LOOK: Duration = Duration::from_millis(250);
