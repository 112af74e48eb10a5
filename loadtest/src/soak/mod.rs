//! Soak: a weir process under load, faults and churn for as long as one likes, with an oracle at
//! the other end.
//!
//! ```text
//! actors (threads, closed loop, paced) ─▶ weir (a process, 2 workers) ─▶ mock Discord (TLS, limits, oracle)
//!      └ tally: each answer is the right one      └ sampled every second      └ faults by a seeded schedule
//! ```
//!
//! What is asserted:
//! - **Nothing avoidable is refused**: the mock gave no 429 that its answers foretold; the ones that
//!   it was told to give are not among those. One within `EXCUSED` after a pause of this process
//!   (a machine that stood still) is told apart, since limits by the clock cannot be kept then.
//! - **Nothing is mixed up**: each request has a number which its answer says again; downloads are
//!   compared byte by byte, uploads counted.
//! - **Nothing unsafe is sent twice**, and messages of one lane arrive in their order.
//! - **Nothing is stuck**: each request is answered within `PATIENCE` unless its client leaves; and
//!   when all faults are over, one request to each lane (the roll call) is answered by the upstream.
//! - **Nothing leaks**: after the load, descriptors, threads, armed polls and weir's own gauges are
//!   back where they were before it, it uses no CPU time at rest, and its memory did not grow over
//!   the second half of the load.
//! - weir ends with status 0 after SIGTERM, and its log tells of no panic.

mod actor;
mod fleet;
mod order;
mod process;
mod report;
mod schedule;
mod tally;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use process::Sample;
pub use report::{Refusals, Report};
pub use schedule::{Outage, Phase, Schedule};
pub use tally::Counts;

use self::actor::{Actor, Stage};
use self::fleet::Fleet;
use self::process::Weir;
use self::tally::Tally;
use crate::client::{Client, Target};
use crate::mock::faults::{Fault, Rng};
use crate::mock::settings::{OnAccept, Settings};
use crate::mock::{self, MockConfig, MockHandle};

/// weir's `MAX_WAIT`: short, so that clients meet it.
const MAX_WAIT: Duration = Duration::from_secs(4);
/// weir's `REQUEST_TIMEOUT`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// weir's `UPSTREAM_IDLE_TIMEOUT`: short, so that connections come and go.
const UPSTREAM_IDLE: Duration = Duration::from_secs(5);
/// weir's `CLIENT_IDLE_TIMEOUT`: longer than any client is silent.
const CLIENT_IDLE: Duration = Duration::from_secs(20);
/// weir's `MAX_BUCKETS`: so few that old ones have to leave all the time.
const BUCKETS_MAX: usize = 16_384;
/// weir's `UPSTREAM_MAX_CONNECTIONS`: so few that requests wait for one while answers hang.
const UPSTREAM_MAX: usize = 48;
/// weir's own bound on opening a connection, and on waiting for a place to do so.
const CONNECT: Duration = Duration::from_secs(4);

/// The longest that a request can rightly take: it waits for its limit, and twice (once on a dead
/// connection or after a 429) for a place, a connection and an answer; then for the answer's body.
const PATIENCE: Duration = Duration::from_millis(
    (MAX_WAIT.as_millis() as u64) * 105 / 100
        + 50
        + 2 * (2 * CONNECT.as_millis() as u64 + REQUEST_TIMEOUT.as_millis() as u64)
        + REQUEST_TIMEOUT.as_millis() as u64
        + 1_000,
);

/// Distance of the mock.
const LATENCY_MS: f64 = 8.0;

/// A pause of this process that long may have made requests arrive closer than they were sent.
const PAUSE: Duration = Duration::from_millis(30);

/// How long after a pause a refusal may come from it: the longest window of the usual limits.
const EXCUSED: Duration = Duration::from_secs(6);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Refusals that are told of; of the others, how many there were.
const EXAMPLES_MAX: usize = 20;

/// Looks between two samples.
const SAMPLE_EVERY: u32 = 5;

/// How long the leftovers of the load may take to go: idle timeouts, and weir's ticks.
const SETTLE: Duration = Duration::from_secs(30);

/// How long weir rests while its CPU time is looked at.
const REST: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long there is load.
    pub length: Duration,
    /// Decides faults, churn and requests.
    pub seed: u64,
    /// Requests a second at most.
    pub rate: f64,
    /// weir's `IO_DRIVER`.
    pub driver: String,
    /// The weir under test, instead of the one of this build.
    pub weir: Option<PathBuf>,
}

/// Runs it and tells on the way.
///
/// # Errors
/// weir cannot be started or dies, or the mock cannot be started. What weir does wrong while it
/// lives is in the report.
pub fn run(options: &Options, mut tell: impl FnMut(&str)) -> io::Result<Report> {
    let program = crate::compare::find_weir(options.weir.as_deref())?;
    let mock = mock::start(MockConfig {
        seed: options.seed,
        watched: true,
        settings: Settings {
            latency_ms: LATENCY_MS,
            log_entries: 0,
            ..Settings::default()
        },
        ..MockConfig::default()
    })?;
    let mut weir = Weir::start(options, &program, &mock)?;
    let began = Instant::now();
    let stage = Arc::new(Stage {
        proxy: weir.proxy,
        fleet: Fleet::new(),
        tally: Tally::new(options.rate),
        over: AtomicBool::new(false),
    });
    let before = weir.sample(Duration::ZERO)?;
    let pauses = Arc::new(Pauses::default());
    let watch = pauses.clone().watch(stage.clone())?;
    let actors = start_actors(&stage, options)?;
    let ordered = {
        let (stage, metrics, seed) = (stage.clone(), weir.metrics(), options.seed);
        std::thread::spawn(move || order::run(&stage, metrics, seed ^ 0x0bde))
    };
    let mut run = Run {
        refusals: Refusals::default(),
        samples: Vec::new(),
        chaos: Chaos::new(options),
        rng: Rng::new(options.seed ^ 0xc0ffee),
    };
    let load = run.load(options, began, &mut weir, &mock, &stage, &pauses, &mut tell);
    run.chaos.end(&mock);
    stage.over.store(true, Ordering::Relaxed);
    for thread in actors.into_iter().chain([watch, ordered]) {
        if thread.join().is_err() {
            stage.tally.wrong("a client panicked".to_owned());
        }
    }
    load?;
    let loaded = began.elapsed();
    tell("the load is over: roll call, then rest");
    let absent = roll_call(&stage, &mock);
    run.refusals.look(&mock, &pauses, &run.chaos);
    let after = settle(&weir, before, began)?;
    let cpu = weir.cpu()?;
    std::thread::sleep(REST);
    let rest_cpu = weir.cpu()?.saturating_sub(cpu);
    let after = Sample {
        at: began.elapsed(),
        ..after
    };
    let exit = weir.terminate(SETTLE)?.code();
    let said = weir.said();
    Ok(Report {
        options: options.clone(),
        loaded,
        counts: stage.tally.counts(),
        quantiles: [0.5, 0.99, 0.999].map(|q| stage.tally.quantile(q)),
        tokens: stage.fleet.tokens(),
        made: stage.fleet.made(),
        outages: run.chaos.outages,
        oracle: mock.oracle(),
        refusals: run.refusals,
        pause_max: pauses.longest(),
        before,
        samples: run.samples,
        after,
        rest_cpu,
        absent,
        exit,
        panics: said.lines().filter(|l| l.contains("panic")).count() as u64,
    })
}

fn start_actors(
    stage: &Arc<Stage>,
    options: &Options,
) -> io::Result<Vec<std::thread::JoinHandle<()>>> {
    // Each has about a dozen requests a second answered; some wait for limits.
    let count = (options.rate / 10.0).clamp(16.0, 192.0) as u64;
    (0..count)
        .map(|i| {
            let actor = Actor::new(stage.clone(), options.seed.wrapping_mul(1_000_003) + i);
            let builder = std::thread::Builder::new().stack_size(256 * 1024);
            builder.name("actor".to_owned()).spawn(move || actor.run())
        })
        .collect()
}

/// What changes while there is load.
struct Run {
    refusals: Refusals,
    samples: Vec<Sample>,
    chaos: Chaos,
    rng: Rng,
}

impl Run {
    #[expect(clippy::too_many_arguments, reason = "all that a run has")]
    fn load(
        &mut self,
        options: &Options,
        began: Instant,
        weir: &mut Weir,
        mock: &MockHandle,
        stage: &Stage,
        pauses: &Pauses,
        tell: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        let mut told = began;
        for look in 1u32.. {
            std::thread::sleep((began + LOOK * look).saturating_duration_since(Instant::now()));
            let at = began.elapsed();
            if at >= options.length {
                return Ok(());
            }
            weir.check()?;
            self.chaos.advance(at, mock);
            self.refusals.look(mock, pauses, &self.chaos);
            if !look.is_multiple_of(SAMPLE_EVERY) {
                continue;
            }
            stage.fleet.churn(&mut self.rng);
            let sample = weir.sample(at)?;
            self.samples.push(sample);
            if told.elapsed() >= Duration::from_secs(10) {
                told = Instant::now();
                tell(&line(&sample, &stage.tally.counts(), &self.refusals));
            }
        }
        Ok(())
    }
}

fn line(sample: &Sample, counts: &Counts, refusals: &Refusals) -> String {
    format!(
        "{:>5} s  sent {:>8}  under way {:>4}  waiting {:>4}  held {:>5.1} MiB  RSS {:>6.1} MiB  fds {:>4}  \
         wrong {}  refused upstream {} (after pauses {})",
        sample.at.as_secs(),
        counts.sent,
        sample.open,
        sample.waiting,
        sample.held as f64 / 1_048_576.0,
        sample.rss as f64 / 1_048_576.0,
        sample.fds,
        counts.wrong,
        refusals.avoidable,
        refusals.excused,
    )
}

/// Carries a schedule out.
struct Chaos {
    schedule: Schedule,
    until: Duration,
    outages: std::collections::BTreeMap<&'static str, u64>,
    gone: bool,
    /// What goes wrong at present.
    present: String,
}

impl Chaos {
    fn new(options: &Options) -> Self {
        Self {
            schedule: Schedule::new(options.seed, options.length),
            // The first second is calm.
            until: Duration::from_secs(1),
            outages: std::collections::BTreeMap::new(),
            gone: false,
            present: "calm".to_owned(),
        }
    }

    /// Begins the next phase once the present one is over.
    fn advance(&mut self, at: Duration, mock: &MockHandle) {
        if at < self.until {
            return;
        }
        let Some(phase) = self.schedule.next() else {
            return;
        };
        self.until = at + phase.length;
        let faults = phase.faults.iter().map(Fault::label);
        let names: Vec<&str> = faults
            .chain(phase.outages.iter().map(|(name, _)| *name))
            .collect();
        self.present = if names.is_empty() {
            format!("calm after {}", self.present)
        } else {
            names.join(" and ")
        };
        let mut settings = Settings {
            faults: phase.faults,
            ..mock.settings()
        };
        settings.connections.on_accept = OnAccept::Serve;
        settings.connections.handshake_delay_ms = 0;
        let (mut gone, mut cut) = (false, false);
        for (name, outage) in phase.outages {
            *self.outages.entry(name).or_default() += 1;
            match outage {
                Outage::Gone => gone = true,
                Outage::Cut => cut = true,
                Outage::OnAccept(on_accept) => {
                    settings.connections.on_accept = on_accept;
                    cut = true;
                }
                Outage::SlowHandshake(ms) => {
                    settings.connections.handshake_delay_ms = ms;
                    cut = true;
                }
            }
        }
        mock.set_settings(settings);
        if gone != self.gone {
            mock.set_listening(!gone);
            self.gone = gone;
        }
        if gone || cut {
            mock.close_connections();
        }
    }

    /// All is well again.
    fn end(&mut self, mock: &MockHandle) {
        let mut settings = Settings {
            faults: Vec::new(),
            ..mock.settings()
        };
        settings.connections.on_accept = OnAccept::Serve;
        settings.connections.handshake_delay_ms = 0;
        mock.set_settings(settings);
        if std::mem::take(&mut self.gone) {
            mock.set_listening(true);
        }
    }
}

impl Refusals {
    /// Takes note of what the mock refused since the last look.
    fn look(&mut self, mock: &MockHandle, pauses: &Pauses, chaos: &Chaos) {
        let oracle = mock.oracle();
        pauses.note(mock.lateness());
        let fresh = oracle.violations - self.avoidable - self.excused;
        let refused: std::collections::BTreeMap<String, u64> = oracle
            .templates
            .iter()
            .map(|(name, template)| (name.clone(), template.refused.values().sum()))
            .collect();
        if fresh > 0 {
            let excused = pauses.lately();
            let count = if excused {
                &mut self.excused
            } else {
                &mut self.avoidable
            };
            *count += fresh;
            let grown = refused
                .iter()
                .filter(|(name, count)| self.seen.get(*name).unwrap_or(&0) < count)
                .map(|(name, _)| name.as_str());
            let what: Vec<&str> = grown.collect();
            if self.examples.len() < EXAMPLES_MAX {
                let text = format!(
                    "{} s, {}{}: {}",
                    oracle.elapsed_ms / 1000,
                    chaos.present,
                    if excused { ", after a pause" } else { "" },
                    what.join(", ")
                );
                self.examples.push(text);
            }
        }
        self.seen = refused;
    }
}

/// Pauses of this process: a clock, or the mock, that is late.
#[derive(Debug, Default)]
struct Pauses {
    began: std::sync::OnceLock<Instant>,
    /// When the last one ended, in milliseconds since the beginning; zero for never.
    last_ms: AtomicU64,
    longest_us: AtomicU64,
}

impl Pauses {
    fn watch(self: Arc<Self>, stage: Arc<Stage>) -> io::Result<std::thread::JoinHandle<()>> {
        self.began.get_or_init(Instant::now);
        std::thread::Builder::new()
            .name("pauses".to_owned())
            .spawn(move || {
                let turn = Duration::from_millis(5);
                while !stage.over.load(Ordering::Relaxed) {
                    let asleep = Instant::now();
                    std::thread::sleep(turn);
                    self.note(asleep.elapsed().saturating_sub(turn));
                }
            })
    }

    /// Something was late by so much.
    fn note(&self, late: Duration) {
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.longest_us.fetch_max(late_us, Ordering::Relaxed);
        if late >= PAUSE {
            let since = self.began.get().map_or(Duration::ZERO, Instant::elapsed);
            let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            self.last_ms.store(now_ms.max(1), Ordering::Relaxed);
        }
    }

    /// Whether there was one that a refusal now may come from.
    fn lately(&self) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        let now = self.began.get().map_or(Duration::ZERO, Instant::elapsed);
        last > 0 && now.saturating_sub(Duration::from_millis(last)) < EXCUSED
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.load(Ordering::Relaxed))
    }
}

/// Asks once for each lane, and tells which were not answered by the upstream with success.
fn roll_call(stage: &Arc<Stage>, mock: &MockHandle) -> Vec<String> {
    // Requests of clients that left may still be under way, and the mock may just have come back.
    let until = Instant::now() + PATIENCE;
    while Client::connect(&Target::plain(mock.addr)).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(MAX_WAIT);
    let requests = stage.fleet.roll_call();
    let asks = |request: &fleet::Request| -> Option<String> {
        let ask = || -> io::Result<Option<u16>> {
            let mut client = Client::connect(&Target::plain(stage.proxy))?;
            client.socket().set_read_timeout(Some(PATIENCE))?;
            let sent = Instant::now();
            stage.tally.sent();
            client.send_raw(&request.bytes())?;
            let heard = actor::hears(&stage.tally, "roll call", &mut client, request, sent);
            Ok(heard.and_then(|(status, _)| status))
        };
        match ask() {
            Ok(Some(200..300)) => None,
            Ok(status) => Some(format!("{} {}: {status:?}", request.method, request.target)),
            Err(error) => Some(format!("{} {}: {error}", request.method, request.target)),
        }
    };
    // One thread for each bot's requests and one for the webhooks', one after the other.
    std::thread::scope(|scope| {
        let threads: Vec<_> = requests
            .chunk_by(|a, b| a.authorization == b.authorization)
            .map(|chunk| scope.spawn(move || chunk.iter().filter_map(asks).collect::<Vec<_>>()))
            .collect();
        let joined = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| vec!["the roll call panicked".to_owned()])
        });
        joined.flatten().collect()
    })
}

/// Waits until weir holds no more than `before`, or for as long as that may take.
fn settle(weir: &Weir, before: Sample, began: Instant) -> io::Result<Sample> {
    let until = Instant::now() + SETTLE;
    loop {
        let sample = weir.sample(began.elapsed())?;
        if report::leaks(&before, &sample).is_empty() || Instant::now() > until {
            return Ok(sample);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}
