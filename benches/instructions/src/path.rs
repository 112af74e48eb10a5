//! The request path without its sockets: what a worker computes between the bytes of a request and
//! the bytes of its answer, in the order in which it does (`worker::{conn, request, proxy, exchange,
//! relay}`), under virtual time.

use std::hint::black_box;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use weir::clock::Instant;
use weir::http1::{
    BodyTracker, ClientSide, Method, Parse, RequestHead, ResponseHead, parse_request,
    parse_response,
};
use weir::limit::{
    Answer, Ask, ClientClass, Decision, Latch, Latches, Limiter, Output, Outputs, Permit, Settings,
    Ticket,
};
use weir::metrics::{Counters, SeriesKey, Table};
use weir::route::identity::{self, Client};
use weir::route::{Keys, RouteText, classify, key};

use crate::heads;

/// Buckets that requests go to in turn: with [`STEP`], each is asked again when its 5 s are over.
pub(crate) const BUCKETS: usize = 128;
/// From one request to the next.
const STEP: Duration = Duration::from_millis(50);
/// From a request to its answer; shorter than [`STEP`], so that time never goes back.
const ANSWERED_AFTER: Duration = Duration::from_millis(40);
/// Between a request's head and its first byte to Discord.
const ADDED_NANOS: u64 = 30_000;
/// When the first request comes, on both clocks.
const BEGIN: Instant = Instant::from_millis(1_000_000);
const BEGIN_UNIX_MS: u64 = 1_767_225_600_000;
const SEEDS: [u64; 4] = [1, 2, 3, 4];
const UPSTREAM: &[u8] = b"discord.com";

/// The mutexes of production (`mesh::shards`).
pub(crate) enum Locks {}

pub(crate) struct Locked<T>(Mutex<T>);

impl Latches for Locks {
    type Latch<T> = Locked<T>;
}

impl<T> Latch<T> for Locked<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// When operation `at` begins.
pub(crate) fn begin(at: usize) -> Instant {
    BEGIN + STEP * at as u32
}

fn unix_ms(now: Instant) -> u64 {
    BEGIN_UNIX_MS + now.saturating_duration_since(BEGIN).as_millis() as u64
}

/// The channel of operation `at`.
pub(crate) fn channel(at: usize) -> u64 {
    203_039_963_636_301_824 + (at % BUCKETS) as u64 * 4_194_304
}

/// The answer to operation `at`.
pub(crate) fn answer(at: usize, remaining: u16) -> Vec<u8> {
    heads::answer(heads::Limits {
        remaining,
        // As the server sees it, half way.
        reset_ms: unix_ms(begin(at)) + ANSWERED_AFTER.as_millis() as u64 / 2 + 5_000,
    })
}

/// A request head that is whole.
pub(crate) fn read_request(bytes: &[u8]) -> RequestHead<'_> {
    match parse_request(black_box(bytes)) {
        Parse::Complete(head) => head,
        other => panic!("{other:?}"),
    }
}

/// A response head that is whole.
pub(crate) fn read_answer(bytes: &[u8], method: Method) -> ResponseHead<'_> {
    match parse_response(black_box(bytes), method) {
        Parse::Complete(head) => head,
        other => panic!("{other:?}"),
    }
}

/// What the limiter is told of an answer.
pub(crate) fn learn(head: &ResponseHead<'_>) -> Answer {
    let mut answer = Answer::new(head.status);
    for (name, value) in head.headers() {
        answer.header(name, value);
    }
    answer
}

/// What a request's path and sender say.
#[derive(Clone)]
pub(crate) struct Asker {
    ask: Ask,
    label: RouteText,
    label_key: u64,
    sender: Client,
}

/// A worker's state.
pub(crate) struct Worker {
    keys: Keys,
    limiter: Limiter<Locks>,
    out: Outputs,
    /// When the shard has to be ticked.
    due: Instant,
    table: Table,
    own: Counters,
    /// The bytes that go to the upstream, and to the client.
    upstream: Vec<u8>,
    client: Vec<u8>,
}

impl Worker {
    pub(crate) fn new() -> Self {
        Self {
            keys: Keys::with_seeds(SEEDS),
            limiter: Limiter::new(&Settings::default(), 1),
            out: Outputs::new(),
            due: Instant::FAR,
            table: Table::with_seeds(SEEDS),
            own: Counters::default(),
            upstream: Vec::with_capacity(20 * 1024),
            client: Vec::with_capacity(20 * 1024),
        }
    }

    /// Reads whose limits the request falls under, and which.
    pub(crate) fn route(&self, head: &RequestHead<'_>, now: Instant) -> Asker {
        let mut label = RouteText::default();
        let (target, method) = (black_box(head.target), black_box(head.method_bytes));
        let route = classify(method, target, unix_ms(now), &mut label);
        let sender = identity::parse(black_box(head.authorization));
        let bucket = self.keys.bucket_key(&route, &sender, method);
        let label_key = self.keys.label_key(route.label);
        let user_id = match sender.kind {
            identity::Kind::Bot { user_id } => user_id,
            other => panic!("{other:?}"),
        };
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: 0,
                generation: 0,
            },
            key: bucket,
            client: ClientClass::Bot { user_id },
            counts_globally: key::counts_globally(&route),
            serial: !head.method.is_safe(),
            max_wait: None,
        };
        Asker {
            ask,
            label,
            label_key,
            sender: sender.client(),
        }
    }

    /// Writes the head for the upstream.
    pub(crate) fn rewrite_request(&mut self, head: &RequestHead<'_>) {
        self.upstream.clear();
        black_box(head).encode(black_box(UPSTREAM), &mut self.upstream);
        black_box(&self.upstream);
    }

    /// Writes the head for the client.
    pub(crate) fn rewrite_answer(&mut self, head: &ResponseHead<'_>, request: &RequestHead<'_>) {
        self.client.clear();
        let side = ClientSide {
            version: request.version,
            keep_alive: request.keep_alive && head.keep_alive,
        };
        let relay = black_box(head).encode(side, &mut self.client);
        assert!(relay.keep_alive && !relay.dechunk);
        black_box(&self.client);
    }

    fn acquire(&mut self, now: Instant, ask: &Ask) -> Permit {
        match self.limiter.acquire(now, black_box(ask), &mut self.out) {
            Decision::Go(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    /// The limiter's part of an exchange: asks, departs, reports, and the ticks that come due.
    pub(crate) fn limit(&mut self, at: usize, asker: &Asker, answer: &Answer) {
        let now = begin(at);
        self.tick(now);
        let mut permit = self.acquire(now, &asker.ask);
        self.limiter.departs(now, &mut permit, true, &mut self.out);
        let answered = now + ANSWERED_AFTER;
        self.limiter
            .report(answered, permit, black_box(answer), &mut self.out);
        self.settle();
    }

    /// Two requests of one bucket that change something: the second waits for the first's answer,
    /// and gets its permit with it.
    pub(crate) fn limit_two(&mut self, at: usize, asker: &Asker, answers: &[Answer; 2]) {
        let now = begin(at);
        self.tick(now);
        let first = self.acquire(now, &asker.ask);
        let mut ask = asker.ask;
        ask.ticket.generation = at as u32;
        let waits = self.limiter.acquire(now, black_box(&ask), &mut self.out);
        assert!(matches!(waits, Decision::Wait));
        let half_way = now + ANSWERED_AFTER / 2;
        self.limiter
            .report(half_way, first, black_box(&answers[0]), &mut self.out);
        let second = self.settle().expect("it was its turn");
        self.limiter.report(
            now + ANSWERED_AFTER,
            second,
            black_box(&answers[1]),
            &mut self.out,
        );
        self.settle();
    }

    /// Ticks the shard if it is time, as `mesh::Local::turn` does.
    fn tick(&mut self, now: Instant) {
        if now >= self.due {
            self.limiter.tick(now, 0, &mut self.out);
            self.due = self.limiter.next_deadline(0).unwrap_or(Instant::FAR);
            self.settle();
        }
    }

    /// Does what the limiter wants done; the permit of a request that waited, if there is one.
    fn settle(&mut self) -> Option<Permit> {
        let mut granted = None;
        while let Some(output) = self.out.pop() {
            match output {
                Output::Deadline { at, .. } => self.due = self.due.min(at),
                Output::Go { permit, .. } => granted = Some(permit),
                other => panic!("{other:?}"),
            }
        }
        granted
    }

    /// Counts a request as open, and its end and its answer.
    pub(crate) fn measure(&mut self, asker: &Asker, method: Method, status: u16) {
        let label = || asker.label.as_str().to_owned();
        let open = self
            .table
            .open(method.as_str(), black_box(asker.label_key), label);
        self.table.close(open);
        let key = SeriesKey {
            method: method.as_str(),
            status,
            shared: false,
            route: asker.label_key,
            client: asker.sender.key(),
        };
        let labels = || (label(), asker.sender.to_string());
        let took = black_box(ANSWERED_AFTER);
        self.table.record(key, labels, took);
        self.own.queue_wait.record(black_box(0));
        self.own.added.record(black_box(ADDED_NANOS));
        self.own.upstream.record(took.as_nanos() as u64);
    }

    /// All of it for one request, whose whole `answer` comes in one piece.
    pub(crate) fn exchange(&mut self, at: usize, request: &[u8], answer: &[u8]) {
        let head = read_request(request);
        let asker = self.route(&head, begin(at));
        self.rewrite_request(&head);
        let body = &request[head.len..];
        let taken = BodyTracker::new(head.framing).take(body);
        self.upstream
            .extend_from_slice(&body[..taken.map_or(0, |progress| progress.consumed)]);
        black_box(&self.upstream);

        let answer_head = read_answer(answer, head.method);
        let learned = learn(&answer_head);
        let outline = answer_head.outline();
        self.limit(at, &asker, &learned);
        let answer_head = black_box(outline).over(answer);
        self.rewrite_answer(&answer_head, &head);
        let body = &answer[answer_head.len..];
        let taken = BodyTracker::new(answer_head.framing).take(body);
        self.client
            .extend_from_slice(&body[..taken.map_or(0, |progress| progress.consumed)]);
        black_box(&self.client);
        self.measure(&asker, head.method, answer_head.status);
    }
}
