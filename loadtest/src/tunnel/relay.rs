//! The floor of a tunnel: bytes from one socket to the other and back, and nothing else.
//!
//! One thread, one io_uring with `SINGLE_ISSUER | DEFER_TASKRUN`, as weir's. Each way of each pair has
//! a buffer and one operation under way: `recv` as much as is there, `send` all of it, and so on. No
//! heads, no counts, no time limits; an idle pair holds both buffers.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::compare::relay::{ACCEPT, accept};

/// Entries of the submission queue, as in weir.
const RING_ENTRIES: u32 = 1024;

/// Bytes of a way's buffer, as in weir's tunnels.
const BUFFER_BYTES: usize = 64 * 1024;

/// One way of a pair: even ones go up, odd ones down.
struct Way {
    from: i32,
    to: i32,
    buffer: Box<[u8]>,
    length: usize,
    sent: usize,
}

/// Relays from `listener` to `upstream` until the process ends. Pairs are not cleared away.
///
/// # Errors
/// What the ring says.
pub fn serve(listener: &TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(RING_ENTRIES)?;
    let mut ways: Vec<Way> = Vec::new();
    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut done: Vec<(u64, i32)> = Vec::with_capacity(RING_ENTRIES as usize);
    push(&mut ring, &accept(listener))?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        done.clear();
        let completed = ring.completion();
        done.extend(completed.map(|c: cqueue::Entry| (c.user_data(), c.result())));
        for &(token, result) in &done {
            if token == ACCEPT {
                push(&mut ring, &accept(listener))?;
                if result < 0 {
                    continue;
                }
                // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
                let client = unsafe { TcpStream::from_raw_fd(result) };
                let host = TcpStream::connect(upstream)?;
                client.set_nodelay(true)?;
                host.set_nodelay(true)?;
                let (from, to) = (client.as_raw_fd(), host.as_raw_fd());
                for (from, to) in [(from, to), (to, from)] {
                    let mut way = Way {
                        from,
                        to,
                        buffer: vec![0; BUFFER_BYTES].into(),
                        length: 0,
                        sent: 0,
                    };
                    push(&mut ring, &way.operation(ways.len()))?;
                    ways.push(way);
                }
                sockets.extend([client, host]);
                continue;
            }
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            let Some(way) = ways.get_mut(index) else {
                continue;
            };
            if way.completed(result) {
                push(&mut ring, &way.operation(index))?;
            } else if let Some(socket) = sockets.iter().find(|s| s.as_raw_fd() == way.to) {
                // The other end may be gone already.
                drop(socket.shutdown(std::net::Shutdown::Write));
            }
        }
    }
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: what an entry points to is a way's boxed buffer, and ways live as long as the ring.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}

impl Way {
    fn operation(&mut self, index: usize) -> squeue::Entry {
        let entry = if self.sent < self.length {
            let rest = &self.buffer[self.sent..self.length];
            opcode::Send::new(types::Fd(self.to), rest.as_ptr(), rest.len() as u32)
                .flags(libc::MSG_NOSIGNAL)
                .build()
        } else {
            let room = &mut self.buffer;
            opcode::Recv::new(types::Fd(self.from), room.as_mut_ptr(), room.len() as u32).build()
        };
        entry.user_data(index as u64)
    }

    /// Takes a completion in; false if the way ends.
    fn completed(&mut self, result: i32) -> bool {
        let Some(count) = usize::try_from(result).ok().filter(|&count| count > 0) else {
            return false;
        };
        if self.sent < self.length {
            self.sent += count;
        } else {
            self.length = count;
            self.sent = 0;
        }
        true
    }
}
