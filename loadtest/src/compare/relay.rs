//! The floor: what the kernel takes for the same messages, with next to nothing done to them.
//!
//! One thread, one io_uring with `SINGLE_ISSUER | DEFER_TASKRUN`, as weir's. Every client's
//! connection has one to the upstream for itself. A request is received and sent on with as many
//! bytes more as a TLS record has beside its content; an answer is received and sent on with as many
//! less. So all four legs carry what they carry in a proxy that speaks TLS, but nothing is parsed,
//! limited, counted, encrypted or pooled:
//!
//! ```text
//! client ── recv n ──▶ relay ── send n + 22 ──▶ upstream
//!        ◀─ send m ──        ◀─ recv m + 22 ──
//! ```
//!
//! Four operations a request, none of them linked, no system call but `io_uring_enter`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::traffic::RECORD_BYTES;

/// Entries of the submission queue, as in weir.
const RING_ENTRIES: u32 = 1024;

/// Bytes of a connection's buffer; messages of a comparison are below 1 KiB.
const BUFFER_BYTES: usize = 4096;

/// The completion of an accept; others carry a connection's index.
pub(crate) const ACCEPT: u64 = u64::MAX;

struct Pair {
    client: TcpStream,
    upstream: TcpStream,
    buffer: Box<[u8; BUFFER_BYTES]>,
    leg: Leg,
    /// Of the message under way: its bytes, and how many of them have been sent.
    length: usize,
    sent: usize,
}

/// The operation that a pair waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leg {
    Request,
    RequestOn,
    Answer,
    AnswerOn,
}

/// Relays from `listener` to `upstream` until the process ends.
///
/// # Errors
/// What the ring says.
pub fn serve(listener: &TcpListener, upstream: SocketAddr) -> io::Result<()> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(RING_ENTRIES)?;
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut free = Vec::new();
    let mut done: Vec<(u64, i32)> = Vec::with_capacity(RING_ENTRIES as usize);
    push(&mut ring, &accept(listener))?;
    loop {
        match ring.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        done.clear();
        done.extend(
            ring.completion()
                .map(|c: cqueue::Entry| (c.user_data(), c.result())),
        );
        for &(token, result) in &done {
            if token == ACCEPT {
                push(&mut ring, &accept(listener))?;
                let Some(pair) = Pair::accepted(result, upstream) else {
                    continue;
                };
                let index = free.pop().unwrap_or_else(|| {
                    pairs.push(None);
                    pairs.len() - 1
                });
                let pair = pairs[index].insert(pair);
                push(&mut ring, &pair.operation(index))?;
                continue;
            }
            let index = usize::try_from(token).unwrap_or(usize::MAX);
            let Some(Some(pair)) = pairs.get_mut(index) else {
                continue;
            };
            if pair.completed(result) {
                push(&mut ring, &pair.operation(index))?;
            } else {
                // Its only operation has completed: the kernel holds nothing of it any more.
                pairs[index] = None;
                free.push(index);
            }
        }
    }
}

/// A listener for a relay on a free port.
///
/// # Errors
/// What the socket says.
pub fn listen() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&listener, 4096)?;
    Ok(listener)
}

/// Asks for the next connection, as [`ACCEPT`].
pub(crate) fn accept(listener: &TcpListener) -> squeue::Entry {
    let fd = types::Fd(listener.as_raw_fd());
    opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
        .build()
        .user_data(ACCEPT)
}

fn push(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    loop {
        // SAFETY: what an entry points to is a pair's boxed buffer; a pair is dropped only when
        // none of its operations is under way.
        if unsafe { ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        ring.submit()?;
    }
}

impl Pair {
    /// The pair of an accepted client; `None` when it, or the upstream, is gone already.
    fn accepted(result: i32, upstream: SocketAddr) -> Option<Self> {
        if result < 0 {
            return None;
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        let client = unsafe { TcpStream::from_raw_fd(result) };
        client.set_nodelay(true).ok()?;
        let upstream = TcpStream::connect(upstream).ok()?;
        upstream.set_nodelay(true).ok()?;
        Some(Self {
            client,
            upstream,
            buffer: Box::new([0; BUFFER_BYTES]),
            leg: Leg::Request,
            length: 0,
            sent: 0,
        })
    }

    /// The operation of the present leg.
    fn operation(&mut self, index: usize) -> squeue::Entry {
        let socket = match self.leg {
            Leg::Request | Leg::AnswerOn => &self.client,
            Leg::RequestOn | Leg::Answer => &self.upstream,
        };
        let fd = types::Fd(socket.as_raw_fd());
        let entry = match self.leg {
            Leg::Request | Leg::Answer => {
                // Room is left for the bytes of a record.
                let room = &mut self.buffer[..BUFFER_BYTES - RECORD_BYTES];
                opcode::Recv::new(fd, room.as_mut_ptr(), room.len() as u32).build()
            }
            Leg::RequestOn | Leg::AnswerOn => {
                let rest = &self.buffer[self.sent..self.length];
                opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32)
                    .flags(libc::MSG_NOSIGNAL)
                    .build()
            }
        };
        entry.user_data(index as u64)
    }

    /// Takes a completion in; false if the pair ends.
    fn completed(&mut self, result: i32) -> bool {
        let n = match usize::try_from(result) {
            Ok(n) if n > 0 => n,
            _ => return false,
        };
        match self.leg {
            Leg::Request => self.send(Leg::RequestOn, n + RECORD_BYTES),
            Leg::Answer => self.send(Leg::AnswerOn, n.saturating_sub(RECORD_BYTES).max(1)),
            Leg::RequestOn | Leg::AnswerOn => {
                self.sent += n;
                if self.sent >= self.length {
                    self.leg = match self.leg {
                        Leg::RequestOn => Leg::Answer,
                        _ => Leg::Request,
                    };
                }
            }
        }
        true
    }

    fn send(&mut self, leg: Leg, length: usize) {
        (self.leg, self.length, self.sent) = (leg, length, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_relay_sends_a_record_more_on_and_a_record_less_back() {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = upstream.local_addr().unwrap();
        let listener = listen().unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(&listener, to));
        let mut client = TcpStream::connect(at).unwrap();
        let (mut server, _) = upstream.accept().unwrap();
        let mut buf = [0; 1024];
        for _ in 0..3 {
            client.write_all(&[b'q'; 100]).unwrap();
            let n = server.read(&mut buf).unwrap();
            assert_eq!((n, &buf[..100]), (100 + RECORD_BYTES, &[b'q'; 100][..]));
            server.write_all(&[b'a'; 500]).unwrap();
            client.read_exact(&mut buf[..500 - RECORD_BYTES]).unwrap();
            assert_eq!(buf[499 - RECORD_BYTES], b'a');
        }
        drop(client);
        assert_eq!(server.read(&mut buf).unwrap(), 0);
    }
}
