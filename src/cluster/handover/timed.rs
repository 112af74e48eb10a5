//! A socket that is given up at a set time: who dribbles does not hold a thread for longer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::STALL;
use crate::clock::{self, Instant};

/// Reads and writes until then, each within [`STALL`].
pub(super) struct Timed {
    socket: TcpStream,
    until: Instant,
}

impl Timed {
    pub(super) const fn new(socket: TcpStream, until: Instant) -> Self {
        Self { socket, until }
    }

    /// The time is up then, and no longer when it was.
    pub(super) const fn until(&mut self, until: Instant) {
        self.until = until;
    }

    fn patience(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left.min(STALL)))
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.patience()?)?;
        self.socket.read(bytes)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.patience()?)?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
