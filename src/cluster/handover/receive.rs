//! The threads that are told.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::stream::Stream;
use super::{PART_BYTES_MAX, PART_TIME, Shared, TAKEN};
use crate::clock;
use crate::cluster::members::Moved;
use crate::cluster::wire::{self, Body, HandOver, Ignored, Mac, Replays};
use crate::route::slot::SlotSet;

/// The worker that serves the identify queue.
const IDENTIFY_WORKER: usize = 0;

/// Hand-overs that are taken at once: as many nodes as can well leave together.
const AT_ONCE_MAX: usize = 16;
/// And from addresses that are no member's: of nodes that were not heard of yet, or come through another
/// address, and of anybody.
const STRANGERS_MAX: usize = 4;

/// Parts of one hand-over: 3 million buckets, more than any node tracks.
const PARTS_MAX: u32 = 16_384;

/// The receiving side; ends when dropped.
pub(in crate::cluster) struct Receiver {
    listener: Arc<TcpListener>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Takes what comes at `listener`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(in crate::cluster) fn start(
        listener: TcpListener,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let listener = Arc::new(listener);
        let ending = Arc::new(AtomicBool::new(false));
        let accept = Accept {
            shared: shared.clone(),
            ending: ending.clone(),
            replays: Arc::default(),
        };
        let thread = thread::Builder::new().name("weir-told".to_owned());
        let accepting = listener.clone();
        Ok(Self {
            listener,
            ending,
            thread: Some(thread.spawn(move || accept.run(&accepting))?),
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread, on Linux. Connecting would, too; but its address may be another host's by now.
        let woken = SockRef::from(&*self.listener)
            .shutdown(Shutdown::Both)
            .is_ok();
        if let Some(thread) = self.thread.take()
            && woken
            && thread.join().is_err()
        {
            tracing::error!("the thread that takes hand-overs panicked");
        }
    }
}

struct Accept {
    shared: Arc<Shared>,
    ending: Arc<AtomicBool>,
    replays: Arc<Mutex<Replays>>,
}

impl Accept {
    fn run(self, listener: &TcpListener) {
        // Held once by each thread that takes one; strangers leave the others' alone.
        let (theirs, strangers) = (Arc::new(()), Arc::new(()));
        loop {
            let accepted = listener.accept();
            if self.ending.load(Ordering::SeqCst) {
                return;
            }
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "the cluster's port cannot accept");
                    thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let (places, max) = match self.is_members(from.ip().to_canonical()) {
                true => (&theirs, AT_ONCE_MAX),
                false => (&strangers, STRANGERS_MAX),
            };
            // Who finds none comes again.
            if Arc::strong_count(places) > max {
                continue;
            }
            let place = places.clone();
            let (shared, replays) = (self.shared.clone(), self.replays.clone());
            let take = move || {
                let _place = place;
                let told = Told { shared, replays };
                if let Err(error) = told.take(stream, from.ip()) {
                    tracing::debug!(%from, %error, "a hand-over was not taken");
                }
            };
            let thread = thread::Builder::new().name("weir-told".to_owned());
            if let Err(error) = thread.spawn(take) {
                tracing::warn!(%error, "no thread for a hand-over");
            }
        }
    }

    /// Whether this address is a member's, or was one's at the port that is this node's, too.
    fn is_members(&self, ip: IpAddr) -> bool {
        let members = &self.shared.members;
        let ownership = members.ownership();
        let mut nodes = ownership.nodes().iter();
        let port = ownership.me().addr.port();
        nodes.any(|node| node.addr.ip() == ip) || members.has_met(SocketAddr::new(ip, port))
    }
}

/// One hand-over.
struct Told {
    shared: Arc<Shared>,
    replays: Arc<Mutex<Replays>>,
}

impl Told {
    fn take(&self, socket: TcpStream, from: IpAddr) -> io::Result<()> {
        let mut stream = Stream::from(socket, clock::now() + PART_TIME, &self.shared.tls)?;
        let members = &self.shared.members;
        let (mut envelope, mut doubted) = (Vec::new(), SlotSet::EMPTY);
        for part in 0..PARTS_MAX {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            if length > PART_BYTES_MAX {
                members.count_ignored(Ignored::Malformed);
                return Err(io::ErrorKind::InvalidData.into());
            }
            envelope.resize(length, 0);
            stream.read_exact(&mut envelope)?;
            match self.part(&envelope, from, part, &mut doubted) {
                Ok(false) => stream.until(clock::now() + PART_TIME),
                Ok(true) => {
                    Moved::count(&members.moves.received, 1);
                    stream.write_all(&[TAKEN])?;
                    return stream.flush();
                }
                Err(why) => {
                    members.count_ignored(why);
                    return Err(io::Error::other(why.label()));
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Takes one part in; whether it was the last. `doubted`: of whose starts the teller does not know all.
    fn part(
        &self,
        envelope: &[u8],
        from: IpAddr,
        part: u32,
        doubted: &mut SlotSet,
    ) -> Result<bool, Ignored> {
        let opened = {
            // It is whole between any two statements.
            let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
            let secret = self.shared.secret.as_deref();
            let keyed = secret.map(|secret| (secret as &dyn Mac, &mut *replays));
            wire::open(envelope, keyed, clock::unix_ms())?
        };
        let Body::HandOver(message) = opened else {
            return Err(Ignored::Malformed);
        };
        self.check(&message, from, part)?;
        let now = clock::now();
        let limiter = self.shared.mesh.limiter();
        let mut taken = limiter
            .take_over(now, &message.slots, message.records, message.complete)
            .map_err(|_| Ignored::Malformed)?;
        if let Some(mut queues) = self.shared.identify() {
            queues.take_over(now, std::mem::take(&mut taken.starts));
            doubted.add_all(&taken.doubted);
            if message.last {
                let mut told = message.slots.clone();
                told.remove_all(doubted);
                queues.told_of(now, &told);
            }
            drop(queues);
            // Who waits may go sooner or later than was planned.
            self.shared.mesh.nudge(IDENTIFY_WORKER);
        }
        if message.last {
            self.shared.members.told().tell(now, &message.slots);
            tracing::info!(
                node = %message.from,
                slots = message.slots.len(),
                parts = part + 1,
                "took over what another node knows"
            );
        }
        tracing::debug!(records = taken.records, strange = taken.strange, "told");
        Ok(message.last)
    }

    /// Whether the part is for this node, from one that may say so, and the one that is due.
    fn check(&self, message: &HandOver<'_>, from: IpAddr, part: u32) -> Result<(), Ignored> {
        let ownership = self.shared.members.ownership();
        if message.to != ownership.me().addr || message.part != part {
            return Err(Ignored::Malformed);
        }
        if message.probe != self.shared.probe {
            return Err(Ignored::Version);
        }
        // One that leaves is no member any more when it says what it knew.
        let is_member = self.shared.members.has_met(message.from);
        let is_theirs = message.from.ip() == from.to_canonical();
        if self.shared.secret.is_none() && !(is_member && is_theirs) {
            return Err(Ignored::Foreign);
        }
        Ok(())
    }
}
