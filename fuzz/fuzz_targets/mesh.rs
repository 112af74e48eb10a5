//! Any sequence of operations of two workers on one mesh, over few keys and with hostile answers.
//! What is compiled here is the source of `weir::mesh` itself, against a clock that the fuzzer
//! turns and an alarm that only notes when it would ring; so time is part of the input, and the
//! workers' turns come in any order that mail and deadlines allow.
//!
//! - Whoever has a verdict has been woken: a request that asks again unwoken finds nothing new.
//! - A worker with mail has been woken, and when it sleeps it sleeps to its shard's deadline.
//! - Driven by these wakes alone, every request that waits gets its verdict, on whatever worker.
//! - Of requests of one key that change something, one at a time goes, whichever worker sends it.
//! - Nobody waits on a worker that drains.
//! - No refusal names a wait beyond [`WAIT_MAX`].
//! - When all is given back nobody waits and nothing is under way: a permit whose client left
//!   while it was in the mail is not lost.
//!
//! # Input
//! Text that can be written by hand, as for the target `limiter`: a letter for the operation, then
//! a digit for each choice. The first two digits are the caps and the flags. A choice among
//! requests counts from the oldest, around.

#![no_main]

mod limiter_answer;
#[path = "../../src/mesh/mod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "it is written for other callers, in a library"
)]
mod mesh;

/// Stands for `weir::clock` in the mesh's source.
mod clock {
    use std::cell::Cell;
    pub(crate) use weir::clock::Instant;

    thread_local!(static NOW: Cell<Instant> = const { Cell::new(Instant::ZERO) });

    pub(crate) fn now() -> Instant {
        NOW.get()
    }

    pub(crate) fn turn_to(now: Instant) {
        NOW.set(now);
    }
}

/// Stands for `weir::io` in the mesh's source.
mod io {
    pub(crate) mod deadline {
        use crate::clock::Instant;
        use std::cell::Cell;

        /// The alarm of a worker's one sleep, with the same rules and without a sleep.
        #[derive(Default)]
        pub(crate) struct Alarm {
            /// When the worker wakes by itself; zero while it is awake.
            pub(crate) at: Cell<Instant>,
            pub(crate) rung: Cell<bool>,
        }

        impl Alarm {
            pub(crate) fn ring_at(&self, at: Instant) {
                if at < self.at.get() {
                    self.rung.set(true);
                }
            }
        }
    }

    pub(crate) mod guard {
        /// A panic ends the whole run here, half-way through the limiter or not.
        pub(crate) fn undivided<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
    }
}

use clock::Instant;
use io::deadline::Alarm;
use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use limiter_answer::{Digits, Reply};
use mesh::{Asked, Grant, Local, Mesh, Request, Waiting};
use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use weir::limit;
use weir::limit::{BucketKey, ClientClass, Refusal, Settings, Verdict};
use weir::metrics;

const WORKERS: usize = 2;
/// More operations find nothing that these do not, and cost time.
const OPS_MAX: usize = 256;
/// Turns of workers within which everybody who waits has a verdict, once all is given back.
const TURNS_MAX: usize = 100_000;
/// Every operation may have put one request in front, each for the longest window of the answers.
const WAIT_MAX: Duration = Duration::from_secs(600 * (OPS_MAX as u64 + 1));
/// Steps of time: below and above the limiter's own (4 ms), windows, idle times.
const STEPS_MS: [u64; 8] = [0, 1, 5, 50, 400, 1_500, 30_000, 700_000];

/// One thing that happens.
#[derive(Debug)]
enum Op {
    /// `a`, worker, identity, major, route, changes something, patience
    Ask([usize; 6]),
    /// `h`, request: it looks for its verdict, woken or not
    Look(usize),
    /// `c`, request: its client leaves while it waits
    Leave(usize),
    /// `r`, request, reply
    Report(usize, Reply),
    /// `p`, request, reply: put back, if the limiter knows when it may go again
    Requeue(usize, Reply),
    /// `n`, request: no answer
    Drop(usize),
    /// `o`, request, how much: it waits for a connection, begins to go, goes whole, has gone
    Departs(usize, usize),
    /// `t`, step: workers turn whenever they are woken
    Time(usize),
    /// `l`, step: they are late, whatever wakes them
    Late(usize),
    /// `k`, worker: a turn that nobody asked for
    Turn(usize),
    /// `v`, worker, identity, valid
    Confirmed(usize, usize, bool),
    /// `g`, worker, identity, limit
    GlobalLimit(usize, usize, usize),
    /// `e`, worker: it drains, and refuses all that wait there and will wait
    RefuseWaiting(usize),
}

impl Arbitrary<'_> for Op {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        // The low half of the letter's byte, so that nearly every byte is an operation.
        Ok(match u.letter()? & 15 {
            2 => Self::Report(u.digit(12)?, Reply::arbitrary(u)?),
            3 => Self::Leave(u.digit(12)?),
            4 | 13 => Self::Time(u.digit(8)?),
            12 => Self::Late(u.digit(8)?),
            11 => Self::Turn(u.digit(2)?),
            6 => Self::Confirmed(u.digit(2)?, u.digit(6)?, u.digit(2)? > 0),
            7 => Self::GlobalLimit(u.digit(2)?, u.digit(6)?, u.digit(8)?),
            5 => Self::RefuseWaiting(u.digit(2)?),
            14 => Self::Drop(u.digit(12)?),
            15 => Self::Departs(u.digit(12)?, u.digit(4)?),
            0 => Self::Requeue(u.digit(12)?, Reply::arbitrary(u)?),
            8 | 10 => Self::Look(u.digit(12)?),
            _ => Self::Ask([
                u.digit(2)?,
                u.digit(6)?,
                u.digit(2)?,
                u.digit(4)?,
                u.digit(2)?,
                u.digit(3)?,
            ]),
        })
    }
}

#[derive(Debug)]
struct Scenario {
    settings: Settings,
    ops: Vec<Op>,
}

impl Arbitrary<'_> for Scenario {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        let (caps, flags) = (u.digit(3)?, u.digit(4)?);
        let mut settings = Settings {
            allow_concurrent: flags & 1 != 0,
            disable_401_lock: flags & 2 != 0,
            ..Settings::default()
        };
        match caps {
            0 => {}
            1 => {
                settings.global_default = 2;
                settings.waiting_per_bucket_max = 2;
                settings.waiting_max = 4;
            }
            _ => {
                settings.global_default = 1;
                settings.buckets_max = 2;
                settings.identities_max = 2;
                settings.max_bearers = 1;
            }
        }
        let mut ops = Vec::new();
        while !u.is_empty() && ops.len() < OPS_MAX {
            ops.push(Op::arbitrary(u)?);
        }
        Ok(Self { settings, ops })
    }
}

fuzz_target!(|scenario: Scenario| {
    let mut world = World::new(&scenario.settings);
    for op in &scenario.ops {
        world.step(op);
    }
    world.come_to_rest();
});

/// Whether somebody was woken since it last looked.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Woken {
    fn look(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

struct Worker {
    local: Rc<Local>,
    alarm: Rc<Alarm>,
    by_mail: Arc<Woken>,
}

impl Worker {
    /// When it has something to do.
    fn wakes(&self, now: Instant) -> Instant {
        let waker = Waker::from(self.by_mail.clone());
        let woken = self.by_mail.0.load(Ordering::Relaxed);
        assert!(!self.local.wake_by(&waker) || woken, "mail, and it sleeps");
        if woken || self.alarm.rung.get() {
            now
        } else {
            self.alarm.at.get()
        }
    }

    fn turn(&self) {
        self.alarm.at.set(Instant::ZERO);
        self.alarm.rung.set(false);
        self.by_mail.look();
        let next = self.local.turn(clock::now());
        assert!(
            next.is_none_or(|at| at > clock::now()),
            "a deadline in the past"
        );
        self.alarm.at.set(next.unwrap_or(Instant::FAR));
        let waker = Waker::from(self.by_mail.clone());
        assert!(!self.local.wake_by(&waker), "nobody else has put mail in");
    }
}

struct Queued {
    waiting: Waiting,
    worker: usize,
    request: Request,
    woken: Arc<Woken>,
}

impl Queued {
    fn look(&mut self) -> Option<Result<Grant, Refusal>> {
        let woken = self.woken.look();
        let waker = Waker::from(self.woken.clone());
        match pin!(self.waiting.verdict()).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => None,
            Poll::Ready(verdict) => {
                assert!(woken, "a verdict that woke nobody");
                Some(verdict)
            }
        }
    }
}

struct World {
    mesh: Arc<Mesh>,
    workers: Vec<Worker>,
    one_at_a_time: bool,
    asked: u32,
    /// By number, so oldest first.
    queued: BTreeMap<u32, Queued>,
    under_way: BTreeMap<u32, (usize, Request, Grant)>,
    draining: [bool; WORKERS],
}

impl World {
    fn new(settings: &Settings) -> Self {
        clock::turn_to(Instant::from_millis(1_000));
        let mesh = Mesh::new(settings, WORKERS);
        let worker = |number| {
            let alarm = Rc::new(Alarm::default());
            Worker {
                local: Local::new(mesh.clone(), number, alarm.clone()),
                alarm,
                by_mail: Arc::default(),
            }
        };
        let workers: Vec<_> = (0..WORKERS).map(worker).collect();
        workers.iter().for_each(Worker::turn);
        Self {
            mesh,
            workers,
            one_at_a_time: !settings.allow_concurrent,
            asked: 0,
            queued: BTreeMap::new(),
            under_way: BTreeMap::new(),
            draining: [false; WORKERS],
        }
    }

    fn step(&mut self, op: &Op) {
        let now = clock::now();
        match op {
            Op::Ask(choices) => self.ask(choices),
            Op::Look(which) => {
                if let Some(number) = choose(&self.queued, *which) {
                    self.look(number);
                }
            }
            Op::Leave(which) => {
                if let Some(number) = choose(&self.queued, *which) {
                    self.queued.remove(&number);
                }
            }
            Op::Report(which, reply) => {
                if let Some((.., grant)) = self.take_under_way(*which) {
                    grant.report(&reply.answer(now));
                }
            }
            Op::Requeue(which, reply) => {
                let answer = reply.answer(now);
                if answer.verdict() == Verdict::Pass {
                    return;
                }
                if let Some((worker, request, grant)) = self.take_under_way(*which) {
                    let waiting = grant.requeue(&answer, request).expect("it had a permit");
                    self.waits(worker, request, waiting);
                }
            }
            Op::Drop(which) => drop(self.take_under_way(*which)),
            Op::Departs(which, part) => {
                let number = choose(&self.under_way, *which);
                if let Some((.., grant)) = number.and_then(|n| self.under_way.get_mut(&n)) {
                    match part {
                        0 => grant.delayed(),
                        1 => grant.departs(now, false),
                        2 => grant.departs(now, true),
                        _ => grant.departed(),
                    }
                }
            }
            Op::Time(step) => self.pass_time(now + Duration::from_millis(STEPS_MS[*step])),
            Op::Late(step) => clock::turn_to(now + Duration::from_millis(STEPS_MS[*step])),
            Op::Turn(worker) => self.workers[*worker].turn(),
            Op::Confirmed(worker, identity, valid) => {
                let worker = &self.workers[*worker];
                worker.local.confirmed(*identity as u64, *valid);
            }
            Op::GlobalLimit(worker, identity, limit) => {
                let (identity, limit) = (*identity as u64, 1 + *limit as u32 * 3);
                self.workers[*worker]
                    .local
                    .set_global_limit(identity, limit);
            }
            Op::RefuseWaiting(worker) => {
                let retry_after = Duration::from_secs(1);
                self.workers[*worker].local.refuse_waiting(retry_after);
                self.draining[*worker] = true;
            }
        }
    }

    fn ask(&mut self, &[worker, identity, major, route, serial, patience]: &[usize; 6]) {
        let client = match identity {
            0 | 1 => ClientClass::Bot {
                user_id: Some(identity as u64),
            },
            2 => ClientClass::Bearer,
            3 => ClientClass::Anonymous,
            4 => ClientClass::Webhook { id: None },
            _ => ClientClass::Interaction,
        };
        let request = Request {
            key: BucketKey {
                identity: identity as u64,
                major: major as u64,
                route: route as u64,
            },
            client,
            counts_globally: !matches!(
                client,
                ClientClass::Webhook { .. } | ClientClass::Interaction
            ),
            serial: serial > 0,
            max_wait: [None, Some(Duration::ZERO), Some(Duration::from_secs(2))][patience],
        };
        match self.workers[worker].local.ask(clock::now(), request) {
            Asked::Go(grant) => {
                self.asked += 1;
                self.goes(self.asked, worker, request, grant);
            }
            Asked::Wait(waiting) => self.waits(worker, request, waiting),
            Asked::Refuse(refusal) => check_refusal(&refusal),
        }
    }

    /// A request waits, and looks at once.
    fn waits(&mut self, worker: usize, request: Request, waiting: Waiting) {
        self.asked += 1;
        let queued = Queued {
            waiting,
            worker,
            request,
            // It has not slept yet.
            woken: Arc::new(Woken(true.into())),
        };
        self.queued.insert(self.asked, queued);
        self.look(self.asked);
        let waits = self.queued.contains_key(&self.asked);
        assert!(!waits || !self.draining[worker], "it drains");
    }

    fn look(&mut self, number: u32) {
        let queued = self.queued.get_mut(&number).expect("it waits");
        let Some(verdict) = queued.look() else {
            return;
        };
        let queued = self.queued.remove(&number).expect("it waits");
        match verdict {
            Ok(grant) => self.goes(number, queued.worker, queued.request, grant),
            Err(refusal) => check_refusal(&refusal),
        }
    }

    /// A request has its permit.
    fn goes(&mut self, number: u32, worker: usize, request: Request, grant: Grant) {
        if self.one_at_a_time && request.serial {
            let mut others = self.under_way.values();
            let other = others.find(|(_, other, _)| other.serial && other.key == request.key);
            assert!(other.is_none(), "another is under way beside {request:?}");
        }
        self.under_way.insert(number, (worker, request, grant));
    }

    fn take_under_way(&mut self, which: usize) -> Option<(usize, Request, Grant)> {
        choose(&self.under_way, which).and_then(|number| self.under_way.remove(&number))
    }

    /// The worker that wakes next, and when.
    fn next_worker(&self) -> (Instant, usize) {
        let now = clock::now();
        let wakes = self.workers.iter().map(|worker| worker.wakes(now));
        let next = wakes.enumerate().min_by_key(|&(_, at)| at);
        next.map_or((Instant::FAR, 0), |(worker, at)| (at, worker))
    }

    /// Lets workers turn as they are woken, until `end`.
    fn pass_time(&mut self, end: Instant) {
        loop {
            let (at, worker) = self.next_worker();
            if at > end {
                break;
            }
            clock::turn_to(at.max(clock::now()));
            self.workers[worker].turn();
        }
        clock::turn_to(end);
    }

    /// Everything is given back, and whoever is woken looks, until nobody waits.
    fn come_to_rest(&mut self) {
        for _ in 0..TURNS_MAX {
            self.under_way.clear();
            let woken = |queued: &Queued| queued.woken.0.load(Ordering::Relaxed);
            let first = self.queued.iter().find(|(_, queued)| woken(queued));
            if let Some((&number, _)) = first {
                self.look(number);
                continue;
            }
            let (at, worker) = self.next_worker();
            if self.queued.is_empty() && at > clock::now() {
                break;
            }
            assert!(at < Instant::FAR, "all sleep for ever, and somebody waits");
            clock::turn_to(at.max(clock::now()));
            self.workers[worker].turn();
        }
        assert!(self.queued.is_empty(), "nobody waits for ever");
        let census = self.mesh.limiter().census(clock::now());
        let waiting = (census.waiting_for_bucket, census.waiting_for_global);
        assert_eq!((waiting, census.under_way), ((0, 0), 0));
    }
}

/// Request number `which`, around.
fn choose<T>(requests: &BTreeMap<u32, T>, which: usize) -> Option<u32> {
    requests.keys().nth(which % requests.len().max(1)).copied()
}

fn check_refusal(refusal: &Refusal) {
    assert!(refusal.retry_after <= WAIT_MAX, "{refusal:?}");
}
