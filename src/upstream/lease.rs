//! Connections lent to exchanges, one worker's: taken from the pool or opened, and taken back.
//!
//! ```text
//! at_hand ─▶ a place is free and a pooled connection lives: lent at once
//!    │ none
//!    ▼
//! lease ─▶ waits for a place, then pooled after all, or dialled and shaken hands with: takes time
//! ```
//!
//! The two are apart because a permit's slot of the global window is timed from when its request
//! departs: between them the limiter is told that it will be later than was promised.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use slab::Slab;

use super::connection::Connection;
use super::dial;
use super::outage::Outage;
use super::pool;
use super::resolve::Resolver;
use super::slots::{Slot, Slots};
use crate::clock::{self, Instant};
use crate::error::{Error, Kind};
use crate::io::Deadlines;
use crate::io::socket::{Half, end_when_silent, shut};
use crate::metrics::Pool;
use crate::tls::Trust;

/// How often a request that waits for a connection says so: a few times within the 2 s after which a
/// client counts as one that holds a connection up.
const FULL_EVERY: Duration = Duration::from_millis(250);

/// Where the upstream is and how to speak to it.
#[derive(Clone)]
pub struct Target {
    /// The name to put into `Host`, with the port unless it is the scheme's own.
    pub authority: Arc<str>,
    /// What it has to prove; `None` for plain HTTP.
    pub tls: Option<Trust>,
    /// Its addresses.
    pub resolver: Arc<Resolver>,
    /// The local address to connect from.
    pub outbound: Option<IpAddr>,
    /// Whether it is out of reach, as far as it was told.
    pub outage: Arc<Outage>,
}

/// Bounds of one worker's connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Exchanges under way, and so connections.
    pub connections_max: usize,
    /// How long a connection idles before it is closed.
    pub idle_timeout: Duration,
    /// How long opening a connection may take in all: waiting for a place, connect, handshake.
    pub connect_timeout: Duration,
    /// How long the other side's system may be silent, about whatever it was asked, before its
    /// connections end; `None`: for ever.
    pub silence_max: Option<Duration>,
    /// A connection that idles for less is lent without a look whether it has ended meanwhile: a system
    /// call for each exchange, where connections do not end by themselves.
    pub trusted_for: Duration,
}

/// What happened to connections, and what they are at, as far as the pool does not say it.
#[derive(Default)]
struct Tally {
    opening: Cell<u64>,
    waiting: Cell<u64>,
    opened: Cell<u64>,
    resumed: Cell<u64>,
    dials_failed: Cell<u64>,
    handshakes_failed: Cell<u64>,
    reused: Cell<u64>,
    stale: Cell<u64>,
    expired: Cell<u64>,
    /// Counted by each connection as it is dropped.
    closed: Rc<Cell<u64>>,
}

fn add(count: &Cell<u64>, more: u64) {
    count.set(count.get() + more);
}

/// Counts one more until dropped.
struct Now<'t>(&'t Cell<u64>);

impl<'t> Now<'t> {
    fn one_of(count: &'t Cell<u64>) -> Self {
        add(count, 1);
        Self(count)
    }
}

impl Drop for Now<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The upstream, as one worker sees it.
pub struct Upstream {
    target: Target,
    bounds: Bounds,
    pool: RefCell<pool::Pool<Box<Connection>>>,
    slots: Slots,
    deadlines: Deadlines,
    tally: Tally,
    /// The connections lent out, so that an end with a deadline can cut them.
    lent: Rc<RefCell<Slab<RawFd>>>,
    /// Nothing is lent any more.
    ended: Cell<bool>,
    /// The address that was connected to last: tried first.
    preferred: Cell<Option<SocketAddr>>,
}

/// A connection lent to one exchange.
pub struct Lease {
    /// The connection. Boxed for its life: it is 1 KiB, and changes hands several times a request.
    pub connection: Box<Connection>,
    /// Whether it carried an exchange before, so that the other side may have closed it meanwhile.
    pub reused: bool,
    /// When it was lent.
    pub since: Instant,
    slot: Slot,
    lent: Lent,
}

/// A connection's entry among those lent out, struck off when dropped.
struct Lent {
    lent: Rc<RefCell<Slab<RawFd>>>,
    key: usize,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lent.borrow_mut().remove(self.key);
    }
}

impl Upstream {
    /// No connections yet.
    pub fn new(target: Target, bounds: Bounds, deadlines: Deadlines) -> Rc<Self> {
        Rc::new(Self {
            target,
            bounds,
            pool: RefCell::new(pool::Pool::new(bounds.connections_max, bounds.idle_timeout)),
            slots: Slots::new(bounds.connections_max),
            deadlines,
            tally: Tally::default(),
            lent: Rc::default(),
            ended: Cell::new(false),
            preferred: Cell::new(None),
        })
    }

    /// The bytes of the `Host` header.
    pub fn authority(&self) -> &[u8] {
        self.target.authority.as_bytes()
    }

    /// A pooled connection for one exchange `now`, if one can be lent at once.
    pub async fn at_hand(&self, now: Instant) -> Option<Lease> {
        let slot = self.slots.try_acquire()?;
        if self.ended.get() {
            return None;
        }
        let connection = self.pooled(now).await?;
        Some(self.lend(connection, true, slot, now))
    }

    /// A connection for one exchange, within the time that opening one may take. `fresh` asks for a
    /// new one, after a pooled one failed. `on_full` is called when all are in use, and now and then
    /// while one is waited for.
    ///
    /// # Errors
    /// All connections are in use and none came free, or none could be opened; nothing was sent.
    pub async fn lease(&self, fresh: bool, on_full: impl Fn()) -> Result<Lease, Error> {
        let slot = match self.slots.try_acquire() {
            Some(slot) => slot,
            // Boxed: waiting for a place is rare, and its state is large.
            None => Box::pin(self.wait_for_slot(on_full)).await?,
        };
        if self.ended.get() {
            return Err(Error::new(Kind::Draining));
        }
        let now = clock::now();
        if !fresh && let Some(connection) = self.pooled(now).await {
            return Ok(self.lend(connection, true, slot, now));
        }
        // Boxed: opening is rare, and its state would be part of every connection's task.
        let opened = Box::pin(self.open()).await;
        let noted = opened.as_ref().map(|_| ());
        let place = &self.target.authority;
        let now = clock::now();
        self.target.outage.note(now, place, noted);
        Ok(self.lend(opened?, false, slot, now))
    }

    /// A connection from the pool that still lives.
    async fn pooled(&self, now: Instant) -> Option<Box<Connection>> {
        loop {
            let (mut connection, since) = self.take(now)?;
            let trusted = now < since + self.bounds.trusted_for;
            if trusted || connection.is_alive().await {
                add(&self.tally.reused, 1);
                return Some(connection);
            }
            add(&self.tally.stale, 1);
        }
    }

    /// The connection that went idle last, and when.
    fn take(&self, now: Instant) -> Option<(Box<Connection>, Instant)> {
        let mut pool = self.pool.borrow_mut();
        let before = pool.len();
        let taken = pool.take(now);
        if taken.is_none() && before > 0 {
            add(&self.tally.expired, 1);
        }
        taken
    }

    async fn wait_for_slot(&self, on_full: impl Fn()) -> Result<Slot, Error> {
        let _waits = Now::one_of(&self.tally.waiting);
        let until = clock::now() + self.bounds.connect_timeout;
        let mut acquired = pin!(self.slots.acquire());
        loop {
            on_full();
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Err(Error::new(Kind::Full));
            }
            let mut pause = pin!(monoio::time::sleep(left.min(FULL_EVERY)));
            let slot = poll_fn(|cx| match acquired.as_mut().poll(cx) {
                Poll::Ready(slot) => Poll::Ready(Some(slot)),
                Poll::Pending => pause.as_mut().poll(cx).map(|()| None),
            });
            if let Some(slot) = slot.await {
                return Ok(slot);
            }
        }
    }

    fn lend(&self, connection: Box<Connection>, reused: bool, slot: Slot, since: Instant) -> Lease {
        let key = self.lent.borrow_mut().insert(connection.as_raw_fd());
        Lease {
            connection,
            reused,
            since,
            slot,
            lent: Lent {
                lent: self.lent.clone(),
                key,
            },
        }
    }

    async fn open(&self) -> Result<Box<Connection>, Error> {
        let _opens = Now::one_of(&self.tally.opening);
        let until = clock::now() + self.bounds.connect_timeout;
        let mut addresses = self.target.resolver.addresses().to_vec();
        if let Some(preferred) = self.preferred.get() {
            // Stable: the rest stays in the resolver's order.
            addresses.sort_by_key(|address| *address != preferred);
        }
        let outbound = self.target.outbound;
        let dialled = dial::dial(&addresses, outbound, until, &self.deadlines).await;
        let (stream, address) = dialled.inspect_err(|_| add(&self.tally.dials_failed, 1))?;
        self.preferred.set(Some(address));
        if let Some(silence) = self.bounds.silence_max {
            end_when_silent(&stream, silence).map_err(Error::connecting)?;
        }
        let trust = self.target.tls.as_ref();
        let opened = Connection::open(stream, trust, until, &self.deadlines).await;
        let (mut connection, resumed) =
            opened.inspect_err(|_| add(&self.tally.handshakes_failed, 1))?;
        connection.opened(self.tally.closed.clone());
        add(&self.tally.opened, 1);
        add(&self.tally.resumed, u64::from(resumed));
        Ok(connection)
    }

    /// Ends every connection, those lent out too; from now on nothing is lent.
    pub fn cut(&self) {
        self.ended.set(true);
        self.close_idle();
        for (_, fd) in &*self.lent.borrow() {
            shut(fd, Half::Both);
        }
    }

    /// Takes a connection back after an exchange that ended `now`, cleanly, and left it open.
    pub fn give_back(&self, lease: Lease, now: Instant) {
        let Lease {
            mut connection,
            slot,
            lent,
            ..
        } = lease;
        drop(lent);
        if connection.rest() && !self.ended.get() {
            let evicted = self.pool.borrow_mut().put(now, connection);
            add(&self.tally.expired, u64::from(evicted.is_some()));
        }
        // The place goes on last, so that who gets it finds the connection.
        drop(slot);
    }

    /// Closes connections that have idled too long, and returns when to look again.
    pub fn expire(&self, now: Instant) -> Option<Instant> {
        loop {
            let expired = self.pool.borrow_mut().expire(now);
            if expired.is_none() {
                return self.pool.borrow().next_deadline();
            }
            add(&self.tally.expired, 1);
        }
    }

    /// Closes all idle connections.
    pub fn close_idle(&self) {
        let mut pool = self.pool.borrow_mut();
        add(&self.tally.expired, pool.len() as u64);
        pool.clear();
    }

    /// What happened so far, and what connections are at.
    pub fn counts(&self) -> Pool {
        let tally = &self.tally;
        Pool {
            busy: self.lent.borrow().len() as u64,
            idle: self.pool.borrow().len() as u64,
            opening: tally.opening.get(),
            waiting: tally.waiting.get(),
            most: self.bounds.connections_max as u64,
            opened: tally.opened.get(),
            resumed: tally.resumed.get(),
            dials_failed: tally.dials_failed.get(),
            handshakes_failed: tally.handshakes_failed.get(),
            reused: tally.reused.get(),
            stale: tally.stale.get(),
            expired: tally.expired.get(),
            closed: tally.closed.get(),
            tls: self.target.tls.is_some(),
        }
    }
}
