//! `GATEWAY_QUEUE_PORT`: shards ask over HTTP when they may IDENTIFY, and are answered when they may.
//!
//! ```text
//! accept ─▶ conn: head, body ─▶ turn ─▶ Queues::ask ─▶ … waits: no buffer, no timer …
//!                                          │                         ▲
//!                     /gateway/bot ◀── Output::Fetch       Output::Go, by the worker's ticker
//! ```
//! All of it runs on worker 0: a shard is let go every 5 s at most, a bot's keys in one order, so that
//! there is nothing to spread over cores, and one thread needs no hand-off between the two. The queues
//! themselves ([`crate::identify`]) lie behind a lock that only a scrape and the state file take beside
//! it.
//!
//! **Cost.** A shard that waits holds its connection's task, a ticket and an operation of the ring that
//! ends when its client hangs up; head and buffers are given back, and nothing wakes it meanwhile.

mod conn;
mod reach;
mod relay;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ahash::AHashMap;
use slab::Slab;

pub(super) use self::conn::{keep_alive, serve};
use self::reach::Reach;
use super::peers::Peers;
use super::{Worker, own, reply};
use crate::clock::{self, Instant};
use crate::cluster::owner::{Owner, Ownership};
use crate::http1::{Reply, Scope};
use crate::identify::{Ask, Output, Queues, Reason, Refusal, Ticket};
use crate::io::Seldom;
use crate::io::guard::undivided;
use crate::process::Process;
use crate::route::identity;
use crate::route::slot::SlotSet;

/// The longest `Authorization` that is kept while its shards wait, for asking `/gateway/bot` again: a
/// bot's has some 80 bytes. For a longer one nothing is asked.
pub(super) const AUTHORIZATION_BYTES_MAX: usize = 512;

/// How often it is looked whether bots have changed hands while somebody waits; each look that finds
/// nothing costs a comparison.
const LOOK: Duration = Duration::from_millis(200);

/// The identify queue's end on its worker.
pub(super) struct Door {
    queues: Arc<Mutex<Queues>>,
    waiters: RefCell<Slab<Waiter>>,
    /// The `Authorization` of each bot that a shard waits of, and of no other.
    tokens: RefCell<AHashMap<u64, Rc<[u8]>>>,
    /// The port at which other nodes' queues are asked; `None` if they are not.
    relay_port: Option<u16>,
    /// Who owned what when it was last looked.
    owned: RefCell<Option<Arc<Ownership>>>,
    /// Whether there was no other member then.
    was_alone: Cell<bool>,
    /// Nodes whose queue cannot be asked.
    reach: Reach,
    /// Nobody may wait any more.
    closed: Cell<bool>,
    /// `/gateway/bot` that cannot be had, as far as it is told of.
    unknown: Seldom,
    /// Requests without a shard, the same.
    pub(super) unnamed: Seldom,
}

struct Waiter {
    bot: u64,
    /// Another node relays it, and knows itself where to go.
    routed: bool,
    news: News,
}

/// What a shard that waits has heard. One or the other, since thousands wait.
enum News {
    /// Nothing yet; who is to be woken.
    None(Option<Waker>),
    Verdict(Verdict),
}

impl Waiter {
    const fn new(bot: u64, routed: bool) -> Self {
        Self {
            bot,
            routed,
            news: News::None(None),
        }
    }

    fn tell(&mut self, verdict: Verdict) {
        let before = std::mem::replace(&mut self.news, News::Verdict(verdict));
        if let News::None(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// What becomes of a shard that waits.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// It may IDENTIFY: [`Waiting::take`], then [`sent`].
    Go,
    /// It may not wait, or not any longer.
    /// Boxed, since most are not refused and each has room for it.
    Refused(Box<Refusal>),
    /// weir ends.
    Draining,
    /// Another node owns its bot now: it is asked for there.
    Moved,
    /// What the node said that owns its bot.
    Told(Box<relay::Answer>),
}

impl Door {
    pub(super) fn new(process: &Process) -> Self {
        let config = &process.config;
        let mut relay_port = None;
        if process.cluster.is_some() {
            relay_port = config.gateway_queue_port.filter(|port| *port != 0);
            if relay_port.is_none() {
                tracing::warn!(
                    "each node keeps an identify queue of its own: they cannot ask each other with \
                     GATEWAY_QUEUE_PORT=0"
                );
            }
        }
        Self {
            queues: process.identify.clone(),
            relay_port,
            owned: RefCell::default(),
            was_alone: Cell::new(true),
            reach: Reach::default(),
            waiters: RefCell::default(),
            tokens: RefCell::default(),
            closed: Cell::new(false),
            unknown: Seldom::default(),
            unnamed: Seldom::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // A panic with it in hand ends the process: see `undivided`.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everybody who waits know that weir ends.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.tell(&Verdict::Draining, |_| true);
    }

    fn poll_verdict(&self, waiter: usize, cx: &Context<'_>) -> Poll<Verdict> {
        let mut waiters = self.waiters.borrow_mut();
        let Some(waiter) = waiters.get_mut(waiter) else {
            return Poll::Ready(Verdict::Draining);
        };
        match &mut waiter.news {
            News::Verdict(verdict) => Poll::Ready(verdict.clone()),
            News::None(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Tells those who wait, and have not been told anything yet.
    fn tell(&self, verdict: &Verdict, whom: impl Fn(&Waiter) -> bool) {
        for (_, waiter) in &mut *self.waiters.borrow_mut() {
            if matches!(waiter.news, News::None(_)) && whom(waiter) {
                waiter.tell(verdict.clone());
            }
        }
    }

    /// Whether this bot is another node's, as far as is known here: who asks here for it all the same
    /// may know better.
    fn is_anothers(&self, bot: u64) -> bool {
        let owned = self.owned.borrow();
        owned
            .as_ref()
            .is_some_and(|owned| owned.owner(bot) != Owner::Here)
    }

    /// Sends those on whose bot has changed hands since it was last looked.
    fn send_on(&self, peers: &Peers, now: Instant) {
        if self.relay_port.is_none() {
            return;
        }
        let members = peers.ownership();
        self.reach.look(now, &members);
        let was_alone = self.was_alone.replace(members.is_alone());
        let owned = self.reach.ownership(members);
        let before = self.owned.replace(Some(owned.clone()));
        if before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, &owned))
        {
            return;
        }
        let mut gained = owned.slots_of(owned.me());
        match &before {
            // Whoever was alone does not know what others let go.
            Some(before) if !was_alone => {
                gained.remove_all(&before.slots_of(before.me()));
            }
            None if owned.is_alone() => gained = SlotSet::EMPTY,
            Some(_) | None => {}
        }
        self.lock().gained(now, &gained);
        let Some(before) = before else {
            return;
        };
        self.tell(&Verdict::Moved, |waiter| {
            !waiter.routed && before.owner(waiter.bot) != owned.owner(waiter.bot)
        });
    }
}

/// Calls the queues and passes on what comes out of them.
fn call<R>(worker: &Rc<Worker>, door: &Door, call: impl FnOnce(&mut Queues) -> R) -> R {
    // An output that was lost would be a shard that waits for ever.
    undivided(|| {
        let (result, outputs, next) = {
            let mut queues = door.lock();
            let result = call(&mut queues);
            let mut outputs = Vec::new();
            while let Some(output) = queues.poll_output() {
                outputs.push(output);
            }
            (result, outputs, queues.next_deadline())
        };
        for output in outputs {
            match output {
                Output::Go(ticket) => deliver(door, ticket, Verdict::Go),
                Output::Refuse(ticket, refusal) => {
                    deliver(door, ticket, Verdict::Refused(Box::new(refusal)));
                }
                Output::Fetch(bot) => fetch(worker, door, bot),
            }
        }
        if let Some(at) = next {
            worker.alarm.ring_at(at);
        }
        result
    })
}

fn deliver(door: &Door, ticket: Ticket, verdict: Verdict) {
    let mut waiters = door.waiters.borrow_mut();
    // Who left has taken its ticket out of the queue, so that nothing comes for it.
    if let Some(waiter) = waiters.get_mut(ticket.waiter as usize) {
        waiter.tell(verdict);
    }
}

/// Does what is due; when to come again.
pub(super) fn tick(worker: &Rc<Worker>, now: Instant) -> Option<Instant> {
    let door = worker.identify.as_ref()?;
    if let Some(peers) = &worker.peers {
        door.send_on(peers, now);
    }
    if door.lock().next_deadline().is_some_and(|at| at <= now) {
        call(worker, door, |queues| queues.tick(now));
    }
    let next = door.lock().next_deadline();
    let look = door.relay_port.is_some() && !door.waiters.borrow().is_empty();
    let look = look.then(|| now + LOOK);
    [next, look].into_iter().flatten().min()
}

/// The answer to a shard that may go has left.
fn sent(worker: &Rc<Worker>, ticket: Ticket) {
    if let Some(door) = &worker.identify {
        call(worker, door, |queues| queues.sent(clock::now(), ticket));
    }
}

/// Asks `/gateway/bot` in the background. That takes the token of a shard that waits: without one there
/// is nobody to ask for.
fn fetch(worker: &Rc<Worker>, door: &Door, bot: u64) {
    let token = door.tokens.borrow().get(&bot).cloned();
    let worker = worker.clone();
    monoio::spawn(async move {
        let told = match &token {
            Some(token) => own::session_start_limit(&worker, bot, token).await,
            None => Err(own::Unknown::NoToken),
        };
        let Some(door) = &worker.identify else {
            return;
        };
        let now = clock::now();
        match told {
            Ok(limits) => {
                tracing::debug!(?limits, "a bot's session start limit");
                call(&worker, door, |queues| queues.told(now, bot, &limits));
            }
            Err(why) => {
                if let Some(unsaid) = door.unknown.happened(now) {
                    let client = identity::parse(token.as_deref()).client();
                    tracing::warn!(
                        %client,
                        %why,
                        unsaid,
                        "/gateway/bot tells nothing of a bot: what was known of it holds on, at first \
                         a max_concurrency of 1 and 1,000 starts a day"
                    );
                }
                call(&worker, door, |queues| queues.failed(now, bot));
            }
        }
    });
}

/// A shard that waits; dropping it gives its place up.
struct Waiting {
    worker: Rc<Worker>,
    ticket: Ticket,
}

impl Waiting {
    /// Lines up a shard here, whose bot's `Authorization` is `token`; `routed` if another node asks for
    /// it.
    ///
    /// # Errors
    /// It may not wait.
    fn line_up(
        worker: &Rc<Worker>,
        ask: Ask,
        token: Option<Rc<[u8]>>,
        routed: bool,
    ) -> Result<Self, Verdict> {
        let Some(door) = worker.identify.as_ref().filter(|door| !door.closed.get()) else {
            return Err(Verdict::Draining);
        };
        let now = clock::now();
        if let Some(peers) = &worker.peers {
            door.send_on(peers, now);
            worker.alarm.ring_at(now + LOOK);
        }
        let waiter = Waiter::new(ask.bot, routed);
        let waiter = door.waiters.borrow_mut().insert(waiter);
        if let Some(token) = token {
            door.tokens.borrow_mut().entry(ask.bot).or_insert(token);
        }
        let ask = Ask {
            // There are no more than connections.
            waiter: u32::try_from(waiter).unwrap_or(u32::MAX),
            careful: ask.careful || door.is_anothers(ask.bot),
            ..ask
        };
        match call(worker, door, |queues| queues.ask(now, &ask)) {
            Ok(ticket) => Ok(Self {
                worker: worker.clone(),
                ticket,
            }),
            Err(refusal) => {
                door.waiters.borrow_mut().remove(waiter);
                forget(door, ask.bot);
                Err(Verdict::Refused(Box::new(refusal)))
            }
        }
    }

    /// Waits for the verdict. May be dropped and called again, until it has said something.
    async fn verdict(&mut self) -> Verdict {
        poll_fn(|cx| self.poll_verdict(cx)).await
    }

    fn poll_verdict(&mut self, cx: &Context<'_>) -> Poll<Verdict> {
        match &self.worker.identify {
            Some(door) => door.poll_verdict(self.ticket.waiter as usize, cx),
            None => Poll::Ready(Verdict::Draining),
        }
    }

    /// The client is still there and is told its verdict; the ticket, if that is to go.
    fn take(self) -> Option<Ticket> {
        let door = self.worker.identify.as_ref()?;
        let mut waiters = door.waiters.borrow_mut();
        let waiter = waiters.get_mut(self.ticket.waiter as usize)?;
        if !matches!(waiter.news, News::Verdict(Verdict::Go)) {
            return None;
        }
        // Otherwise it would be given back as unused.
        waiter.news = News::None(None);
        Some(self.ticket)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (worker, ticket) = (&self.worker, self.ticket);
        let Some(door) = &worker.identify else {
            return;
        };
        let waiter = door.waiters.borrow_mut().try_remove(ticket.waiter as usize);
        let verdict = match waiter.map(|waiter| waiter.news) {
            Some(News::Verdict(verdict)) => Some(verdict),
            Some(News::None(_)) | None => None,
        };
        match verdict {
            // Nothing of the answer was sent.
            Some(Verdict::Go) => call(worker, door, |queues| queues.unused(clock::now(), ticket)),
            Some(Verdict::Refused(_) | Verdict::Told(_)) => {}
            // Of one that went, the queue knows no more.
            Some(Verdict::Draining | Verdict::Moved) | None => {
                call(worker, door, |queues| queues.cancel(ticket));
            }
        }
        forget(door, ticket.bot);
    }
}

/// Forgets a bot's token if nobody waits for it.
fn forget(door: &Door, bot: u64) {
    let waiting = door.lock().waiting_of(bot);
    if waiting == 0 {
        door.tokens.borrow_mut().remove(&bot);
    }
}

/// What a client is told of a refusal.
fn refused(refusal: &Refusal) -> Reply<'static> {
    let wait = refusal.retry_after;
    match refusal.reason {
        Reason::TooLong => Reply::rate_limited(
            "the wait for this shard's turn would be longer than max_wait",
            wait,
            Scope::User,
        ),
        Reason::BotFull => Reply::rate_limited(
            "too many shards of this bot wait (GATEWAY_QUEUE_MAX_WAITING_PER_BOT)",
            wait,
            Scope::User,
        ),
        Reason::WaitingFull => {
            Reply::error(503, "too many shards wait (GATEWAY_QUEUE_MAX_WAITING)").retry_after(wait)
        }
        Reason::BotsFull => {
            Reply::error(503, "shards of too many bots wait (GATEWAY_QUEUE_MAX_BOTS)")
                .retry_after(wait)
        }
    }
}

/// What a client is told when weir ends.
const fn draining() -> Reply<'static> {
    Reply::error(503, "weir is shutting down").retry_after(reply::RESTART)
}

/// The longest that `?max_wait=` can ask for: a year, beyond which it is no bound.
const MAX_WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// What the query of a target asks for: the shard, 0 if it names none, and the longest wait. Of a name
/// that stands twice the last holds; what is no number says nothing.
fn query(target: &[u8]) -> (Option<u64>, Option<Duration>) {
    let (mut shard, mut max_wait) = (None, None);
    let query = target.splitn(2, |&byte| byte == b'?').nth(1);
    let query = query.unwrap_or_default();
    let query = query.split(|&byte| byte == b'#').next().unwrap_or_default();
    for pair in query.split(|&byte| byte == b'&') {
        let Ok(pair) = std::str::from_utf8(pair) else {
            continue;
        };
        match pair.split_once('=') {
            Some(("shard", value)) => shard = value.parse().ok(),
            Some(("max_wait", value)) => {
                let seconds = value.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0);
                let most = MAX_WAIT_MAX.as_secs_f64();
                max_wait = seconds.map(|seconds| Duration::from_secs_f64(seconds.min(most)));
            }
            _ => {}
        }
    }
    (shard, max_wait)
}

/// What a node adds to the query of a shard that it asks for, if another queue may have let some of its
/// bot go until now.
const CAREFUL: &str = "&careful=1";

/// Whether that stands there.
fn is_careful(target: &[u8]) -> bool {
    target.ends_with(CAREFUL.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_the_shard_and_the_longest_wait() {
        let seconds = |seconds| Some(Duration::from_secs_f64(seconds));
        for (target, expected) in [
            (&b"/"[..], (None, None)),
            (b"/?shard=42", (Some(42), None)),
            (b"?shard=42", (Some(42), None)),
            (b"http://queue/a/b?x=1&shard=7&y", (Some(7), None)),
            (b"/?shard=1&shard=2", (Some(2), None)),
            (b"/?shard=18446744073709551615", (Some(u64::MAX), None)),
            (b"/?shard=18446744073709551616", (None, None)),
            (b"/?shard=-1", (None, None)),
            (b"/?shard=abc&max_wait=1.5", (None, seconds(1.5))),
            (b"/?max_wait=0&shard=3", (Some(3), seconds(0.0))),
            (b"/?shard=3&max_wait=-1", (Some(3), None)),
            (b"/?shard=3&max_wait=NaN", (Some(3), None)),
            (b"/?shard=3&max_wait=inf", (Some(3), Some(MAX_WAIT_MAX))),
            (b"/?shard=3#shard=4", (Some(3), None)),
            (b"/shard=3", (None, None)),
            (b"/?\xff=1&shard=3", (Some(3), None)),
        ] {
            assert_eq!(query(target), expected, "{:?}", target.escape_ascii());
        }
    }
}
