//! What it costs that a bucket lives on another worker: deciding in place under its lock, and the
//! hop of a permit to the worker whose request waited.
//!
//! `cargo bench --bench mesh`, on at least two cores that have nothing else to do. Each of two threads
//! is pinned to its own: left to itself the kernel puts a woken thread beside the one that woke it,
//! and on one core a hop is a switch of threads and no wake-up at all.
//!
//! What a hop costs in CPU time, in a worker that has other things to do: `loadtest handoff`.
//!
//! A hop is all that happens from one worker's answer to the other's permit: the next request asks
//! and has to wait, the answer is reported, the permit is put into the mailbox, its worker wakes,
//! empties the mailbox and finds the request. It is measured as two workers that let each other go
//! by turns, and the median of short [`BATCH`]es is taken: one in which another program had a core
//! says what that program costs.

use std::future::Future;
use std::hint::{black_box, spin_loop};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use weir::clock;
use weir::io::deadline::Alarm;
use weir::io::runtime::pin;
use weir::limit::{Answer, BucketKey, ClientClass, Output, Settings};
use weir::mesh::mailbox::Mailbox;
use weir::mesh::{Asked, Grant, Local, Mesh, Request, Waiting};

/// A request that changes something and falls under no limit: it waits for another's answer, and
/// for nothing else.
fn request(major: u64) -> Request {
    Request {
        key: BucketKey {
            identity: 1,
            major,
            route: 1,
        },
        client: ClientClass::Webhook { id: None },
        counts_globally: false,
        serial: true,
        max_wait: None,
    }
}

fn local(mesh: &Arc<Mesh>, worker: usize) -> Rc<Local> {
    Local::new(mesh.clone(), worker, Rc::new(Alarm::default()))
}

fn go(asked: Asked) -> Grant {
    match asked {
        Asked::Go(grant) => grant,
        Asked::Wait(_) | Asked::Refuse(_) => panic!("nobody is before it"),
    }
}

fn wait(asked: Asked) -> Waiting {
    match asked {
        Asked::Wait(waiting) => waiting,
        Asked::Go(_) | Asked::Refuse(_) => panic!("another is before it"),
    }
}

fn poll(waiting: &mut Waiting) -> Option<Grant> {
    match pin!(waiting.verdict()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(grant)) => Some(grant),
        Poll::Ready(Err(refusal)) => panic!("{refusal:?}"),
        Poll::Pending => None,
    }
}

fn in_place(c: &mut Criterion) {
    let exchange = |local: &Rc<Local>, major| {
        let grant = go(local.ask(clock::now(), black_box(request(major))));
        grant.report(black_box(&Answer::new(200)))
    };
    c.bench_function("in place: ask and report", |b| {
        let mesh = Mesh::new(&Settings::default(), 1);
        let local = local(&mesh, 0);
        b.iter(|| exchange(&local, 1));
    });
    c.bench_function(
        "in place: ask and report, another core at the same lock",
        |b| {
            // One shard for both, so that every request of either takes the same lock.
            let mesh = Mesh::new(&Settings::default(), 1);
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    pin(1);
                    let local = local(&mesh, 0);
                    while !done.load(Ordering::Relaxed) {
                        exchange(&local, 2);
                    }
                });
                let local = local(&mesh, 0);
                b.iter(|| exchange(&local, 1));
                done.store(true, Ordering::Relaxed);
            });
        },
    );
}

/// What a worker does while it has nothing to do.
#[derive(Clone, Copy)]
enum Idle {
    /// It looks for mail without end.
    Awake,
    /// It sleeps in the kernel until it is woken.
    Asleep,
}

/// A worker's waker: raises a flag, and ends the thread's sleep if it sleeps.
struct Bell {
    rung: AtomicBool,
    sleeper: Option<Thread>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(thread) = &self.sleeper {
            thread.unpark();
        }
    }
}

/// Spins; after longer than any hop takes, another program has the other's core, and gets this one's
/// rest as well.
fn spin(spins: &mut u32) {
    *spins += 1;
    if spins.is_multiple_of(4_096) {
        thread::yield_now();
    }
    spin_loop();
}

/// One of the two workers.
struct Side {
    local: Rc<Local>,
    bell: Arc<Bell>,
}

impl Side {
    fn new(mesh: &Arc<Mesh>, worker: usize, idle: Idle) -> Self {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(false),
            sleeper: match idle {
                Idle::Awake => None,
                Idle::Asleep => Some(thread::current()),
            },
        });
        let local = local(mesh, worker);
        local.wake_by(&Waker::from(bell.clone()));
        Self { local, bell }
    }

    /// Waits for the permit in the mailbox.
    fn turn(&self, waiting: &mut Waiting) -> Grant {
        loop {
            let mut spins = 0;
            while !self.bell.rung.swap(false, Ordering::Acquire) {
                match self.bell.sleeper {
                    Some(_) => thread::park(),
                    None => spin(&mut spins),
                }
            }
            self.local.turn(clock::now());
            if let Some(grant) = poll(waiting) {
                return grant;
            }
        }
    }

    /// Asks for the next request, which has to wait, and then reports the one under way, which
    /// lets the other worker's go.
    fn hand_over(&self, grant: Grant) -> Waiting {
        let next = wait(self.local.ask(clock::now(), request(1)));
        grant.report(&Answer::new(200));
        next
    }
}

/// Turns, two hops each, that are timed as one: short beside a time slice, long beside a reading of
/// the clock.
const BATCH: u32 = 128;

/// Runs enough batches of `turn` for `count` hops, and says what they typically take.
fn timed(count: u64, mut turn: impl FnMut()) -> Duration {
    let hops_per_batch = u64::from(BATCH) * 2;
    let mut batches: Vec<_> = (0..count.div_ceil(hops_per_batch))
        .map(|_| {
            let begin = Instant::now();
            (0..BATCH).for_each(|_| turn());
            begin.elapsed()
        })
        .collect();
    let middle = batches.len() / 2;
    let (_, median, _) = batches.select_nth_unstable(middle);
    median.mul_f64(count as f64 / hops_per_batch as f64)
}

/// Time of so many hops between two workers.
fn hops(count: u64, idle: Idle) -> Duration {
    let mesh = Mesh::new(&Settings::default(), 2);
    let (ready, done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            let side = Side::new(&mesh, 1, idle);
            ready.wait();
            let mut waiting = wait(side.local.ask(clock::now(), request(1)));
            ready.wait();
            loop {
                let grant = side.turn(&mut waiting);
                if done.load(Ordering::Acquire) {
                    break;
                }
                waiting = side.hand_over(grant);
            }
        });
        // A thread of its own as well: those that it starts later may run where they like.
        let one = scope.spawn(|| {
            pin(0);
            let side = Side::new(&mesh, 0, idle);
            let mut grant = Some(go(side.local.ask(clock::now(), request(1))));
            ready.wait();
            ready.wait();
            let took = timed(count, || {
                let mut waiting = side.hand_over(grant.take().expect("one is under way"));
                grant = Some(side.turn(&mut waiting));
            });
            done.store(true, Ordering::Release);
            drop(grant);
            took
        });
        one.join().expect("no side panics")
    })
}

/// The mailbox alone: one message to an awake core.
fn messages(count: u64) -> Duration {
    let boxes = [Mailbox::default(), Mailbox::default()];
    let word = || {
        std::iter::once(Output::Deadline {
            shard: 0,
            at: clock::Instant::ZERO,
        })
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            let (mut mail, mut spins) = (Vec::new(), 0);
            while !done.load(Ordering::Relaxed) {
                boxes[1].take(&mut mail);
                match mail.pop() {
                    Some(_) => boxes[0].put(word()),
                    None => spin(&mut spins),
                }
            }
        });
        let one = scope.spawn(|| {
            pin(0);
            let mut mail = Vec::new();
            let took = timed(count, || {
                boxes[1].put(word());
                let mut spins = 0;
                while mail.pop().is_none() {
                    spin(&mut spins);
                    boxes[0].take(&mut mail);
                }
            });
            done.store(true, Ordering::Relaxed);
            took
        });
        one.join().expect("no side panics")
    })
}

fn hop(c: &mut Criterion) {
    c.bench_function("wait and be let go on one core", |b| {
        let mesh = Mesh::new(&Settings::default(), 1);
        let side = Side::new(&mesh, 0, Idle::Awake);
        let mut grant = Some(go(side.local.ask(clock::now(), request(1))));
        b.iter(|| {
            let mut waiting = side.hand_over(grant.take().expect("one is under way"));
            grant = poll(&mut waiting);
        });
    });
    c.bench_function("mail to an awake core", |b| b.iter_custom(messages));
    c.bench_function("hop to an awake core", |b| {
        b.iter_custom(|count| hops(count, Idle::Awake));
    });
    c.bench_function("hop to a sleeping core", |b| {
        b.iter_custom(|count| hops(count, Idle::Asleep));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = in_place, hop
}
criterion_main!(benches);
