//! One connection to a host, with the slot that it takes.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use monoio::io::{OwnedReadHalf, OwnedWriteHalf, Splitable};
use monoio::net::TcpStream;

use super::hosts::Destination;
use super::limits::Slot;
use super::registry::Entry;
use crate::clock::{self, Instant};
use crate::io::Buf;
use crate::io::socket::{Half, shut};

/// A connection to a host. Its slot goes back once it has ended.
pub(super) struct Up {
    entry: Rc<Entry>,
    /// The client that it was opened for.
    from: SocketAddr,
    fd: RawFd,
    pub(super) reader: OwnedReadHalf<TcpStream>,
    pub(super) writer: OwnedWriteHalf<TcpStream>,
    /// Read and not yet taken.
    pub(super) buf: Buf,
    pub(super) slot: Rc<Slot>,
    pub(super) destination: Destination,
    since: Instant,
}

impl AsRawFd for Up {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Up {
    /// The connection for the client of `entry` that `stream` is.
    pub(super) fn new(
        entry: &Rc<Entry>,
        from: SocketAddr,
        stream: TcpStream,
        slot: Slot,
        destination: Destination,
    ) -> Self {
        slot.opened();
        let slot = Rc::new(slot);
        let fd = stream.as_raw_fd();
        entry.joined(&stream, &slot);
        let (reader, writer) = stream.into_split();
        tracing::debug!(host = %slot.host(), %from, "connection opened");
        Self {
            entry: entry.clone(),
            from,
            fd,
            reader,
            writer,
            buf: Buf::new(),
            slot,
            destination,
            since: clock::now(),
        }
    }
}

impl Up {
    pub(super) fn entry(&self) -> &Rc<Entry> {
        &self.entry
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.entry.parted();
        // The host has to see the end before another may take the slot; closing comes later, by way
        // of the ring.
        shut(self, Half::Both);
        let open = clock::now().saturating_duration_since(self.since);
        tracing::debug!(host = %self.slot.host(), from = %self.from, ?open, "connection closed");
    }
}
