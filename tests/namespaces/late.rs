//! Packets that come late: iptables hands them to a queue (NFQUEUE), and this lets each go on after a
//! while. What netem would do, on kernels that do not have it.
//!
//! Netlink, from linux/netfilter/nfnetlink_queue.h: messages to the kernel bind the queue and say of a
//! packet, by its number, that it may go on; the kernel's say that there is one.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

const NETLINK: i32 = 16;
const NETFILTER: i32 = 12;
/// The subsystem of queues, in the upper byte of a message's type.
const QUEUE: u16 = 3 << 8;
const VERDICT: u16 = 1;
const CONFIG: u16 = 2;
/// Header of netlink and of netfilter.
const HEAD_BYTES: usize = 20;

/// Delays whatever comes to queue 0 of this network namespace, for ever.
pub(crate) fn run(delay: Duration) -> std::io::Result<()> {
    let kind = Type::from(libc::SOCK_RAW);
    let mut socket = Socket::new(Domain::from(NETLINK), kind, Some(Protocol::from(NETFILTER)))?;
    // Bind; then: numbers alone, no contents.
    socket.send(&message(CONFIG, 1, &[1, 0, 0, 0]))?;
    socket.send(&message(CONFIG, 2, &[0, 0, 0, 0, 1]))?;
    let mut held: VecDeque<(Instant, [u8; 4])> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while let Some((due, id)) = held.front().copied()
            && due <= Instant::now()
        {
            held.pop_front();
            let accepted = [0, 0, 0, 1, id[0], id[1], id[2], id[3]];
            socket.send(&message(VERDICT, 2, &accepted))?;
        }
        let next = held.front().map_or(delay, |(due, _)| {
            due.saturating_duration_since(Instant::now())
        });
        socket.set_read_timeout(Some(next.max(Duration::from_micros(100))))?;
        match socket.read(&mut buffer) {
            Ok(length) => {
                let due = Instant::now() + delay;
                held.extend(numbers(&buffer[..length]).map(|id| (due, id)));
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A message to queue 0 with one attribute.
fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
    let length = HEAD_BYTES + 4 + value.len().next_multiple_of(4);
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
    out.extend_from_slice(&(QUEUE | kind).to_ne_bytes());
    // A request; number and sender do not matter; any family, version 0, queue 0.
    out.extend_from_slice(&1_u16.to_ne_bytes());
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
    out.extend_from_slice(&attribute.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(length, 0);
    out
}

/// The numbers of the packets that messages of the kernel speak of: their first attribute begins so.
fn numbers(mut bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let (one, rest) = bytes.split_at_checked(length.max(HEAD_BYTES))?;
        bytes = rest
            .get(length.next_multiple_of(4) - length..)
            .unwrap_or_default();
        let is_packet = one.get(4..6) == Some(&QUEUE.to_ne_bytes());
        let id = one.get(HEAD_BYTES + 4..).filter(|_| is_packet);
        Some(id.and_then(|id| id.first_chunk().copied()))
    })
    .flatten()
}
