//! A worker: one thread, one core, one runtime, one listener, one shard, one pool.
//!
//! Follow a request: [`accept`] takes its connection in, `conn` reads its head, `request` keeps
//! what outlives the head, `proxy` gets a permit from the [`mesh`](crate::mesh) and a connection
//! from the [`upstream`](crate::upstream), `exchange` sends it, `relay` brings the answer back. In a
//! cluster `elsewhere` sends it to the node that owns it instead, over the connections of `peers`.
//!
//! Beside the connections a worker runs one task, the *ticker*, which sleeps until the earliest of
//! all its deadlines: the shard's, the sockets', the idle connections'.

pub mod accept;
mod conn;
mod elsewhere;
mod exchange;
mod full;
mod identify;
mod look;
mod own;
mod pace;
mod peers;
mod proxy;
mod registry;
mod relay;
mod reply;
mod request;
mod secure;
mod tale;
mod upload;
mod wait;

pub(crate) use own::USER_AGENT;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use ahash::AHashSet;
use monoio::io::Canceller;
use monoio::net::TcpListener;

use self::accept::Port;
use self::pace::Laggards;
use self::peers::Peers;
use self::registry::Registry;
use crate::access::RequestId;
use crate::clock::{self, Instant};
use crate::error::Kind;
use crate::http1::RequestHead;
use crate::io::deadline::{Alarm, Deadlines};
use crate::io::runtime::{Chosen, WorkerRuntime, pin};
use crate::io::{Bell, Recycler, buffer};
use crate::limit::{self, Answer, Reason};
use crate::mesh::Local;
use crate::metrics::{self, Refusal};
use crate::process::overrides;
use crate::process::{Metrics, Process};
use crate::route::{BucketKey, Keys, RouteText, classify, identity};
use crate::upstream::{Bounds, Upstream};

/// How long opening a connection to the upstream may take, and the handshake after it. A
/// connect that a lost SYN delays takes 1 s or 3 s (RFC 6298).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);

/// How often the wall clock is read; only the age classes of deleted messages need it, and those
/// are seconds wide.
const WALL_CLOCK_REFRESH: Duration = Duration::from_millis(200);

/// Bots that a worker remembers having seen; forgetting them all costs each one look at the
/// process's list.
const SEEN_MAX: usize = 16_384;

/// The key of `GET /gateway/bot`, whoever asks.
fn gateway_key(keys: &Keys) -> BucketKey {
    let mut text = RouteText::default();
    let route = classify(b"GET", b"/api/v10/gateway/bot", 0, &mut text);
    keys.bucket_key(&route, &identity::parse(None), b"GET")
}

/// One worker.
pub(crate) struct Worker {
    index: usize,
    process: Arc<Process>,
    local: Rc<Local>,
    upstream: Rc<Upstream>,
    /// The other nodes; `None` outside a cluster.
    peers: Option<Peers>,
    deadlines: Deadlines,
    alarm: Rc<Alarm>,
    registry: Rc<Registry>,
    /// What connections that are at work run in.
    busy: Recycler<(Rc<Self>, conn::Client), Option<conn::Client>>,
    /// Clients that hold up a connection to the upstream.
    laggards: Laggards,
    /// Held once by each client that is being told that there is no place.
    turned_away: Rc<()>,
    accepting: RefCell<Canceller>,
    drain: Cell<Drain>,
    /// Rung when nobody may wait any more.
    refusing: Bell,
    /// The ticker is to end.
    ending: Cell<bool>,
    /// Requests that were given an id, or a lot.
    numbered: Cell<u64>,
    /// Somebody looks at what requests are of.
    watched: Cell<bool>,
    /// The wall clock's last reading, and when it was taken.
    wall: Cell<(Instant, u64)>,
    /// Bots whose global limit was asked for, or need not be; spares most requests the lock of
    /// [`Process::bots`].
    seen: RefCell<AHashSet<u64>>,
    /// Global limits that somebody has set, and of which version this is.
    overrides: RefCell<(u64, overrides::Limits)>,
    /// What `GET /gateway/bot` falls under, but for the bot.
    gateway: BucketKey,
    /// The identify queue, on the one worker that serves it.
    identify: Option<identify::Door>,
}

/// Runs worker `index` on the calling thread until it has drained.
///
/// `queue` is the identify queue's listener, on the worker that serves it. `ready` is called once the
/// runtime stands.
///
/// # Errors
/// The runtime or the listener cannot be set up.
pub fn run(
    index: usize,
    process: Arc<Process>,
    listeners: Vec<std::net::TcpListener>,
    queue: Option<std::net::TcpListener>,
    driver: Chosen,
    ready: impl FnOnce(()),
) -> io::Result<()> {
    pin(index);
    let mut runtime = WorkerRuntime::build(driver)?;
    ready(());
    runtime.block_on(async move {
        let mut sockets = Vec::new();
        let worker = Worker::new(index, process, queue.is_some());
        let proxy = listeners
            .into_iter()
            .map(|listener| (listener, Port::Proxy));
        for (listener, port) in proxy.chain(queue.map(|listener| (listener, Port::Identify))) {
            listener.set_nonblocking(driver == Chosen::Epoll)?;
            sockets.push((TcpListener::from_std(listener)?, port));
        }
        let ticker = monoio::spawn(tick(worker.clone()));
        // Tasks of their own, which can let others have their turn; this one is polled again and again
        // before any other if it wakes itself.
        let accept = |(socket, port)| {
            let cancel = worker.accepting.borrow().handle();
            monoio::spawn(accept::run(worker.clone(), socket, port, cancel))
        };
        let accepting: Vec<_> = sockets.into_iter().map(accept).collect();
        for socket in accepting {
            socket.await;
        }
        worker.process.accepting.fetch_sub(1, Ordering::AcqRel);
        worker.ended().await;
        worker.upstream.close_idle();
        if let Some(peers) = &worker.peers {
            peers.close_idle();
        }
        worker.local.close();
        // The ticker holds the worker, and the worker's alarm the ticker.
        worker.ending.set(true);
        worker.alarm.ring();
        ticker.await;
        Ok(())
    })
}

impl Worker {
    fn new(index: usize, process: Arc<Process>, serves_queue: bool) -> Rc<Self> {
        let now = clock::now();
        let alarm = Rc::new(Alarm::default());
        let deadlines = Deadlines::new(now, alarm.clone());
        let bounds = Bounds {
            connections_max: process.upstream_connections_max,
            idle_timeout: process.config.upstream_idle_timeout,
            connect_timeout: CONNECT_TIMEOUT,
            silence_max: None,
            // Discord's front ends a connection right behind its answer.
            trusted_for: Duration::ZERO,
        };
        Rc::new(Self {
            index,
            local: Local::new(process.mesh.clone(), index, alarm.clone()),
            upstream: Upstream::new(process.target.clone(), bounds, deadlines.clone()),
            peers: Peers::new(&process, &deadlines),
            deadlines,
            alarm,
            registry: Rc::default(),
            busy: Recycler::new(conn::busy),
            laggards: Laggards::default(),
            turned_away: Rc::default(),
            accepting: RefCell::default(),
            drain: Cell::new(Drain::NotYet),
            refusing: Bell::default(),
            ending: Cell::new(false),
            numbered: Cell::default(),
            watched: Cell::new(false),
            wall: Cell::new((now, clock::unix_ms())),
            seen: RefCell::default(),
            overrides: RefCell::new((process.overrides.version(), process.overrides.get())),
            gateway: gateway_key(&process.keys),
            identify: serves_queue.then(|| identify::Door::new(&process)),
            process,
        })
    }

    /// The wall clock in milliseconds, read now and then.
    fn unix_ms(&self, now: Instant) -> u64 {
        let (read, unix_ms) = self.wall.get();
        if now.saturating_duration_since(read) < WALL_CLOCK_REFRESH {
            return unix_ms;
        }
        let unix_ms = clock::unix_ms();
        self.wall.set((now, unix_ms));
        unix_ms
    }

    /// What a request without a name is called.
    fn next_id(&self) -> RequestId {
        RequestId::Made {
            process: self.process.id,
            number: self.next_number(),
        }
    }

    /// A number for a request that no other of this process has.
    fn next_number(&self) -> u64 {
        let number = self.numbered.get();
        self.numbered.set(number + 1);
        number * self.process.metrics.len() as u64 + self.index as u64
    }

    /// A number by which requests are picked: over many, all come equally often (Knuth, TAOCP 6.4,
    /// multiplicative hashing).
    fn next_lot(&self) -> u64 {
        self.next_number().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// This worker's metrics; lock them for a moment only.
    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.process.metrics[self.index].lock()
    }

    /// Whether this bot's global limit is to be asked for now.
    fn first_sight(&self, identity: u64) -> bool {
        let mut seen = self.seen.borrow_mut();
        if seen.contains(&identity) {
            return false;
        }
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(identity);
        self.process.first_sight(identity)
    }

    /// Writes a request's head for the upstream.
    fn encode(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) {
        let authority = self.upstream.authority();
        match &self.process.via {
            None => head.encode(authority, out),
            Some(via) => head.encode_via(authority, via.as_bytes(), out),
        }
    }

    /// Whether somebody has set this bot's global limit.
    fn is_overridden(&self, user_id: u64) -> bool {
        let version = self.process.overrides.version();
        let mut known = self.overrides.borrow_mut();
        if known.0 != version {
            // In this order: what is newer than its number is fetched once more.
            *known = (version, self.process.overrides.get());
        }
        known.1.contains_key(&user_id)
    }

    /// The limit that `GET /gateway/bot` of this bot falls under.
    fn gateway_key(&self, identity: u64) -> BucketKey {
        BucketKey {
            identity,
            ..self.gateway
        }
    }

    /// Counts a refusal; what it is counted as.
    fn count_refusal(&self, reason: Reason) -> Refusal {
        let refusal = match reason {
            Reason::QueueFull => Refusal::BucketFull,
            Reason::TooManyWaiting => Refusal::WaitingFull,
            Reason::TooManyTracked => Refusal::BucketsFull,
            Reason::TooLong => Refusal::WaitTooLong,
            Reason::Unauthorized => Refusal::TokenLocked,
            Reason::DeadWebhook => Refusal::WebhookDead,
            Reason::Breaker => Refusal::Breaker,
            Reason::Draining => {
                self.process.unserved.fetch_add(1, Ordering::Relaxed);
                Refusal::Draining
            }
            // It was to be sent on, and there is nobody: as if its node had been lost.
            Reason::Moved => Refusal::WaitTooLong,
            Reason::Budget => Refusal::InvalidBudget,
            Reason::Forbidden => Refusal::Forbidden,
            Reason::Share => Refusal::InvalidShare,
        };
        self.metrics().own.refuse(refusal);
        refusal
    }

    /// Counts what an answer of Discord's says about limits; if it is `absorbed`, its client does not see
    /// it.
    fn count_answer(&self, answer: &Answer, absorbed: bool) {
        match answer.status {
            429 => {
                let scope = match (answer.headers.via, answer.headers.scope) {
                    (false, _) => metrics::Scope::Cloudflare,
                    (true, limit::Scope::User) => metrics::Scope::User,
                    (true, limit::Scope::Global) => metrics::Scope::Global,
                    (true, limit::Scope::Shared) => metrics::Scope::Shared,
                    (true, limit::Scope::None) => metrics::Scope::None,
                };
                self.metrics().own.receive_429(scope, absorbed);
            }
            401 | 403 => self.metrics().own.receive(answer.status),
            _ => {}
        }
    }

    /// Counts a client that is gone, or that kept weir waiting too long; not one that weir itself
    /// cuts off at the end.
    fn count_lost_client(&self, too_slow: bool) {
        if self.process.aborting.load(Ordering::Relaxed) {
            return;
        }
        self.metrics().own.fail(if too_slow {
            Kind::ClientTimeout
        } else {
            Kind::ClientGone
        });
    }

    /// Sleeps a while; true if the worker is to stop.
    async fn pause(&self, duration: Duration) -> bool {
        monoio::time::sleep(duration).await;
        self.process.is_draining()
    }

    /// Stops accepting; a while later ends the connections that still idle, at last refuses those
    /// that still wait. What is under way finishes.
    fn drain(&self, now: Instant) {
        let refusing = self.process.is_refusing();
        if self.drain.get() == Drain::NotYet {
            let canceller = self.accepting.take();
            self.accepting.replace(canceller.cancel());
            self.registry.drain();
            self.drain.set(Drain::Idle(now + conn::DRAINING_PATIENCE));
        }
        if matches!(self.drain.get(), Drain::Idle(until) if refusing || until <= now) {
            self.registry.end_idle();
            self.drain.set(Drain::Waiting);
        }
        if refusing && self.drain.get() == Drain::Waiting {
            self.local.refuse_waiting(reply::RESTART);
            self.refusing.ring();
            if let Some(door) = &self.identify {
                door.close();
            }
            self.drain.set(Drain::Refused);
        }
    }

    /// Whether [`Self::drain`] has to be called at once.
    fn has_to_drain(&self) -> bool {
        match self.drain.get() {
            Drain::NotYet => self.process.is_draining(),
            Drain::Idle(_) | Drain::Waiting => self.process.is_refusing(),
            Drain::Refused => false,
        }
    }

    /// Waits until the connections of all workers have ended, or must: as long as a request waits
    /// anywhere, or can still come in, this worker's shard may be what it waits for.
    async fn ended(&self) {
        let process = &self.process;
        while process.accepting.load(Ordering::Acquire) > 0 || process.places.taken() > 0 {
            if process.aborting.load(Ordering::Relaxed) {
                return self.cut().await;
            }
            monoio::time::sleep(END_CHECK).await;
        }
    }

    /// Ends the connections that are left, and gives their tasks a moment to notice.
    async fn cut(&self) {
        let busy = self.registry.busy();
        if busy > 0 {
            tracing::warn!(
                worker = self.index,
                connections = busy,
                "the shutdown deadline passed; connections are cut"
            );
            self.process.unserved.fetch_add(busy, Ordering::Relaxed);
        }
        for _ in 0..CUT_CHECKS {
            self.registry.cut();
            self.upstream.cut();
            if let Some(peers) = &self.peers {
                peers.cut();
            }
            if self.registry.len() == 0 {
                return;
            }
            monoio::time::sleep(END_CHECK).await;
        }
    }

    /// Brings the counts that are kept elsewhere into the metrics.
    fn publish(&self, metrics: &mut Metrics) {
        metrics.own.pool = self.upstream.counts();
        metrics.own.held_back = self.local.held_back();
    }
}

/// How far a worker's end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drain {
    NotYet,
    /// It accepts nobody; connections that idle may stay until then.
    Idle(Instant),
    /// They have ended; those who wait may still be served.
    Waiting,
    /// Nobody waits any more.
    Refused,
}

/// How often a draining worker looks whether it can end.
const END_CHECK: Duration = Duration::from_millis(10);

/// Such moments that cut connections get to end in: a second.
const CUT_CHECKS: u32 = 100;

/// How often buffers that a burst left behind and nobody needed since are freed.
const TRIM_PAUSE: Duration = Duration::from_secs(10);

/// The ticker: does what is due, then sleeps until something is.
async fn tick(worker: Rc<Worker>) {
    let mut trims_at = clock::now() + TRIM_PAUSE;
    while !worker.ending.get() {
        let now = clock::now();
        worker.process.turns[worker.index].fetch_add(1, Ordering::Relaxed);
        if trims_at <= now {
            buffer::trim();
            trims_at = now + TRIM_PAUSE;
        }
        worker.watched.set(worker.process.watch.is_on(now));
        worker.deadlines.expire(now);
        let idle = worker.upstream.expire(now);
        let nodes = worker.peers.as_ref().and_then(|peers| peers.expire(now));
        let shard = worker.local.turn(now);
        if let Some(peers) = &worker.peers {
            peers.send_on(&worker.local);
        }
        let identify = identify::tick(&worker, now);
        // After the mailbox was read, so that the nudge that announces the end is not lost.
        if worker.process.is_draining() {
            worker.drain(now);
        }
        worker.publish(&mut worker.metrics());
        let drain = match worker.drain.get() {
            Drain::Idle(until) => Some(until),
            Drain::NotYet | Drain::Waiting | Drain::Refused => None,
        };
        let trim = buffer::has_surplus().then_some(trims_at);
        let deadlines = worker.deadlines.next();
        let next = [deadlines, idle, nodes, shard, identify, drain, trim]
            .into_iter()
            .flatten()
            .min();
        let has_work = |waker: &Waker| worker.local.wake_by(waker) || worker.has_to_drain();
        worker.alarm.sleep_until(next, has_work).await;
    }
    worker.alarm.forget();
}
