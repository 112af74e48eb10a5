//! What a node knows of identities goes to the node that owns them now.
//!
//! ```text
//! control: slots lost ─▶ queue ─▶ sender ── Cut, parts of 16 KiB ── TCP, CLUSTER_PORT ─▶ receiver
//!                                   ▲ not confirmed: again, to whoever owns them then      │
//!                                   └── 2 s: given up, counted                        take_over, told
//! ```
//!
//! On threads of their own and streams of their own, not over the workers' relay connections: no
//! request waits behind a hand-over, and what it costs are moments of the limiter's latches, one bite
//! after the other. A part is all that either side holds in memory.
//!
//! Over TLS to a node that speaks TLS, as requests are relayed. A part comes in the same envelope as a datagram ([`wire`](super::wire)), behind its length; with
//! `CLUSTER_SECRET` it is sealed, without one it is taken from addresses alone
//! that are or were members'. The
//! receiver confirms the last part with one byte. A hand-over that breaks off is cut anew and sent
//! whole: what comes twice makes the receiver stricter for a moment, never laxer.

mod receive;
mod send;
mod stream;
mod timed;

pub(super) use receive::Receiver;
pub(super) use send::Sender;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::control::Tls;
use super::members::Members;
use super::secret::Secret;
use super::wire::{ENVELOPE_BYTES_MAX, RECORDS_BYTES_MAX};
use crate::identify::Queues;
use crate::mesh::Mesh;

/// How long it is tried to hand something over: as long as its new owner is careful without it. What
/// was sent before has left every global window by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long opening a connection may take. On a LAN a millisecond; a lost packet is sent again after
/// a second, so a new attempt is sooner there.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);

/// How long the other side may take or give nothing.
const STALL: Duration = Duration::from_millis(500);

/// How long one part may take to come, the first with all that precedes it: 16 KiB in milliseconds, but
/// for packets that are lost.
const PART_TIME: Duration = Duration::from_secs(2);

/// The longest part: its records, its slots, and some addresses and numbers.
const PART_BYTES_MAX: usize = RECORDS_BYTES_MAX + ENVELOPE_BYTES_MAX + 1_024;

/// What the receiver says when all is taken over (ASCII ACK).
const TAKEN: u8 = 6;

/// What both sides use.
pub(super) struct Shared {
    pub(super) members: Arc<Members>,
    pub(super) mesh: Arc<Mesh>,
    pub(super) secret: Option<Arc<Secret>>,
    /// See [`Keys::probe`](crate::route::Keys::probe).
    pub(super) probe: u64,
    /// The next envelope's number.
    pub(super) nonce: AtomicU64,
    pub(super) tls: Tls,
    /// The identify queue, if the nodes' are one.
    pub(super) identify: Option<Arc<Mutex<Queues>>>,
}

impl Shared {
    /// The identify queue, for a moment.
    fn identify(&self) -> Option<MutexGuard<'_, Queues>> {
        let identify = self.identify.as_ref()?;
        Some(identify.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
