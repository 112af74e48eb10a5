//! One request from its head to the end of its answer: permit, connection, exchange, report.
//!
//! ```text
//! Request ─▶ permit (limiter: go | wait | refuse) ─▶ lease (pooled connection) ─▶ exchange
//!               ▲                                                                    │
//!               └── anew, for a fresh connection, if a pooled one was dead and it is safe;
//!                   or its own again, after a 429 that is absorbed ──────────────────┘
//! ```
//!
//! Whatever takes time between the permit and the first byte (the rest of a body to be kept, a place
//! among the connections, a dial) is told to the limiter, which times the permit by its departure.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::conn::{Client, Next};
use super::elsewhere::Notes;
use super::exchange::{Exchange, Failure, Way};
use super::look;
use super::peers::{Origin, Peer};
use super::request::Request;
use super::wait::{First, NoPermit};
use super::{Worker, elsewhere, own, reply, tale, wait};
use crate::clock::{self, Instant};
use crate::error::{Error, Kind};
use crate::http1::{BodyTracker, Reply};
use crate::io::Buf;
use crate::limit::{Reason, Refusal as AtLimit};
use crate::mesh::{Asked, Grant, Request as AskedFor, Waiting};
use crate::metrics::{OpenSlot, Refusal, Retry, SeriesKey};
use crate::upstream::Lease;

/// Serves one request; its head has been taken from the client's buffer.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    flight: Buf,
) -> Next {
    let open = Open::new(worker, request);
    tale::begins(worker, client, request);
    // A request that waits holds its head and no buffer beside.
    client.inbuf.release();
    #[cfg(feature = "planted-panics")]
    crate::io::planted::meet(flight.as_slice());
    let (outcome, next) = match &request.owner {
        None => answer(worker, client, request, flight).await,
        Some(peer) => elsewhere::answer(worker, client, request, flight, peer.clone()).await,
    };
    open.close(outcome);
    tale::ends(worker, client, request, outcome);
    next
}

/// A wait that was foretold is true within this, or within 5 %.
const FORETOLD_WITHIN: Duration = Duration::from_millis(50);

/// Told to a request whose wait grew too long for a reason that has no foretold end: another's answer,
/// which nearly always comes within the second.
const TOO_LONG: AtLimit = AtLimit {
    reason: Reason::TooLong,
    retry_after: Duration::from_secs(1),
};

/// What the metrics are told of a request.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// Discord answered, this long after the request was sent, which was so many nanoseconds after its
    /// head.
    Answered {
        status: u16,
        shared: bool,
        took: Duration,
        lead_nanos: u64,
    },
    /// Another node answered, this long after the request was sent there; it counts the rest.
    Relayed { status: u16, took: Duration },
    /// weir answered in Discord's place, or the client left before there was an answer.
    Unanswered,
}

async fn answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    flight: Buf,
) -> (Outcome, Next) {
    own::detect(worker, request, &flight);
    let asked = worker.local.ask(request.began, request.ask);
    if matches!(asked, Asked::Wait(_)) {
        look::name(worker, request, &flight);
    }
    let grant = match permit(worker, client, request, asked).await {
        Ok(grant) => grant,
        Err(NoPermit::Moved(peer)) => {
            return Box::pin(moved(worker, client, request, flight, peer)).await;
        }
        Err(none) => {
            if matches!(&none, NoPermit::Refused(why) if why.reason == Reason::Unauthorized) {
                look::name(worker, request, &flight);
            }
            return refused(worker, client, request, none, unread(request)).await;
        }
    };
    let mut way = Way::Discord(grant);
    match Exchange::begin(worker, client, request, flight, &mut way).await {
        Ok(exchange) => attempts(worker, client, request, exchange, way).await,
        Err(failure) => {
            drop(way);
            no_answer(worker, client, request, failure, None).await
        }
    }
}

/// Has another node serve a request that waited here until its identity became that node's.
async fn moved(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    flight: Buf,
    peer: Rc<Peer>,
) -> (Outcome, Next) {
    match Exchange::begin(worker, client, request, flight, &mut Way::Node(&peer)).await {
        Ok(exchange) => elsewhere::moved(worker, client, request, exchange, peer).await,
        Err(failure) => no_answer(worker, client, request, failure, None).await,
    }
}

/// Serves a request here whose owner failed.
pub(super) async fn here(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    exchange: Exchange<'_>,
) -> (Outcome, Next) {
    own::detect(worker, request, exchange.flight());
    let asked = worker.local.ask(clock::now(), request.ask);
    if matches!(asked, Asked::Wait(_)) {
        look::name(worker, request, exchange.flight());
    }
    match permit(worker, client, request, asked).await {
        Ok(grant) => attempts(worker, client, request, exchange, Way::Discord(grant)).await,
        Err(NoPermit::Moved(peer)) => {
            Box::pin(elsewhere::moved(worker, client, request, exchange, peer)).await
        }
        Err(none) => refused(worker, client, request, none, exchange.left()).await,
    }
}

/// Sends a request to Discord until there is an answer for the client.
async fn attempts(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    mut exchange: Exchange<'_>,
    mut way: Way<'_>,
) -> (Outcome, Next) {
    let mut fresh = false;
    // Here and not within what is moved about: it is the largest part of a request's state.
    let mut head = None;
    loop {
        let lease = match lease(worker, client, &mut way, fresh).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return (Outcome::Unanswered, Next::Close),
            Err(error) if error.kind == Kind::Draining && request.origin == Origin::Node => {
                drop(way);
                // Others live.
                let next = Box::pin(elsewhere::send_away(worker, client)).await;
                return (Outcome::Unanswered, next);
            }
            Err(error) => {
                drop(way);
                let failure = Failure::Upstream(error);
                return no_answer(worker, client, request, failure, exchange.left()).await;
            }
        };
        match exchange.run(worker, client, lease, way, &mut head).await {
            Ok(done) => return done,
            Err(failure) => {
                let asked;
                (asked, fresh) = match failure {
                    Failure::Stale => {
                        tracing::debug!(
                            id = %request.tale,
                            "sent again: the pooled connection had ended without an answer"
                        );
                        worker.metrics().own.retry(Retry::Stale);
                        (worker.local.ask(clock::now(), request.ask), true)
                    }
                    Failure::Limited(waiting) => {
                        tracing::debug!(id = %request.tale, "sent again when its limit allows: it drew a 429");
                        (Asked::Wait(waiting), false)
                    }
                    failure => {
                        return no_answer(worker, client, request, failure, exchange.left()).await;
                    }
                };
                way = match permit(worker, client, request, asked).await {
                    Ok(grant) => Way::Discord(grant),
                    Err(NoPermit::Moved(peer)) => {
                        let moved = elsewhere::moved(worker, client, request, exchange, peer);
                        return Box::pin(moved).await;
                    }
                    Err(none) => {
                        return refused(worker, client, request, none, exchange.left()).await;
                    }
                };
                request.tale.again();
            }
        }
    }
}

/// A connection to send on; `None` if its client left while there was none yet.
///
/// # Errors
/// See [`Upstream::lease`](crate::upstream::Upstream::lease).
async fn lease(
    worker: &Rc<Worker>,
    client: &Client,
    way: &mut Way<'_>,
    fresh: bool,
) -> Result<Option<Lease>, Error> {
    if !fresh && let Some(lease) = worker.upstream.at_hand(clock::now()).await {
        return Ok(Some(lease));
    }
    way.delayed();
    // If all are in use: at the cost of clients that hold one up.
    let full = worker.process.config.client_idle_timeout;
    let press = || worker.laggards.press(clock::now(), full);
    // Boxed: few requests come here, and its state would be part of every connection's task.
    let leased = wait::beside(client, worker.upstream.lease(fresh, press));
    // A dial that is given up is no loss.
    let leased = wait::first(leased, worker.refusing.heard());
    let (leased, left) = match Box::pin(leased).await {
        First::Left(leased) => leased,
        First::Right(()) => return Err(Error::new(Kind::Draining)),
    };
    let lease = leased.inspect_err(|error| {
        if error.kind == Kind::Full {
            worker.process.troubles.upstream_full();
        }
    })?;
    if left {
        worker.upstream.give_back(lease, clock::now());
        return Ok(None);
    }
    Ok(Some(lease))
}

/// The permit, after the wait for it if there is one.
async fn permit(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    mut asked: Asked,
) -> Result<Grant, NoPermit> {
    loop {
        let waiting = match asked {
            Asked::Go(grant) => {
                tracing::trace!(id = %request.tale, "its limits let it go");
                return Ok(grant);
            }
            Asked::Refuse(refusal) => return Err(NoPermit::Refused(refusal)),
            Asked::Wait(waiting) => waiting,
        };
        tracing::trace!(id = %request.tale, "waits for a limit");
        let counted = Waits::new(worker, request);
        // Boxed: most requests do not wait, and its state would be part of every
        // connection's task.
        let permit = Box::pin(noted(worker, client, request, waiting)).await;
        drop(counted);
        match permit {
            Err(NoPermit::Refused(refusal))
                if refusal.reason == Reason::Moved && request.origin != Origin::Node =>
            {
                let identity = request.ask.key.identity;
                let from_client = request.origin == Origin::Client;
                let peers = worker.peers.as_ref().filter(|_| from_client);
                if let Some(peer) = peers.and_then(|peers| peers.owner(identity)) {
                    return Err(NoPermit::Moved(peer));
                }
                // It has come back meanwhile, or the request is to be served here and nowhere else.
                asked = worker.local.ask(clock::now(), request.ask);
            }
            permit => return permit,
        }
    }
}

/// Waits for the permit, of which a node that relayed the request is told.
async fn noted(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    waiting: Waiting,
) -> Result<Grant, NoPermit> {
    let notes = Notes::of(request);
    if !notes.waits(worker, client).await {
        return Err(NoPermit::Gone);
    }
    let grant = in_time(worker, client, request, waiting).await?;
    if !notes.goes(worker, client).await {
        return Err(NoPermit::Gone);
    }
    Ok(grant)
}

/// Waits for the permit no longer than the request allows. It was let in because a shorter wait was
/// foretold; the limit may have turned out lower since, or a 429 have come.
async fn in_time(
    worker: &Rc<Worker>,
    client: &Client,
    request: &Request,
    waiting: Waiting,
) -> Result<Grant, NoPermit> {
    let Some(allowed) = request.ask.max_wait else {
        return wait::turn(client, waiting).await;
    };
    let until = request.began + allowed + allowed / 20 + FORETOLD_WITHIN;
    let left = until.saturating_duration_since(clock::now());
    let turn = wait::turn(client, waiting);
    match wait::first(turn, monoio::time::sleep(left)).await {
        First::Left(permit) => permit,
        First::Right(()) => {
            // Whoever came now would be told this.
            let ask = AskedFor {
                max_wait: Some(Duration::ZERO),
                ..request.ask
            };
            match worker.local.ask(clock::now(), ask) {
                Asked::Go(grant) => Ok(grant),
                Asked::Refuse(refusal) => Err(NoPermit::Refused(refusal)),
                // No wait is foretold, but it may be for an answer that does not come.
                Asked::Wait(waiting) => {
                    let turn = wait::turn(client, waiting);
                    match wait::first(turn, monoio::time::sleep(FORETOLD_WITHIN)).await {
                        First::Left(permit) => permit,
                        First::Right(()) => Err(NoPermit::Refused(TOO_LONG)),
                    }
                }
            }
        }
    }
}

/// What becomes of a request without a permit.
async fn refused(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    none: NoPermit,
    left: Option<u64>,
) -> (Outcome, Next) {
    match none {
        NoPermit::Left => {
            worker.count_lost_client(false);
            (Outcome::Unanswered, Next::Close)
        }
        // Counted where it was noticed.
        NoPermit::Gone => (Outcome::Unanswered, Next::Close),
        NoPermit::Refused(refusal)
            if request.origin == Origin::Node && refusal.reason == Reason::Draining =>
        {
            // Others live.
            let next = Box::pin(elsewhere::send_away(worker, client)).await;
            (Outcome::Unanswered, next)
        }
        NoPermit::Refused(refusal)
            if request.origin == Origin::Node && refusal.reason == Reason::Moved =>
        {
            let next = Box::pin(elsewhere::send_back(
                worker,
                client,
                request.ask.key.identity,
            ))
            .await;
            (Outcome::Unanswered, next)
        }
        // Taken there before it comes here.
        NoPermit::Moved(_) => {
            let reply = reply::refused(TOO_LONG);
            own_answer(worker, client, request, reply, left).await
        }
        NoPermit::Refused(refusal) => {
            let counted = worker.count_refusal(refusal.reason);
            request.tale.because(counted.label());
            let troubles = &worker.process.troubles;
            troubles.refused(refusal.reason, request.sender, request.label.as_str());
            own_answer(worker, client, request, reply::refused(refusal), left).await
        }
    }
}

/// Counts a request as waiting until dropped.
struct Waits<'r> {
    worker: &'r Rc<Worker>,
    request: &'r Request,
    since: Instant,
}

impl<'r> Waits<'r> {
    fn new(worker: &'r Rc<Worker>, request: &'r Request) -> Self {
        let mut metrics = worker.metrics();
        metrics.own.waiting += 1;
        metrics.own.waited += 1;
        drop(metrics);
        Self {
            worker,
            request,
            since: clock::now(),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waited = &self.request.waited_nanos;
        waited.set(waited.get() + clock::now().nanos_since(self.since));
        tracing::trace!(
            id = %self.request.tale,
            waited_ms = tale::ms_since(self.since),
            "waits no more"
        );
        self.worker.metrics().own.waiting -= 1;
    }
}

/// What becomes of a request that got no answer.
pub(super) async fn no_answer(
    worker: &Rc<Worker>,
    client: &mut Client,
    request: &Request,
    failure: Failure,
    left: Option<u64>,
) -> (Outcome, Next) {
    let error = match failure {
        // Counted where it was noticed.
        Failure::Client => return (Outcome::Unanswered, Next::Close),
        Failure::Upstream(error) => error,
        // Both are taken up again before they come here.
        Failure::Stale | Failure::Limited(_) => Error::new(Kind::ClosedBeforeAnswer),
    };
    tracing::debug!(id = %request.tale, %error, "no answer from the upstream");
    request.tale.because(error.kind.label());
    {
        let mut metrics = worker.metrics();
        metrics.own.fail(error.kind);
        if error.kind == Kind::Draining {
            worker.process.unserved.fetch_add(1, Ordering::Relaxed);
        }
        if error.kind == Kind::BadRequest {
            metrics.own.refuse(Refusal::Malformed);
        } else {
            metrics.requests.record_error();
        }
    }
    own_answer(worker, client, request, reply::failed(&error), left).await
}

/// Bytes of a body of which nothing has been taken yet.
fn unread(request: &Request) -> Option<u64> {
    BodyTracker::new(request.framing).remaining_hint()
}

/// Answers in Discord's place. The connection goes on only if the `left` bytes of the request's
/// body have come.
pub(super) async fn own_answer(
    worker: &Worker,
    client: &mut Client,
    request: &Request,
    reply: Reply<'_>,
    left: Option<u64>,
) -> (Outcome, Next) {
    let left = left.and_then(|left| usize::try_from(left).ok());
    let body_is_read = left.is_some_and(|left| left <= client.inbuf.len());
    if let (true, Some(left)) = (body_is_read, left) {
        client.inbuf.consume(left);
    }
    let goes_on = request.keep_alive && body_is_read && !worker.process.is_draining();
    request.tale.answered(reply.status());
    let id = request.tale.id();
    let reply = reply
        .version(request.version)
        .keep_alive(goes_on)
        .request_id(id.as_deref());
    let sent = reply::send(worker, client, &reply, request.wants_head_only()).await;
    let next = match (sent, goes_on, body_is_read) {
        (Err(_), ..) => Next::Close,
        (Ok(()), true, _) => Next::Request,
        (Ok(()), false, true) => Next::Close,
        (Ok(()), false, false) => Next::Linger,
    };
    (Outcome::Unanswered, next)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts a request as open until it is closed, even if its task panics or is dropped.
struct Open<'r> {
    worker: &'r Rc<Worker>,
    request: &'r Request,
    /// `None` once closed.
    slot: Option<OpenSlot>,
}

impl<'r> Open<'r> {
    fn new(worker: &'r Rc<Worker>, request: &'r Request) -> Self {
        let label = || request.label.as_str().to_owned();
        let method = request.method.as_str();
        let slot = worker
            .metrics()
            .requests
            .open(method, request.label_key, label);
        Self {
            worker,
            request,
            slot: Some(slot),
        }
    }

    fn close(mut self, outcome: Outcome) {
        let request = self.request;
        let mut metrics = self.worker.metrics();
        if let Some(slot) = self.slot.take() {
            metrics.requests.close(slot);
        }
        match outcome {
            Outcome::Answered {
                status,
                shared,
                took,
                lead_nanos,
            } => {
                let (waited, tried) = (request.waited_nanos.get(), request.tried_nanos.get());
                let own = &mut metrics.own;
                own.queue_wait.record(waited);
                own.added.record(lead_nanos.saturating_sub(waited + tried));
                own.upstream.record(nanos(took));
                let key = SeriesKey {
                    method: request.method.as_str(),
                    status,
                    shared,
                    route: request.label_key,
                    client: request.sender.key(),
                };
                let labels = || {
                    (
                        request.label.as_str().to_owned(),
                        request.sender.to_string(),
                    )
                };
                metrics.requests.record(key, labels, took);
            }
            Outcome::Relayed { took, .. } => metrics.own.relay.answered(took),
            // Refused at once, or after a wait that came to nothing.
            Outcome::Unanswered if request.waited_nanos.get() > 0 => {
                metrics.own.queue_wait.record(request.waited_nanos.get());
            }
            Outcome::Unanswered => {}
        }
        self.worker.publish(&mut metrics);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.worker.metrics().requests.close(slot);
        }
    }
}
