//! The thread that hands over.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::stream::Stream;
use super::{CONNECT_TIMEOUT, PATIENCE, Shared, TAKEN};
use crate::clock::{self, Instant};
use crate::cluster::member::Node;
use crate::cluster::members::Moved;
use crate::cluster::owner::Ownership;
use crate::cluster::wire::{self, Body, HandOver, Mac, RECORDS_BYTES_MAX, Stamp};
use crate::limit::snapshot::Cut;
use crate::route::slot::SlotSet;

/// Changes of members that may wait to be dealt with: more come only while nothing can be sent.
const QUEUED_MAX: usize = 64;

/// How long workers have, once told, to let go of requests that wait in lost slots: what is cut before
/// does not hold what they still send.
const LET_GO: Duration = Duration::from_millis(5);

/// The pause between two attempts.
const AGAIN: Duration = Duration::from_millis(50);

/// Slots that others are to be told of.
struct Lost {
    slots: SlotSet,
    until: Instant,
}

/// The sending side; dropped, it finishes what it can.
pub(in crate::cluster) struct Sender {
    queue: Option<SyncSender<Box<SlotSet>>>,
    thread: Option<JoinHandle<()>>,
    /// After this it tries no more.
    stop_at: Arc<Mutex<Instant>>,
    shared: Arc<Shared>,
}

impl Sender {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(in crate::cluster) fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (queue, lost) = mpsc::sync_channel(QUEUED_MAX);
        let stop_at = Arc::new(Mutex::new(Instant::FAR));
        let work = Work {
            shared: shared.clone(),
            stop_at: stop_at.clone(),
            lost,
        };
        let thread = thread::Builder::new().name("weir-hand-over".to_owned());
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread.spawn(move || work.run())?),
            stop_at,
            shared: shared.clone(),
        })
    }

    /// These slots are others' now.
    pub(in crate::cluster) fn lost(&self, slots: Box<SlotSet>) {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(slots));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            Moved::count(&self.shared.members.moves.failed, 1);
            self.shared.members.set_untold(&SlotSet::ALL, false);
        }
    }

    /// Hands over what is left, but not after `until`.
    pub(in crate::cluster) fn finish(&mut self, until: Instant) {
        *self.stop_at.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that hands over panicked");
        }
    }
}

struct Work {
    shared: Arc<Shared>,
    stop_at: Arc<Mutex<Instant>>,
    lost: mpsc::Receiver<Box<SlotSet>>,
}

impl Work {
    fn run(self) {
        let mut open: Vec<Lost> = Vec::new();
        let mut goes_on = true;
        while goes_on || !open.is_empty() {
            match self.next(open.is_empty(), goes_on) {
                Ok(Some(slots)) => open.push(Lost {
                    slots: *slots,
                    until: clock::now() + PATIENCE,
                }),
                Ok(None) => {}
                Err(Ended) => goes_on = false,
            }
            if !open.is_empty() {
                thread::sleep(LET_GO);
                self.round(&mut open);
            }
        }
    }

    /// The next slots, if there are any by the time that the open ones are to be tried again.
    fn next(&self, nothing_is_open: bool, goes_on: bool) -> Result<Option<Box<SlotSet>>, Ended> {
        if !goes_on {
            thread::sleep(AGAIN);
            return Err(Ended);
        }
        if nothing_is_open {
            return self.lost.recv().map(Some).map_err(|_| Ended);
        }
        match self.lost.recv_timeout(AGAIN) {
            Ok(slots) => Ok(Some(slots)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Ended),
        }
    }

    /// Tells each node what is its now; what is left is to be tried again.
    fn round(&self, open: &mut Vec<Lost>) {
        let ownership = self.shared.members.ownership();
        let mut all = SlotSet::EMPTY;
        open.iter().for_each(|lost| all.add_all(&lost.slots));
        let shares = shares(&ownership, &all);
        let mut why = None;
        let delivered = thread::scope(|scope| {
            let deliveries = shares.into_iter().map(|(node, slots)| {
                let (me, shared) = (ownership.me(), &self.shared);
                scope.spawn(move || (shared.deliver(me, &node, &slots), node, slots))
            });
            let deliveries: Vec<_> = deliveries.collect();
            let mut delivered = SlotSet::EMPTY;
            for delivery in deliveries {
                match delivery.join() {
                    Ok((Ok(bytes), node, slots)) => {
                        tracing::info!(%node, slots = slots.len(), bytes, "handed over");
                        Moved::count(&self.shared.members.moves.sent, 1);
                        delivered.add_all(&slots);
                    }
                    Ok((Err(error), node, _)) => {
                        tracing::debug!(%node, %error, "a hand-over failed");
                        why = Some(error);
                    }
                    Err(_) => tracing::error!("a hand-over panicked"),
                }
            }
            delivered
        });
        let now = clock::now();
        let stop_at = *self.stop_at.lock().unwrap_or_else(PoisonError::into_inner);
        // What came back to this node needs no telling.
        let mine = ownership.slots_of(ownership.me());
        let members = &self.shared.members;
        members.set_untold(&delivered, false);
        members.set_untold(&mine, false);
        open.retain_mut(|lost| {
            lost.slots.remove_all(&delivered);
            lost.slots.remove_all(&mine);
            if lost.slots.is_empty() {
                return false;
            }
            let goes_on = now < lost.until.min(stop_at);
            if !goes_on {
                Moved::count(&members.moves.failed, 1);
                members.set_untold(&lost.slots, false);
                tracing::warn!(
                    slots = lost.slots.len(),
                    why = why.as_ref().map(tracing::field::display),
                    "what is known of some identities could not be handed over"
                );
            }
            goes_on
        });
    }
}

impl Shared {
    /// Tells `node` what is known of `slots`; how many bytes that was.
    fn deliver(&self, me: &Node, node: &Node, slots: &SlotSet) -> io::Result<usize> {
        let mut stream = Stream::to(node, connect(me.addr, node.addr)?, &self.tls)?;
        let limiter = self.mesh.limiter();
        let base = clock::now();
        let starts = self
            .identify()
            .map(|queues| (queues.keep_of(base, slots), queues.doubted(base, slots)));
        let (starts, doubted) = starts.unwrap_or_default();
        let mut cut = Cut::begin(base, slots.clone()).with_starts(&starts, &doubted);
        let (mut records, mut frame, mut sent) = (Vec::new(), Vec::new(), 0);
        for part in 0.. {
            records.clear();
            let more = cut.next(limiter, RECORDS_BYTES_MAX, &mut records, thread::yield_now);
            let message = HandOver {
                to: node.addr,
                from: me.addr,
                generation: me.generation,
                probe: self.probe,
                part,
                last: !more,
                complete: true,
                slots: slots.clone(),
                records: &records,
            };
            frame.clear();
            frame.extend_from_slice(&[0; 4]);
            self.seal(message, &mut frame);
            let length = u32::try_from(frame.len() - 4).map_err(io::Error::other)?;
            if let Some(place) = frame.first_chunk_mut() {
                *place = length.to_le_bytes();
            }
            stream.write_all(&frame)?;
            sent += frame.len();
            if !more {
                break;
            }
        }
        stream.flush()?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        if answer == [TAKEN] {
            Ok(sent)
        } else {
            Err(io::ErrorKind::InvalidData.into())
        }
    }

    fn seal(&self, message: HandOver<'_>, out: &mut Vec<u8>) {
        let stamp = Stamp {
            unix_ms: clock::unix_ms(),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
        };
        let secret = self.secret.as_deref();
        let keyed = secret.map(|secret| (secret as &dyn Mac, stamp));
        wire::seal(&Body::HandOver(Box::new(message)), keyed, out);
    }
}

/// Nothing more comes.
struct Ended;

/// Which of `slots` is whose, but this node's.
fn shares(ownership: &Ownership, slots: &SlotSet) -> Vec<(Node, SlotSet)> {
    let others = ownership.nodes().iter().filter(|n| *n != ownership.me());
    let share = |node: &Node| {
        let mut theirs = ownership.slots_of(node);
        theirs.keep_all(slots);
        (*node, theirs)
    };
    let shares = others.map(share);
    shares.filter(|(_, theirs)| !theirs.is_empty()).collect()
}

/// A connection from this node's address: without a secret it is what tells who speaks.
fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    if from.is_ipv4() == to.is_ipv4() && !from.ip().is_unspecified() {
        socket.bind(&SocketAddr::new(from.ip(), 0).into())?;
    }
    socket.connect_timeout(&to.into(), CONNECT_TIMEOUT)?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}
