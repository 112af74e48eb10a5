//! Waiting for a permit, or for a connection, while watching whether the client is still there.
//!
//! A client that gives up must not cost its bucket a slot, so the socket is watched while its
//! request waits. TCP cannot say whether a FIN means "I am gone" or "I have nothing more to ask":
//! one that comes together with the request (within [`HALF_CLOSE_GRACE`] of its last byte, read or
//! not, or of the wait's beginning) is taken as a half-close and its client is answered; one that
//! comes later is a client that left.

use std::future::Future;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;

use super::Worker;
use super::conn::Client;
use super::peers::Peer;
use crate::clock::{self, Instant};
pub(super) use crate::io::first::{First, first};
use crate::io::socket::{Peek, peek};
use crate::limit::Refusal;
use crate::mesh::{Grant, Waiting};

/// How soon after the request's last byte a FIN must come to be taken as a half-close: the FIN of
/// `shutdown(SHUT_WR)` after the last write travels right behind it, while no client library gives
/// up within a tenth of a second.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(100);

/// Why there is no permit.
pub(super) enum NoPermit {
    /// The client is gone: nobody is left to be answered.
    Left,
    /// The same, and it is counted.
    Gone,
    /// The limiter refuses.
    Refused(Refusal),
    /// This node owns its identity now.
    Moved(Rc<Peer>),
}

/// Pause between looks at a stream that has unread bytes, of which it is always readable, so that its
/// end behind them cannot be waited for; under TLS a hang-up begins with a record. Doubled after each
/// look, up to [`LOOK_EVERY`]: a look costs 0.5 µs, so 10,000 such requests cost 0.3 % of a core.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Waits until `waiting` is granted, refused, or its client has left.
pub(super) async fn turn(client: &Client, mut waiting: Waiting) -> Result<Grant, NoPermit> {
    let since = clock::now();
    let watched = watched(client, since, pin!(waiting.verdict()), Behind::Gone).await;
    let Some((verdict, half_closed)) = watched else {
        return Err(NoPermit::Left);
    };
    let grant = verdict.map_err(NoPermit::Refused)?;
    // An end that came with the verdict was not seen while watching.
    let ended = !half_closed && has_ended(&client.stream).unwrap_or(true);
    if ended && is_late(client, since, Duration::ZERO) {
        return Err(NoPermit::Left);
    }
    Ok(grant)
}

/// Runs `work` to its end, and says whether the client left meanwhile: what the work made is then
/// for others. A stream that had ended before, or behind bytes that are still to be read, is a
/// half-closed one.
pub(super) async fn beside<F: Future>(client: &Client, work: F) -> (F::Output, bool) {
    let mut work = pin!(work);
    if has_ended(&client.stream).unwrap_or(false) {
        return (work.await, false);
    }
    match watched(client, clock::now(), work.as_mut(), Behind::HalfClosed).await {
        Some((output, _)) => (output, false),
        None => (work.await, true),
    }
}

/// How long nobody looks whether a client is there that waits for a node's answer: most answers have
/// come by then, and a stream that ends so early is a half-closed one anyway.
const UNWATCHED: Duration = Duration::from_millis(50);

const _: () = assert!(UNWATCHED.as_millis() < HALF_CLOSE_GRACE.as_millis());

/// Whether a client is still there that waits for one thing after another.
pub(super) struct There {
    since: Instant,
    /// Nobody has looked yet.
    unwatched: bool,
    half_closed: bool,
}

impl There {
    /// It waits from `now` on.
    pub(super) const fn since(now: Instant) -> Self {
        Self {
            since: now,
            unwatched: true,
            half_closed: false,
        }
    }

    /// Runs `work` to its end while the client is there; `None` when it leaves.
    pub(super) async fn meanwhile<F: Future>(
        &mut self,
        worker: &Worker,
        client: &Client,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        if self.half_closed {
            return Some(work.await);
        }
        if mem::take(&mut self.unwatched) {
            let pause = worker.deadlines.pause_until(self.since + UNWATCHED);
            match first(work.as_mut(), pause).await {
                First::Left(output) => return Some(output),
                First::Right(()) => {}
            }
        }
        // Boxed: few come here, and its state would be part of every connection's task.
        let watched = Box::pin(watched(client, self.since, work, Behind::Gone)).await;
        let (output, half_closed) = watched?;
        self.half_closed |= half_closed;
        Some(output)
    }
}

/// Runs `work`, begun at `since`, while the client is there; `None` when it leaves. Beside the output:
/// whether it was seen to close its half of the stream.
async fn watched<F: Future>(
    client: &Client,
    since: Instant,
    mut work: Pin<&mut F>,
    behind: Behind,
) -> Option<(F::Output, bool)> {
    let stream = &client.stream;
    loop {
        let half_closed = match first(work.as_mut(), stream.readable(false)).await {
            First::Left(output) => return Some((output, false)),
            First::Right(Err(_)) => return None,
            First::Right(Ok(())) => match peek(stream) {
                Peek::Quiet => continue,
                // The next request, or this one's body: a FIN may come behind it.
                Peek::Bytes if client.tls.is_none() && behind == Behind::HalfClosed => false,
                Peek::Bytes => match first(work.as_mut(), ended(stream)).await {
                    First::Left(output) => return Some((output, false)),
                    First::Right(unseen) if is_late(client, since, unseen) => return None,
                    First::Right(_) => true,
                },
                Peek::Broken => return None,
                Peek::Ended if is_late(client, since, Duration::ZERO) => return None,
                Peek::Ended => true,
            },
        };
        return Some((work.await, half_closed));
    }
}

/// What a stream means that ends behind bytes which are not read yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    HalfClosed,
    Gone,
}

/// Looks now and then, ever less often, until the peer has ended its stream; says how long ago that
/// may have been at the most.
pub(super) async fn ended(stream: &TcpStream) -> Duration {
    let mut pause = LOOK;
    let mut unseen = Duration::ZERO;
    while !has_ended(stream).unwrap_or(true) {
        let looked = clock::now();
        monoio::time::sleep(pause).await;
        unseen = clock::now().saturating_duration_since(looked);
        pause = (2 * pause).min(LOOK_EVERY);
    }
    unseen
}

/// Whether a stream that ended at the most `unseen` ago did so too late after its request, for which
/// its client waits `since` then, to be only half closed. In doubt it is answered.
pub(super) fn is_late(client: &Client, since: Instant, unseen: Duration) -> bool {
    let waited = clock::now().saturating_duration_since(since);
    // Under TLS a hang-up begins with a record, which is no part of the request.
    let silent = match &client.tls {
        Some(_) => None,
        None => tcp_info(&client.stream).ok(),
    };
    let silent = silent.map_or(waited, |info| {
        Duration::from_millis(info.tcpi_last_data_recv.into())
    });
    silent.min(waited).saturating_sub(unseen) > HALF_CLOSE_GRACE
}

/// Whether the peer has ended its stream, even with unread bytes before the end.
pub(super) fn has_ended(stream: &TcpStream) -> io::Result<bool> {
    /// `TCP_ESTABLISHED` of the kernel's `tcp_states.h`; every other state has seen a FIN or RST.
    const ESTABLISHED: u8 = 1;
    tcp_info(stream).map(|info| info.tcpi_state != ESTABLISHED)
}

fn tcp_info(stream: &TcpStream) -> io::Result<libc::tcp_info> {
    // SAFETY: an all-zero tcp_info is a valid value of this plain C structure.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the descriptor is open while `stream` is borrowed; the pointers name `info` and its
    // size, which outlive the call.
    let failed = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    } != 0;
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(info)
}
