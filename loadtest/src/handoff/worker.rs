//! Two threads that act as workers: a loop over mail, answers and arrivals, and a sleep in the kernel.

use std::collections::{HashMap, VecDeque};
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use weir::clock;
use weir::io::deadline::Alarm;
use weir::limit::{Answer, BucketKey, ClientClass, Limiter, RateLimitHeaders, Settings};
use weir::mesh::shards::Locks;
use weir::mesh::{Asked, Grant, Local, Mesh, Request};

use super::RTT;
use super::post::{Post, Word};
use crate::compare::host;
use crate::load::process;

/// How a bucket of the other worker is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    InPlace,
    Messages,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Course {
    pub way: Way,
    /// All buckets live on the first worker.
    pub skewed: bool,
    /// In percent.
    pub load: u32,
}

/// What came of one sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub cpu_us: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub rate: f64,
}

/// Buckets that requests go to, in turn.
const BUCKETS: u64 = 1024;

/// Requests of a worker under way in the closed loop: more than fit into RTT, and so many that a
/// hop to the other worker does not leave it idle.
const UNDER_WAY: usize = 64;

/// Load before the measurement.
const WARMUP: Duration = Duration::from_millis(100);

/// A worker that sleeps looks at its shard's timers this often.
const TICK: Duration = Duration::from_millis(10);

/// Latencies beyond this are counted as this, in nanoseconds.
const LATENCY_MAX_NS: u64 = 10_000_000_000;

/// How long the last requests may take.
const GRACE: Duration = Duration::from_secs(5);

/// Rounds of [`work`] that take as long as the work of one request.
pub(super) fn calibrate(work_of_request: Duration) -> u64 {
    const ROUNDS: u64 = 2_000_000;
    let once = || {
        let begin = Instant::now();
        work(ROUNDS);
        begin.elapsed()
    };
    let fastest = (0..5).map(|_| once()).min().unwrap_or_default();
    let rounds = work_of_request.as_secs_f64() / fastest.as_secs_f64().max(1e-9);
    (rounds * ROUNDS as f64) as u64
}

fn work(rounds: u64) {
    let mut x = rounds;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// What both workers share.
struct Shared {
    mesh: Arc<Mesh>,
    posts: [Arc<Post>; 2],
    /// Requests in the order in which they are made, with the worker that owns their bucket.
    requests: Vec<(Request, usize)>,
    answer: Answer,
    course: Course,
    /// Requests a second of each worker; `None` for the closed loop.
    rate: Option<f64>,
    /// Rounds of [`work`] for a request.
    spin: u64,
    begin: Barrier,
    /// Workers whose own requests are all done.
    done: AtomicUsize,
}

/// Runs two workers on these cores.
pub(super) fn pair(
    cores: [usize; 2],
    course: Course,
    rate: Option<f64>,
    spin: u64,
    measured: Duration,
) -> io::Result<Outcome> {
    let settings = Settings::default();
    let shared = Shared {
        mesh: Mesh::new(&settings, 2),
        posts: [Arc::new(Post::new()?), Arc::new(Post::new()?)],
        requests: requests(course.skewed),
        answer: answer(),
        course,
        rate: rate.map(|rate| rate / 2.0),
        spin,
        begin: Barrier::new(2),
        done: AtomicUsize::new(0),
    };
    shared.touch()?;
    let halves = thread::scope(|scope| {
        let threads = [0, 1].map(|me| {
            let shared = &shared;
            scope.spawn(move || Worker::run(shared, me, cores[me], measured))
        });
        threads.map(|thread| {
            let failed = |_| Err(io::Error::other("a worker panicked"));
            thread.join().unwrap_or_else(failed)
        })
    });
    let [one, other] = halves;
    let (mut one, other) = (one?, other?);
    one.latency.add(&other.latency).map_err(io::Error::other)?;
    let count = one.latency.len().max(1) as f64;
    let us = |quantile| one.latency.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Outcome {
        cpu_us: (one.spent + other.spent).as_secs_f64() * 1e6 / count,
        p50_us: us(0.5),
        p99_us: us(0.99),
        rate: count / measured.as_secs_f64(),
    })
}

/// Requests of as many buckets, spread over both workers or all on the first.
fn requests(skewed: bool) -> Vec<(Request, usize)> {
    let shards = Limiter::<Locks>::new(&Settings::default(), 2);
    let keys = (1..).map(|major| BucketKey {
        identity: 1,
        major,
        route: 1,
    });
    let owned = keys.map(|key| (key, shards.shard_of(&key)));
    let fit = owned.filter(|&(_, owner)| !skewed || owner == 0);
    let requests = fit.take(BUCKETS as usize).map(|(key, owner)| {
        let request = Request {
            key,
            client: ClientClass::Webhook { id: None },
            counts_globally: false,
            serial: false,
            max_wait: None,
        };
        (request, owner)
    });
    requests.collect()
}

/// An answer whose limits hold nothing back.
fn answer() -> Answer {
    let mut answer = Answer::new(200);
    answer.headers = RateLimitHeaders {
        limit: Some(30_000),
        remaining: Some(29_000),
        reset_ms: Some(clock::unix_ms() + 100),
        reset_after: Some(Duration::from_millis(100)),
        bucket: Some(1),
        via: true,
        ..RateLimitHeaders::default()
    };
    answer
}

impl Shared {
    /// Lets every bucket become known.
    fn touch(&self) -> io::Result<()> {
        let local = Local::new(self.mesh.clone(), 0, Rc::new(Alarm::default()));
        for &(request, _) in &self.requests {
            grant(local.ask(clock::now(), request))?.report(&self.answer);
        }
        Ok(())
    }
}

fn grant(asked: Asked) -> io::Result<Grant> {
    match asked {
        Asked::Go(grant) => Ok(grant),
        Asked::Wait(_) => Err(io::Error::other("a request had to wait")),
        Asked::Refuse(refusal) => Err(io::Error::other(format!("{refusal:?}"))),
    }
}

/// What one worker measured.
struct Half {
    spent: Duration,
    /// Nanoseconds.
    latency: Histogram<u64>,
}

/// A request of this worker.
struct Exchange {
    since: Instant,
    /// `None` while the other worker holds it.
    grant: Option<Grant>,
}

struct Worker<'a> {
    shared: &'a Shared,
    me: usize,
    local: Rc<Local>,
    epoll: OwnedFd,
    /// This worker's requests under way.
    exchanges: HashMap<u64, Exchange, ahash::RandomState>,
    /// Permits that the other worker's requests hold.
    lent: HashMap<u64, Grant, ahash::RandomState>,
    /// When the upstream answers which request.
    answers: VecDeque<(Instant, u64)>,
    next_id: u64,
    /// When the next request comes.
    due: Instant,
    random: u64,
    latency: Histogram<u64>,
    measure_from: Instant,
    end: Instant,
}

impl<'a> Worker<'a> {
    fn run(shared: &'a Shared, me: usize, core: usize, measured: Duration) -> io::Result<Half> {
        host::pin(&[core])?;
        rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
        let local = Local::new(shared.mesh.clone(), me, Rc::new(Alarm::default()));
        local.wake_by(&Waker::from(shared.posts[me].clone()));
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            shared.posts[me].bell(),
            EventData::new_u64(0),
            EventFlags::IN,
        )?;
        shared.begin.wait();
        let begin = Instant::now();
        let mut worker = Self {
            shared,
            me,
            local,
            epoll,
            exchanges: HashMap::default(),
            lent: HashMap::default(),
            answers: VecDeque::new(),
            next_id: me as u64 * shared.requests.len() as u64 / 2,
            due: begin,
            random: me as u64,
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).map_err(io::Error::other)?,
            measure_from: begin + WARMUP,
            end: begin + WARMUP + measured,
        };
        let spent = worker.serve()?;
        worker.local.close();
        Ok(Half {
            spent,
            latency: worker.latency,
        })
    }

    /// Serves to the end; returns the CPU time of the measured part.
    fn serve(&mut self) -> io::Result<Duration> {
        let (mut mail, mut started, mut spent) = (Vec::new(), None, None);
        let mut done = false;
        loop {
            let now = Instant::now();
            if started.is_none() && now >= self.measure_from {
                started = Some(process::thread_clock()?);
            }
            if let (None, Some(started), true) = (spent, started, now >= self.end) {
                spent = Some(process::thread_clock()?.saturating_sub(started));
            }
            // Read before the mail: what was reported before it was done is in there.
            let both_done = self.shared.done.load(Ordering::SeqCst) == 2;
            if self.shared.posts[self.me].take(&mut mail) {
                self.local.turn(clock::now());
            }
            for word in mail.drain(..) {
                self.act(word)?;
            }
            while let Some(&(at, id)) = self.answers.front() {
                if at > Instant::now() {
                    break;
                }
                self.answers.pop_front();
                self.answered(id)?;
            }
            self.arrivals()?;
            if !done && now >= self.end && self.exchanges.is_empty() {
                done = true;
                self.shared.done.fetch_add(1, Ordering::SeqCst);
            }
            if both_done && self.lent.is_empty() {
                return Ok(spent.unwrap_or_default());
            }
            if now >= self.end + GRACE {
                let (mine, lent) = (self.exchanges.len(), self.lent.len());
                let text =
                    format!("{mine} requests did not end, {lent} permits were not given back");
                return Err(io::Error::other(text));
            }
            self.sleep()?;
        }
    }

    fn act(&mut self, word: Word) -> io::Result<()> {
        match word {
            Word::Ask(id, request) => {
                let grant = grant(self.local.ask(clock::now(), request))?;
                self.lent.insert(id, grant);
                self.other().put(Word::Go(id));
            }
            Word::Go(id) => self.depart(id),
            Word::Report(id) => {
                if let Some(mut grant) = self.lent.remove(&id) {
                    grant.departs(clock::now(), true);
                    grant.report(&self.shared.answer);
                }
            }
        }
        Ok(())
    }

    fn other(&self) -> &Post {
        &self.shared.posts[1 - self.me]
    }

    fn arrivals(&mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= self.end {
                return Ok(());
            }
            let since = match self.shared.rate {
                None if self.exchanges.len() >= UNDER_WAY => return Ok(()),
                None => now,
                Some(_) if self.due > now => return Ok(()),
                Some(rate) => {
                    let since = self.due;
                    // As independent clients come: gaps between them are exponential.
                    let gap = -(1.0 - self.chance()).ln() / rate;
                    self.due += Duration::from_secs_f64(gap);
                    since
                }
            };
            self.arrived(since)?;
        }
    }

    fn arrived(&mut self, since: Instant) -> io::Result<()> {
        work(self.shared.spin / 4);
        let id = self.next_id;
        self.next_id += 1;
        let index = id as usize % self.shared.requests.len();
        let (request, owner) = self.shared.requests[index];
        let in_place = self.shared.course.way == Way::InPlace || owner == self.me;
        let exchange = |grant| Exchange { since, grant };
        if in_place {
            let mut grant = grant(self.local.ask(clock::now(), request))?;
            grant.departs(clock::now(), true);
            self.exchanges.insert(id, exchange(Some(grant)));
            self.depart(id);
        } else {
            self.exchanges.insert(id, exchange(None));
            self.other().put(Word::Ask(id, request));
        }
        Ok(())
    }

    /// Sends a request upstream.
    fn depart(&mut self, id: u64) {
        work(self.shared.spin / 4);
        self.answers.push_back((Instant::now() + RTT, id));
    }

    fn answered(&mut self, id: u64) -> io::Result<()> {
        let exchange = self.exchanges.remove(&id);
        let exchange = exchange.ok_or_else(|| io::Error::other("an answer to no request"))?;
        match exchange.grant {
            Some(grant) => {
                grant.report(&self.shared.answer);
            }
            None => self.other().put(Word::Report(id)),
        }
        work(self.shared.spin / 2);
        let now = Instant::now();
        if exchange.since >= self.measure_from && exchange.since < self.end {
            let took = now.saturating_duration_since(exchange.since + RTT);
            let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            self.latency.saturating_record(ns.max(1));
        }
        Ok(())
    }

    /// Sleeps until there is something to do.
    fn sleep(&self) -> io::Result<()> {
        let now = Instant::now();
        let post = &self.shared.posts[self.me];
        let mut until = now + TICK;
        if let Some(&(at, _)) = self.answers.front() {
            until = until.min(at);
        }
        if now < self.end {
            match self.shared.rate {
                Some(_) => until = until.min(self.due),
                None if self.exchanges.len() < UNDER_WAY => until = now,
                None => {}
            }
        }
        if until <= now {
            return Ok(());
        }
        if !post.falls_asleep() {
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: (until - now).subsec_nanos().into(),
        };
        let mut events = Vec::with_capacity(1);
        let spare = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        post.woke(!events.is_empty());
        Ok(())
    }

    /// A number from 0 to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_buckets_live_on_one_worker_and_even_ones_on_both() {
        let owners = |skewed| {
            let requests = requests(skewed);
            assert_eq!(requests.len(), BUCKETS as usize);
            requests.iter().filter(|&&(_, owner)| owner == 1).count()
        };
        assert_eq!(owners(true), 0);
        assert!((400..624).contains(&owners(false)));
    }

    #[test]
    fn every_request_is_let_go_in_place_and_by_messages() {
        let cores = rustix::thread::sched_getaffinity(None).unwrap();
        let mut all = (0..1024).filter(|&n| cores.is_set(n));
        let one = all.next().unwrap();
        // On one core, too: only slower.
        let cores = [one, all.next().unwrap_or(one)];
        for way in [Way::InPlace, Way::Messages] {
            let course = Course {
                way,
                skewed: false,
                load: 50,
            };
            let rate = Some(2_000.0);
            let outcome = pair(cores, course, rate, 100, Duration::from_millis(200)).unwrap();
            assert!((1_500.0..2_500.0).contains(&outcome.rate), "{outcome:?}");
            assert!(outcome.cpu_us > 0.0);
            assert!(outcome.p99_us > 1.0 && outcome.p99_us < 1e6, "{outcome:?}");
        }
    }
}
