//! A tunnel: bytes both ways, whatever they mean, until both sides have ended.
//!
//! ```text
//! client ── read 512 ──▶ more at hand? ── receive into 64 KiB ──▶ send ── the rest: write ──▶ host
//! ```
//! A direction that has nothing to do waits in a read of [`FIRST_BYTES`]; that is all that an idle
//! tunnel holds. What comes as a flood is moved through a buffer that all tunnels of a thread share,
//! by calls that do not block; only what the other side does not take at once is waited for, and
//! keeps the buffer as long. An end of one direction is passed on and leaves the other as it is
//! (TCP's half-close); a reset of one side resets the other.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use monoio::buf::IoBuf;
use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;

use super::client::Client;
use super::limits::Slot;
use super::registry::Entry;
use super::upstream::Up;
use crate::clock;
use crate::io::Turn;
use crate::io::socket::{Half, abort, receive_now, send_now, shut, write_all};

/// Bytes of the read that a direction waits in, and so what an idle tunnel holds twice. Requests and
/// pings of those who talk little fit.
const FIRST_BYTES: usize = 512;

/// Bytes moved at a time in a flood. With so many a byte costs less CPU time than through the bare relay,
/// which moves as many (PERF.md, "Tunnels").
const CHUNK_BYTES: usize = 64 * 1024;

/// Buffers of a flood that a thread keeps: one for those that flow, the others for those that wait for
/// a receiver, 1 MiB.
const CHUNKS_MAX: usize = 16;

/// Buffers that one direction moves before the others have their turn: 512 KiB, 0.3 ms at what a GiB is
/// measured to cost.
const ROUNDS_MAX: usize = 8;

thread_local! {
    static CHUNKS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Two connections that belong together.
pub(super) struct Tunnel {
    client: Client,
    up: Up,
}

/// One way through a tunnel.
struct Way<'t> {
    from: &'t mut OwnedReadHalf<TcpStream>,
    from_fd: RawFd,
    to: &'t mut OwnedWriteHalf<TcpStream>,
    to_fd: RawFd,
    entry: &'t Entry,
    slot: &'t Slot,
    upwards: bool,
}

impl Tunnel {
    /// The client has been told that its tunnel stands.
    pub(super) fn new(client: Client, up: Up) -> Box<Self> {
        Box::new(Self { client, up })
    }
}

/// Runs a tunnel to its end.
pub(super) async fn run(tunnel: Box<Tunnel>) {
    let mut tunnel = tunnel;
    let Tunnel { client, up } = &mut *tunnel;
    let (client_fd, up_fd) = (client.fd, up.as_raw_fd());
    #[cfg(feature = "planted-panics")]
    crate::io::planted::meet(client.inbuf.as_slice());
    // What the client sent behind its request.
    let ahead = client.inbuf.len();
    if ahead > 0 {
        if write_all(&mut up.writer, &mut client.inbuf).await.is_err() {
            return;
        }
        up.slot.moved(ahead, 0);
    }
    client.inbuf.release();
    let entry = client.entry().clone();
    let slot: Rc<Slot> = up.slot.clone();
    let mut upwards = Way {
        from: &mut client.reader,
        from_fd: client_fd,
        to: &mut up.writer,
        to_fd: up_fd,
        entry: &entry,
        slot: &slot,
        upwards: true,
    };
    let mut downwards = Way {
        from: &mut up.reader,
        from_fd: up_fd,
        to: &mut client.writer,
        to_fd: client_fd,
        entry: &entry,
        slot: &slot,
        upwards: false,
    };
    let whole = both(upwards.run(), downwards.run()).await;
    if whole.is_err() {
        abort(&client_fd);
        abort(&up_fd);
    }
}

/// Runs both ways to their ends, or until one breaks.
async fn both(
    one: impl Future<Output = io::Result<()>>,
    other: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_ended, mut other_ended) = (false, false);
    poll_fn(|cx| {
        if !one_ended && let Poll::Ready(result) = one.as_mut().poll(cx) {
            one_ended = true;
            result?;
        }
        if !other_ended && let Poll::Ready(result) = other.as_mut().poll(cx) {
            other_ended = true;
            result?;
        }
        if one_ended && other_ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}

impl Way<'_> {
    /// What it does seldom lies in memory of its own, since an idle tunnel has this future twice.
    async fn run(&mut self) -> io::Result<()> {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        let mut turn = Turn::default();
        loop {
            let (read, bytes) = self.from.read(first).await;
            first = bytes;
            match read {
                Ok(0) => {
                    shut(&self.to_fd, Half::Write);
                    return Ok(());
                }
                Ok(count) if count < FIRST_BYTES => {
                    self.moves(count);
                    let sent = send_now(&self.to_fd, &first)?;
                    if sent < count {
                        first = Box::pin(self.write(first, sent)).await?;
                    }
                }
                Ok(_) => Box::pin(self.flood(&first)).await?,
                Err(error) => return Err(error),
            }
            first.clear();
            turn.round().await;
        }
    }

    /// Moves `first` and what has come behind it, as long as there is more, but not for too long.
    async fn flood(&mut self, first: &[u8]) -> io::Result<()> {
        let mut chunk = take_chunk();
        chunk.extend_from_slice(first);
        for _ in 0..ROUNDS_MAX {
            match receive_now(&self.from_fd, &mut chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let count = chunk.len();
            if count == 0 {
                break;
            }
            self.moves(count);
            let sent = send_now(&self.to_fd, &chunk)?;
            if sent < count {
                chunk = self.write(chunk, sent).await?;
            }
            chunk.clear();
            if count < CHUNK_BYTES {
                // Whatever else there is has come this moment.
                break;
            }
        }
        give_chunk(chunk);
        Ok(())
    }

    /// Writes what the other side did not take at once, and returns the buffer.
    async fn write(&mut self, mut bytes: Vec<u8>, mut start: usize) -> io::Result<Vec<u8>> {
        while start < bytes.len() {
            let (written, slice) = self.to.write(bytes.slice(start..)).await;
            bytes = slice.into_inner();
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => start += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.entry.touch(clock::now());
        }
        Ok(bytes)
    }

    fn moves(&self, count: usize) {
        self.entry.touch(clock::now());
        if self.upwards {
            self.slot.moved(count, 0);
        } else {
            self.slot.moved(0, count);
        }
    }
}

fn take_chunk() -> Vec<u8> {
    let chunk = CHUNKS.with_borrow_mut(Vec::pop);
    chunk.unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES))
}

fn give_chunk(mut chunk: Vec<u8>) {
    chunk.clear();
    CHUNKS.with_borrow_mut(|chunks| {
        if chunks.len() < CHUNKS_MAX {
            chunks.push(chunk);
        }
    });
}
