//! One exchange on one connection: the request out, the answer back, both bodies streamed.
//!
//! ```text
//! client.inbuf ─▶ flight/encrypt ─▶ upstream          a body that came with its head: one write
//! client.inbuf ═▶ pump ═══════════▶ upstream          a longer one: beside the wait for the answer
//! client.outbuf ◀─ head, body ◀──── upstream.plain    head and what came with it: one write
//! ```
//!
//! Memory per exchange is these few pooled buffers, whatever the bodies' sizes: a side that cannot
//! send does not read.

use std::cell::Cell;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::conn::{Client, Next};
use super::elsewhere::{Patience, Word};
use super::pace::Pace;
use super::peers::Peer;
use super::proxy::Outcome;
use super::relay::{self, Head, Heard, Relayed};
use super::request::Request;
use super::wait::{First, first};
use super::{Worker, elsewhere, own, upload, wait};
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::error::{Error, Kind};
use crate::http1::{BodyTracker, CONTINUE, Parse, RequestHead, parse_request};
use crate::io::deadline::Armed;
use crate::io::socket::Half;
use crate::io::{Buf, Turn};
use crate::limit::{Answer, Verdict};
use crate::mesh::{Grant, Waiting};
use crate::upstream::Lease;
use crate::upstream::connection::Receiver;

/// Why an exchange gave the client no answer.
pub(super) enum Failure {
    /// A pooled connection turned out dead before a whole head of an answer, and sending again is
    /// safe. The upstream may have counted the request all the same, so it asks for a permit anew.
    Stale,
    /// A 429 that is absorbed: the request waits again.
    Limited(Waiting),
    /// The upstream gave no answer.
    Upstream(Error),
    /// The client is gone.
    Client,
}

/// Whom a request is sent to.
pub(super) enum Way<'p> {
    /// Discord, by this permit.
    Discord(Grant),
    /// The node that owns the request's identity, and asks for permits itself.
    Node(&'p Rc<Peer>),
}

impl<'p> Way<'p> {
    const fn node(&self) -> Option<&'p Rc<Peer>> {
        match self {
            Self::Discord(_) => None,
            Self::Node(peer) => Some(peer),
        }
    }

    /// See [`Grant::delayed`].
    pub(super) fn delayed(&mut self) {
        match self {
            Self::Discord(grant) => grant.delayed(),
            Self::Node(_) => {}
        }
    }

    fn departs(&mut self, now: Instant, whole: bool) {
        match self {
            Self::Discord(grant) => grant.departs(now, whole),
            Self::Node(_) => {}
        }
    }

    fn departed(&mut self) {
        match self {
            Self::Discord(grant) => grant.departed(),
            Self::Node(_) => {}
        }
    }
}

/// How often a request may still be sent again after a 429.
#[derive(Clone, Copy)]
pub(super) struct Retries {
    /// `RETRIES`.
    own: u32,
    /// For limits shared with others (`RETRY_SHARED`).
    shared: u32,
}

/// 429s for a shared resource that one request absorbs. disgo goes on for ever; ten waits of
/// Discord's choosing are more patience than any client has.
const SHARED_RETRIES_MAX: u32 = 10;

/// Bodies up to this size are kept so that they can be sent again; larger ones stream and are not.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The longest wait that a 429 may ask for and be absorbed, for requests without a bound of their own:
/// no client library's timeout is longer, and its user wants to be told of the rest.
const ABSORBED_WAIT_MAX: Duration = Duration::from_secs(60);

/// Room for the line that shows whose connection it is.
const PASS_LINE_ROOM: usize = 96;

impl Retries {
    /// What the configuration grants each request.
    pub(super) fn granted(config: &Config) -> Self {
        let shared = config.retries > 0 && config.retry_shared;
        Self {
            own: config.retries,
            shared: if shared { SHARED_RETRIES_MAX } else { 0 },
        }
    }

    /// Takes one for this answer, if it is one to absorb: it asks for no longer wait than its request
    /// allows.
    fn take(&mut self, answer: &Answer, max_wait: Option<Duration>) -> bool {
        if answer.retry_after() > Some(max_wait.unwrap_or(ABSORBED_WAIT_MAX)) {
            return false;
        }
        let left = match answer.verdict() {
            Verdict::Pass => return false,
            Verdict::Retry => &mut self.own,
            Verdict::RetryShared if self.shared > 0 => &mut self.shared,
            Verdict::RetryShared => &mut self.own,
        };
        let granted = *left > 0;
        *left = left.saturating_sub(1);
        granted
    }
}

/// The parts of a request that its attempts share.
pub(super) struct Exchange<'r> {
    request: &'r Request,
    /// The request's head, and the first of its body.
    flight: Buf,
    /// Where in the body the flight ends.
    body: BodyTracker,
    /// The flight is all of the request.
    kept: bool,
    /// The whole request has been written to the connection of this attempt. Not the same as the
    /// body having been read: its last bytes may still be on their way when an answer comes early.
    sent: bool,
    retries: Retries,
    /// Bytes of the head at the flight's front.
    head_len: usize,
    /// What the node that the request was sent to has said of it last.
    word: Cell<Word>,
}

impl<'r> Exchange<'r> {
    /// Takes as much of the body as is at hand into the first flight, so that a small request is
    /// one record and one write; and waits for the rest of one that is small enough to be kept.
    ///
    /// # Errors
    /// The body's framing is broken, or the client left.
    pub(super) async fn begin(
        worker: &Rc<Worker>,
        client: &mut Client,
        request: &'r Request,
        flight: Buf,
        way: &mut Way<'_>,
    ) -> Result<Self, Failure> {
        let mut exchange = Self {
            request,
            head_len: flight.len(),
            word: Cell::default(),
            flight,
            body: BodyTracker::new(request.framing),
            kept: false,
            sent: false,
            retries: Retries::granted(&worker.process.config),
        };
        exchange.take_body(client)?;
        if !exchange.body.done() {
            way.delayed();
            Box::pin(exchange.gather(worker, client)).await?;
        }
        exchange.kept = exchange.body.done();
        Ok(exchange)
    }

    /// Moves what the client has sent of the body into the flight.
    fn take_body(&mut self, client: &mut Client) -> Result<(), Failure> {
        let bytes = client.inbuf.as_slice();
        let progress = self
            .body
            .take(bytes)
            .map_err(|_| Failure::Upstream(Error::new(Kind::BadRequest)))?;
        self.flight.push(&bytes[..progress.consumed]);
        client.inbuf.consume(progress.consumed);
        Ok(())
    }

    /// Reads the rest of the body while it is small enough to be kept.
    async fn gather(&mut self, worker: &Rc<Worker>, client: &mut Client) -> Result<(), Failure> {
        let room = |exchange: &Self| KEPT_BYTES_MAX.saturating_sub(exchange.flight.len());
        let fits = |left: u64, room: usize| usize::try_from(left).is_ok_and(|left| left <= room);
        if self
            .body
            .remaining_hint()
            .is_some_and(|left| !fits(left, room(self)))
        {
            return Ok(());
        }
        if self.request.expect_continue && client.inbuf.is_empty() {
            self.meet_expectation(worker, client)
                .await
                .map_err(|_| Failure::Client)?;
        }
        let mut pace = Pace::new(&worker.process.config);
        let mut turn = Turn::default();
        while !self.body.done() && room(self) > 0 {
            turn.round().await;
            if !upload::read(worker, client, &mut pace).await {
                return Err(Failure::Client);
            }
            self.take_body(client)?;
        }
        Ok(())
    }

    async fn meet_expectation(
        &self,
        worker: &Rc<Worker>,
        client: &mut Client,
    ) -> std::io::Result<()> {
        client.outbuf.push(CONTINUE);
        client.flush(worker).await
    }

    /// Bytes of the body that the client has still to send, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.body.remaining_hint()
    }

    /// Whether a node that failed by `error` leaves the request to be sent elsewhere: all of it is kept,
    /// and Discord has not got it or may get it twice. A node that was still waiting for a limit, and
    /// whose system lives to say that it is gone, has sent nothing; not so one that was `let_go` from here,
    /// for it may yet wake up.
    pub(super) fn can_go_elsewhere(&self, error: &Error, let_go: bool) -> bool {
        let held = self.word.get() != Word::Nothing
            && !let_go
            && matches!(error.kind, Kind::ClosedBeforeAnswer | Kind::Reset);
        self.kept && (held || self.request.method.is_safe())
    }

    /// What the node that failed had said of the request.
    pub(super) const fn last_word(&self) -> Word {
        self.word.get()
    }

    /// The head, and what is kept of the body.
    pub(super) const fn flight(&self) -> &Buf {
        &self.flight
    }

    /// Makes the head one for somebody else: `write` is given the one it was and where the new one is to
    /// be written.
    pub(super) fn readdress(&mut self, write: impl FnOnce(&RequestHead<'_>, &mut Vec<u8>)) {
        let mut flight = Buf::new();
        let bytes = self.flight.as_slice();
        let (head, body) = bytes.split_at(self.head_len.min(bytes.len()));
        // It was written by the same rules; what cannot be read again stays as it is.
        if let Parse::Complete(head) = parse_request(head) {
            write(&head, flight.writable());
            self.head_len = flight.len();
            flight.push(body);
            self.flight = flight;
        }
    }

    /// Whether the request can be sent a second time although it may have been acted upon.
    fn repeatable(&self) -> bool {
        self.kept && self.request.method.is_safe()
    }

    /// If the answer is a 429 that its client is spared: how many bytes it has.
    fn absorbs(&mut self, head: &Head) -> Option<usize> {
        let whole = head.whole.filter(|_| self.kept && self.sent)?;
        let max_wait = self.request.ask.max_wait;
        self.retries.take(&head.answer, max_wait).then_some(whole)
    }

    /// Sends the request and relays its answer, whose head is put into `came`.
    ///
    /// # Errors
    /// See [`Failure`]. After the answer's head has gone to the client there is none: what fails
    /// then ends the client's connection.
    pub(super) async fn run(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        mut lease: Lease,
        mut way: Way<'_>,
        came: &mut Option<Head>,
    ) -> Result<(Outcome, Next), Failure> {
        let reused = lease.reused;
        let began = lease.since;
        *came = None;
        let sent = self
            .send(worker, client, &mut lease, &mut way, began, came)
            .await;
        match sent {
            Ok(()) => {}
            Err(Attempt::Client) => return Err(Failure::Client),
            Err(Attempt::Upstream(error)) => {
                if reused
                    && self.repeatable()
                    && matches!(error.kind, Kind::ClosedBeforeAnswer | Kind::Reset)
                {
                    return Err(Failure::Stale);
                }
                return Err(Failure::Upstream(error));
            }
        }
        let Some(head) = came else {
            return Err(Failure::Upstream(Error::new(Kind::ClosedBeforeAnswer)));
        };
        let mut now = clock::now();
        let took = now.saturating_duration_since(began);
        let peer = way.node();
        let home = peer.map_or(&worker.upstream, |peer| &peer.connections);
        if let Way::Discord(grant) = way {
            let absorbed = self.absorbs(head);
            worker.count_answer(&head.answer, absorbed.is_some());
            if let Some(whole) = absorbed {
                let took = now.nanos_since(began);
                worker.metrics().own.upstream.record(took);
                let tried = &self.request.tried_nanos;
                tried.set(tried.get() + took);
                lease.connection.split().1.plain().consume(whole);
                if head.keep_alive() && !self.request.may_be_followed_by_its_body() {
                    worker.upstream.give_back(lease, now);
                }
                return Err(match grant.requeue(&head.answer, self.request.ask) {
                    Some(waiting) => Failure::Limited(waiting),
                    None => Failure::Upstream(Error::new(Kind::Full)),
                });
            }
            if grant.report(&head.answer) {
                own::confirm(worker, &self.flight, self.request.ask.key.identity);
            }
        }
        let sent_whole = self.sent;
        let outcome = match peer {
            None => Outcome::Answered {
                status: head.answer.status,
                shared: head.is_shared(),
                took,
                lead_nanos: began.nanos_since(self.request.began),
            },
            Some(_) => Outcome::Relayed {
                status: head.answer.status,
                took,
            },
        };
        let goes_on = self.request.keep_alive
            && sent_whole
            && head.can_keep_alive()
            && !worker.process.is_draining();
        let (_, mut receiver) = lease.connection.split();
        let relayed =
            relay::answer(worker, client, &mut receiver, self.request, head, goes_on).await;
        let Ok(Relayed { clean, at_once }) = relayed else {
            return Ok((outcome, Next::Close));
        };
        if !at_once {
            now = clock::now();
        }
        let reusable = head.keep_alive() && !self.request.may_be_followed_by_its_body();
        if clean && sent_whole && reusable {
            home.give_back(lease, now);
        } else {
            drop(lease);
        }
        // The end of the answer: others have the connection before the client has it.
        if !client.outbuf.is_empty() && client.flush_from(worker, now).await.is_err() {
            return Ok((outcome, Next::Close));
        }
        let next = match (clean && goes_on, sent_whole) {
            (true, _) => Next::Request,
            (false, true) => Next::Close,
            (false, false) => Next::Linger,
        };
        Ok((outcome, next))
    }

    /// Sends head and body and waits for the answer's head. It is `now` that the first is sent.
    async fn send(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        lease: &mut Lease,
        way: &mut Way<'_>,
        now: Instant,
        came: &mut Option<Head>,
    ) -> Result<(), Attempt> {
        // A node has no deadline: one that is gone, or hangs, is found out otherwise.
        let armed = way.node().is_none().then(|| {
            let timeout = worker.process.config.request_timeout;
            // The guard borrows nothing: the descriptor outlives it in `lease`.
            worker
                .deadlines
                .arm(&lease.connection, Half::Both, now + timeout)
        });
        // Dropped before the lease, which its caller holds.
        let patience = way
            .node()
            .and_then(|_| Patience::of(&lease.connection, self.flight.len(), self.body.done()));
        self.sent = false;
        self.word.set(Word::Nothing);
        let fresh = !lease.reused;
        let (mut sender, mut receiver) = lease.connection.split();
        match (way.node(), &worker.peers) {
            (Some(peer), Some(peers)) if fresh => {
                // Behind the request line, where it is found whatever follows.
                let flight = self.flight.as_slice();
                let line = flight.windows(2).position(|end| end == b"\r\n");
                let (line, rest) = flight.split_at(line.map_or(0, |at| at + 2));
                let mut first = Vec::with_capacity(line.len() + PASS_LINE_ROOM);
                first.extend_from_slice(line);
                peers.pass(peer, &mut first);
                sender.queue(&first)?;
                sender.queue(rest)?;
            }
            _ => sender.queue(self.flight.as_slice())?,
        }
        way.departs(now, self.body.done());
        let flushed = match &patience {
            None => sender.flush().await,
            Some(_) => elsewhere::flush(worker, client, &mut sender).await?,
        };
        if let Err(error) = flushed {
            let expired = armed.is_some_and(Armed::expired);
            let error = timed_out(expired, Error::exchanging(error));
            let mut interim = Buf::new();
            let heard = self.heard(way);
            let head = relay::head_into(&mut interim, &mut receiver, heard, came);
            return Box::pin(last_word(head, error)).await;
        }
        if self.body.done() {
            self.sent = true;
            let heard = self.heard(way);
            let receiver = &mut receiver;
            return match armed {
                Some(armed) => {
                    in_time(armed, relay::head(worker, client, receiver, heard, came)).await
                }
                None => elsewhere::head(worker, client, receiver, heard, now, came).await,
            };
        }
        drop(armed);
        let untouched = self.flight.len() == self.head_len;
        if self.request.expect_continue && untouched && client.inbuf.is_empty() {
            let met = self.meet_expectation(worker, client).await;
            met.map_err(|_| Attempt::Client)?;
        }
        // Boxed: few requests come here, and their state would be part of every connection's task.
        Box::pin(self.stream(worker, client, sender, &mut receiver, way, came)).await
    }

    /// Sends the rest of a body while looking out for an answer that comes before its end.
    async fn stream(
        &mut self,
        worker: &Rc<Worker>,
        client: &mut Client,
        sender: crate::upstream::connection::Sender<'_>,
        receiver: &mut Receiver<'_>,
        way: &mut Way<'_>,
        came: &mut Option<Head>,
    ) -> Result<(), Attempt> {
        let mut interim = Buf::new();
        let fd = receiver.as_raw_fd();
        let timeout = worker.process.config.request_timeout;
        let heard = Heard {
            request: self.request,
            word: way.node().map(|_| &self.word),
        };
        let outcome = {
            let mut upload = Box::pin(upload::pump(
                worker,
                client,
                &mut self.body,
                sender,
                heard.word.is_some(),
            ));
            let mut head = pin!(relay::head_into(&mut interim, receiver, heard, came));
            match first(upload.as_mut(), head.as_mut()).await {
                First::Right(head) => head,
                First::Left(Ok(())) => {
                    drop(upload);
                    self.sent = true;
                    // An edge that collects bodies passes the request on, to be counted, from here.
                    way.departed();
                    match way {
                        Way::Discord(_) => {
                            let armed = worker.deadlines.arm_after(&fd, Half::Both, timeout);
                            in_time(armed, head).await
                        }
                        Way::Node(_) => {
                            let there = &mut wait::There::since(clock::now());
                            match there.meanwhile(worker, client, head).await {
                                Some(head) => head,
                                None => Err(elsewhere::left(worker, &fd)),
                            }
                        }
                    }
                }
                First::Left(Err(Attempt::Client)) => Err(Attempt::Client),
                // The upstream takes no more: perhaps because it has answered.
                First::Left(Err(Attempt::Upstream(error))) => last_word(head, error).await,
            }
        };
        client.outbuf.push(interim.as_slice());
        outcome
    }

    /// What is listened for in the answer.
    fn heard(&self, way: &Way<'_>) -> Heard<'_> {
        Heard {
            request: self.request,
            word: way.node().map(|_| &self.word),
        }
    }
}

/// The head that comes before `armed` ends the connection.
async fn in_time(
    armed: Armed,
    head: impl Future<Output = Result<(), Attempt>>,
) -> Result<(), Attempt> {
    let head = head.await;
    let expired = armed.expired();
    head.map_err(|attempt| attempt.timed_out(expired))
}

/// What an upstream that takes no more bytes, by `error`, has said before, if it has.
async fn last_word(
    head: impl Future<Output = Result<(), Attempt>>,
    error: Error,
) -> Result<(), Attempt> {
    match first(head, monoio::time::sleep(upload::LAST_WORD)).await {
        First::Left(Ok(())) => Ok(()),
        First::Left(Err(_)) | First::Right(()) => Err(Attempt::Upstream(error)),
    }
}

/// Why an attempt brought no head.
pub(super) enum Attempt {
    /// The client is gone, or broke its body's framing.
    Client,
    /// The upstream failed.
    Upstream(Error),
}

impl Attempt {
    /// The same, told apart from a deadline that ended it.
    fn timed_out(self, expired: bool) -> Self {
        match self {
            Self::Upstream(error) => Self::Upstream(timed_out(expired, error)),
            Self::Client => Self::Client,
        }
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Upstream(error)
    }
}

fn timed_out(expired: bool, error: Error) -> Error {
    if expired {
        Error::new(Kind::AnswerTimeout)
    } else {
        error
    }
}
