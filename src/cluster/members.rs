//! What workers know of the cluster: whose each identity is.
//!
//! Cost: a worker asks its [`View`], which looks whether the epoch is still the one it has seen (one
//! load from a line that all cores share and hardly anybody writes) and then reads its own table. A
//! change of members takes a lock, once for each worker.

use std::net::UdpSocket;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::member::{Node, Refused};
use super::owner::{Owner, Ownership};
use super::wire::Ignored;
use crate::clock;

/// Failed relays that wait to be heard of by the control thread: as many as there can be nodes.
const SUSPECTS_MAX: usize = super::member::NODES_MAX;

/// The cluster as all threads share it.
pub struct Members {
    epoch: AtomicU64,
    current: Mutex<Arc<Ownership>>,
    changed: Condvar,
    suspects: Mutex<Vec<Node>>,
    leaving: AtomicBool,
    ending: AtomicBool,
    ignored: [AtomicU64; Ignored::ALL.len()],
    refused: AtomicU64,
    waker: Waker,
}

impl Members {
    /// A cluster of this node alone, whose control thread reads from `socket`.
    ///
    /// # Errors
    /// There is no socket to be had to wake it with.
    pub(super) fn new(me: &Node, socket: &UdpSocket) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            epoch: AtomicU64::new(1),
            current: Mutex::new(Arc::new(Ownership::new(&[], me))),
            changed: Condvar::new(),
            suspects: Mutex::default(),
            leaving: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ignored: Default::default(),
            refused: AtomicU64::new(0),
            waker: Waker::new(socket.local_addr()?)?,
        }))
    }

    /// A view for one worker.
    pub fn view(self: &Arc<Self>) -> View {
        let epoch = self.epoch.load(Ordering::Acquire);
        View {
            ownership: self.ownership(),
            members: self.clone(),
            epoch,
        }
    }

    /// Whose identities are whose now.
    pub fn ownership(&self) -> Arc<Ownership> {
        self.lock().clone()
    }

    /// A relay to this node failed: it is passed over for a moment, and the others hear of it.
    pub fn suspect(&self, node: Node) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.len() < SUSPECTS_MAX && !suspects.contains(&node) {
            suspects.push(node);
            self.waker.wake();
        }
    }

    /// Datagrams that were ignored, by reason.
    pub fn ignored(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .ignored
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let labels = Ignored::ALL.iter().map(|reason| reason.label());
        let refused = self.refused.load(Ordering::Relaxed);
        labels
            .zip(counts)
            .chain(std::iter::once(("refused", refused)))
    }

    /// Waits until there are others, but no longer than `patience`; whether there are.
    pub fn wait_for_others(&self, patience: Duration) -> bool {
        let until = clock::now() + patience;
        let mut current = self.lock();
        while current.is_alone() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(current, left);
            current = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Others are to take this node's place; it says so at once.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// The control thread ends.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Whether a datagram from there is nothing but a wake-up.
    pub(super) fn is_wake(&self, from: SocketAddr) -> bool {
        self.waker.from == Some(from)
    }

    pub(super) fn take_suspects(&self) -> Vec<Node> {
        std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn count_ignored(&self, why: Ignored) {
        let place = Ignored::ALL.iter().position(|reason| *reason == why);
        if let Some(count) = place.and_then(|place| self.ignored.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_refused(&self, _why: Refused) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on this is so; what was before.
    pub(super) fn publish(&self, ownership: Ownership) -> Arc<Ownership> {
        let before = std::mem::replace(&mut *self.lock(), Arc::new(ownership));
        // After the exchange: whoever sees the epoch finds what it stands for, or something newer.
        self.epoch.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
        before
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Ownership>> {
        // What is in there is whole between any two statements.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's sight of the cluster.
pub struct View {
    members: Arc<Members>,
    epoch: u64,
    ownership: Arc<Ownership>,
}

impl View {
    /// Who owns this identity.
    #[inline]
    pub fn owner(&mut self, identity: u64) -> Owner<'_> {
        let epoch = self.members.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.ownership = self.members.ownership();
            self.epoch = epoch;
        }
        self.ownership.owner(identity)
    }

    /// The cluster.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }
}

/// Wakes a thread that waits for datagrams, with one that is empty.
struct Waker {
    socket: UdpSocket,
    from: Option<SocketAddr>,
    to: SocketAddr,
}

impl Waker {
    fn new(mut to: SocketAddr) -> std::io::Result<Self> {
        if to.ip().is_unspecified() {
            to.set_ip(match to.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let socket = UdpSocket::bind((to.ip(), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            from: socket.local_addr().ok(),
            socket,
            to,
        })
    }

    fn wake(&self) {
        // If it is lost, the thread looks by itself within a probe's period.
        let _ = self.socket.send_to(&[], self.to);
    }
}
