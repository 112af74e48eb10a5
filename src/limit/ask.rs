//! What goes into the limiter and what comes out of it.

use super::notice::{Notice, Notices};
use super::pressure::Pressure;
use crate::clock::Instant;
pub use crate::route::BucketKey;
use std::collections::VecDeque;
use std::time::Duration;

/// Names a waiting request to the shell; the limiter only hands it back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// The worker whose connection waits.
    pub worker: u16,
    /// The request's slot in that worker's table.
    pub slot: u32,
    /// Tells the request from others that had the same slot.
    pub generation: u32,
}

/// Whose request it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientClass {
    /// `Authorization: Bot …`; the user id is decoded from the token, if it could be.
    Bot {
        /// The bot's user id, for overrides of its global limit.
        user_id: Option<u64>,
    },
    /// `Authorization: Bearer …`.
    Bearer,
    /// No `Authorization`: the egress address is counted.
    Anonymous,
    /// A webhook's token in the path.
    Webhook {
        /// The webhook's id, to tell people of it.
        id: Option<u64>,
    },
    /// An interaction's token in the path.
    Interaction,
}

impl ClientClass {
    /// The bot's user id, 0 if unknown.
    pub(super) fn user_id(self) -> u64 {
        match self {
            Self::Bot { user_id } => user_id.unwrap_or(0),
            Self::Bearer | Self::Anonymous | Self::Webhook { .. } | Self::Interaction => 0,
        }
    }
}

/// A request that wants to go upstream.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Comes back with the permit if the request has to wait.
    pub ticket: Ticket,
    /// The limit it falls under.
    pub key: BucketKey,
    /// Whose request it is.
    pub client: ClientClass,
    /// Whether the identity's global limit counts it (not webhooks and interactions).
    pub counts_globally: bool,
    /// The method changes something: such requests of a bucket go one at a time, in order.
    pub serial: bool,
    /// Refuse at once if the predicted wait is longer.
    pub max_wait: Option<Duration>,
}

/// The answer to [`Limiter::acquire`](super::Limiter::acquire).
#[derive(Debug)]
#[must_use]
pub enum Decision {
    /// Send now.
    Go(Permit),
    /// An [`Output`] with the ask's ticket will follow.
    Wait,
    /// Answer the client in Discord's place.
    Refuse(Refusal),
}

/// Why a request is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// Too many requests wait in its bucket.
    QueueFull,
    /// Too many requests wait in its shard.
    TooManyWaiting,
    /// No room to track another bucket or identity.
    TooManyTracked,
    /// The predicted wait is longer than the request allows.
    TooLong,
    /// The identity's token was refused by Discord.
    Unauthorized,
    /// The webhook does not exist.
    DeadWebhook,
    /// Cloudflare blocks this egress address.
    Breaker,
    /// The egress address is near the 10,000 invalid requests that ban it.
    Budget,
    /// Discord answered this route with 403 again and again; it is asked at pauses.
    Forbidden,
    /// The identity caused more than its share of the invalid requests that the address may make.
    Share,
    /// The process ends. Never the limiter's own reason, but the shell's for who waits.
    Draining,
    /// Another node of the cluster owns its identity now; the shell's own reason, too.
    Moved,
}

impl Reason {
    /// Whether it is the shell's own: the limiter still has the request waiting.
    pub const fn is_the_shells(self) -> bool {
        matches!(self, Self::Draining | Self::Moved)
    }
}

/// A refusal and when to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// When the request would have gone, as far as it can be told.
    pub retry_after: Duration,
}

/// The right to send one request, and the limiter's memory of it while it is under way.
///
/// It says how its request leaves through [`departs`](super::Limiter::departs), and before, if that
/// takes time, [`delayed`](super::Limiter::delayed). It must come back through `report`, `requeue` or
/// `no_answer`, whatever happens: its bucket counts it as sent until then.
#[derive(Debug)]
#[must_use = "a permit that is not given back blocks its bucket for good"]
pub struct Permit {
    pub(super) key: BucketKey,
    /// When the request departed: no earlier can it have been counted. Until then when its permit was
    /// given out.
    pub(super) sent: Instant,
    /// When it asked.
    pub(super) asked: Instant,
    /// The bot's user id or the webhook's id, 0 if unknown.
    pub(super) user_id: u64,
    pub(super) bucket: u32,
    pub(super) identity: u32,
    /// The tick at which the global slot is returned if no answer comes before; means nothing while
    /// it is held.
    pub(super) global_tick: u32,
    /// Names the other buckets that an unknown route holds a slot of, or `u32::MAX`.
    pub(super) suspects: u32,
    /// Orders the permits of a shard, modulo 2^32.
    pub(super) serial: u32,
    /// Orders those that asked a shard at the same time, modulo 2^32.
    pub(super) turn: u32,
    pub(super) shard: u16,
    pub(super) flags: u8,
}

const _: () = assert!(
    size_of::<Permit>() <= 80,
    "permits are copied between queues"
);

impl Permit {
    pub(super) const SERIAL: u8 = 1;
    pub(super) const GLOBAL: u8 = 2;
    /// Its token may be judged by a 401: it was sent in `Authorization`.
    pub(super) const AUTHORIZED: u8 = 4;
    pub(super) const WEBHOOK: u8 = 8;
    pub(super) const BEARER: u8 = 64;
    /// One probe through the closed breaker.
    pub(super) const PROBE: u8 = 16;
    /// One probe of a locked identity.
    pub(super) const LOCK_PROBE: u8 = 32;
    /// Its global slot is held until its request departs.
    pub(super) const HELD: u8 = 128;

    /// A permit for `ask` that has passed no stage yet.
    pub(super) fn for_ask(ask: &Ask, now: Instant) -> Self {
        let (class, user_id) = match ask.client {
            ClientClass::Bot { user_id } => (Self::AUTHORIZED, user_id.unwrap_or(0)),
            ClientClass::Bearer => (Self::AUTHORIZED | Self::BEARER, 0),
            ClientClass::Webhook { id } => (Self::WEBHOOK, id.unwrap_or(0)),
            ClientClass::Anonymous | ClientClass::Interaction => (0, 0),
        };
        let serial = if ask.serial { Self::SERIAL } else { 0 };
        let global = if ask.counts_globally { Self::GLOBAL } else { 0 };
        Self {
            key: ask.key,
            sent: now,
            asked: now,
            user_id,
            bucket: u32::MAX,
            identity: u32::MAX,
            global_tick: 0,
            suspects: u32::MAX,
            serial: 0,
            turn: 0,
            shard: 0,
            flags: class | serial | global,
        }
    }

    /// A permit for the same request that has passed no stage yet.
    pub(super) fn again(&self) -> Self {
        Self {
            bucket: u32::MAX,
            identity: u32::MAX,
            suspects: u32::MAX,
            flags: self.flags & !(Self::PROBE | Self::LOCK_PROBE | Self::HELD),
            ..*self
        }
    }

    /// Whether its request asked before another one of its shard.
    pub(super) fn asked_before(&self, other: &Self) -> bool {
        other.asked_after(self.asked, self.turn)
    }

    /// Whether its request asked after one of its shard that asked then, and had that turn.
    pub(super) fn asked_after(&self, asked: Instant, turn: u32) -> bool {
        let turns = turn.wrapping_sub(self.turn) as i32;
        asked < self.asked || asked == self.asked && turns < 0
    }

    /// Whether both hold slots of one bucket. Buckets are numbered in each shard.
    pub(super) const fn shares_bucket(&self, other: &Self) -> bool {
        self.bucket == other.bucket && self.shard == other.shard
    }

    pub(super) const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The key the permit was asked for with.
    pub const fn key(&self) -> BucketKey {
        self.key
    }

    /// When its request departed, or, until then, it was given out.
    pub const fn sent(&self) -> Instant {
        self.sent
    }
}

/// What the limiter wants the shell to do.
#[derive(Debug)]
pub enum Output {
    /// A waiting request may be sent. If its client has left meanwhile, give the permit back with
    /// `no_answer(.., sent = false, ..)`.
    Go {
        /// The request.
        ticket: Ticket,
        /// Its permit.
        permit: Permit,
    },
    /// A waiting request is refused.
    Refuse {
        /// The request.
        ticket: Ticket,
        /// Why, and when to try again.
        refusal: Refusal,
    },
    /// One of the shard's deadlines is now before the one that `next_deadline` told: its owner must
    /// wake at `at`, unless it wakes before anyway, and call `tick`.
    Deadline {
        /// The shard.
        shard: usize,
        /// When.
        at: Instant,
    },
    /// A 401 spoke against this identity's token: ask `GET /users/@me` with it once, without a permit,
    /// and hand the result to `Limiter::confirmed`. Ignoring it is safe: then a token is locked only
    /// after several 401s and nothing else, for a few seconds at first.
    Confirm {
        /// The identity.
        identity: u64,
        /// A request whose token it is was just answered; its key, for the caller to find the token.
        key: BucketKey,
    },
}

/// Outputs, to be drained by the shell after each call; reused, so that steady state allocates
/// nothing.
#[derive(Debug, Default)]
pub struct Outputs {
    pub(super) list: VecDeque<Output>,
    /// Requests that hold a slot of their bucket and have yet to pass the later stages.
    pub(super) ready: VecDeque<(Ticket, Permit)>,
    /// Requests that also hold a slot of their global window.
    pub(super) granted: VecDeque<(Ticket, Permit)>,
    /// Requests that stood in line, still hold a slot of their bucket, and may not go.
    pub(super) barred: VecDeque<(Ticket, Permit, Refusal)>,
    /// How the pressure of an identity's bucket changed: from, to.
    pub(super) pressures: VecDeque<(u64, Pressure, Pressure)>,
    /// What a person should hear of.
    pub(super) notices: Notices,
}

impl Outputs {
    /// No outputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The oldest output.
    pub fn pop(&mut self) -> Option<Output> {
        self.list.pop_front()
    }

    /// The oldest event that a person should hear of, beside what is to do. Who does not ask is told
    /// the last few later.
    #[inline]
    pub fn pop_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What is to do, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Output> {
        self.list.iter()
    }
}
