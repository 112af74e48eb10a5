//! How weir stands, in one document: `/nirn/status.json`, and the page at `/` that shows it.
//!
//! Nothing of it costs the request path anything while nobody looks; a look reads what is counted anyway,
//! takes the limiter's latches for some microseconds each, and wakes each worker once. Workers that do not
//! turn within [`PATIENCE`], and shards that somebody holds, are named instead of waited for, so that a
//! look is over within a second whatever is stuck. Looks that follow each other within [`FRESH`] share a
//! document.

mod beside;
mod limits;

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::answer::Answer;
use super::pages::Asked;
use crate::clock::{self, Instant};
use crate::error::Side;
use crate::io::runtime::Chosen;
use crate::io::{memory, system};
use crate::limit::BUDGET;
use crate::metrics::{self, Named};
use crate::process::Process;
use crate::status::{
    Cloudflare, Connections, Guards, HandOffs, Handshakes, InvalidRequests, Memory, Pool, Requests,
    Sample, State, Status, VERSION, Worker, attention,
};

/// A worker that was woken turns within microseconds; on a starved machine within some ms.
const PATIENCE: Duration = Duration::from_millis(300);

/// How often it is looked at whether all have turned.
const TURN_CHECK: Duration = Duration::from_micros(500);

/// A document is good for so long: however many look, workers are woken five times a second.
const FRESH: Duration = Duration::from_millis(200);

/// What Discord bans an address for (Discord docs, topics/rate-limits, "Invalid Request Limit").
const DISCORD_INVALID_MAX: u64 = 10_000;

/// What those are counted over.
const INVALID_WINDOW_S: u64 = 600;

/// `GET /nirn/status.json`
pub(super) fn json(asked: &Asked<'_>) -> Answer {
    Answer::json(document(asked.process))
}

/// The document, of now or of a moment ago.
fn document(process: &Process) -> String {
    let mut looks = process.watch.looks();
    let now = clock::now();
    if let Some((at, text)) = &looks.last
        && now.saturating_duration_since(*at) < FRESH
    {
        return text.clone();
    }
    let turns = Turns::begin(process, now);
    let mut status = Status {
        version: VERSION,
        weir: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms: clock::unix_ms(),
        uptime_ms: ms(now.saturating_duration_since(process.started)),
        state: if process.is_draining() {
            State::Draining
        } else {
            State::Serving
        },
        io_driver: match process.driver {
            Chosen::IoUring => "io_uring",
            Chosen::Epoll => "epoll",
        }
        .to_owned(),
        upstream: process.target.authority.to_string(),
        guards: guards(process, now),
        memory: Memory {
            held_bytes: memory::held(),
            resident_bytes: system::resident(),
        },
        forward: process.forward.as_ref().map(beside::forward),
        ..Status::default()
    };
    limits::look(process, now, &mut status);
    beside::cluster(process, &mut status);
    beside::identify(process, now, &mut status);
    let counted = count(process, &mut status);
    turns.end(process, &mut status.workers);
    let (latency, recent) = looks.past.look(now, process.started, counted);
    status.latency = latency;
    status.attention = attention(&status, &recent);
    let text = status.to_json();
    looks.last = Some((now, text.clone()));
    text
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A count that may be negative for a moment, while what is counted moves between workers.
fn count_of(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// The turns that each worker had made when all were woken.
struct Turns(Vec<u64>);

impl Turns {
    fn begin(process: &Process, now: Instant) -> Self {
        // What was counted before anybody looked is of no known time.
        if !process.watch.begin(now) {
            let _old = process.watch.take_hot(now);
        }
        let turns = process.turns.iter();
        let before = turns.map(|turns| turns.load(Ordering::Relaxed)).collect();
        for worker in 0..process.turns.len() {
            process.mesh.nudge(worker);
        }
        Self(before)
    }

    /// Says of each worker whether it has turned since. Those that have ended need not.
    fn end(self, process: &Process, workers: &mut [Worker]) {
        let until = clock::now() + PATIENCE;
        let turned = |(turns, before): (_, &u64)| {
            let turns: &std::sync::atomic::AtomicU64 = turns;
            turns.load(Ordering::Relaxed) != *before
        };
        let all = || process.turns.iter().zip(&self.0);
        let draining = process.is_draining();
        while !draining && !all().all(turned) && clock::now() < until {
            thread::sleep(TURN_CHECK);
        }
        for (worker, pair) in workers.iter_mut().zip(all()) {
            worker.answers = draining || turned(pair);
        }
    }
}

fn guards(process: &Process, now: Instant) -> Guards {
    let seen = process.mesh.limiter().guards_seen(now).unwrap_or_default();
    Guards {
        invalid: InvalidRequests {
            used: seen.invalid.into(),
            max: BUDGET.into(),
            discord_max: DISCORD_INVALID_MAX,
            window_s: INVALID_WINDOW_S,
        },
        cloudflare: Cloudflare {
            blocked: seen.blocked_for.is_some(),
            left_ms: ms(seen.blocked_for.unwrap_or_default()),
        },
        dead_webhooks: seen.webhooks_dead as u64,
    }
}

/// What workers count of requests and connections.
fn count(process: &Process, status: &mut Status) -> Sample {
    let mut own = metrics::Counters::default();
    let mut answered = Named::new();
    let mut under_way = 0;
    for table in &process.metrics {
        let (counters, by_class, open) = {
            let table = table.lock();
            let requests = &table.requests;
            (table.own.clone(), requests.answered(), requests.under_way())
        };
        under_way += open;
        status.workers.push(Worker {
            answers: true,
            requests: by_class.values().sum(),
            waiting: count_of(counters.waiting),
            clients: count_of(counters.clients),
            upstream: pool(&counters.pool),
        });
        add(&mut answered, by_class);
        own.merge(&counters);
    }
    status.requests = Requests {
        under_way,
        waiting: count_of(own.waiting),
        waiting_max: process.config.max_waiting as u64,
        answered,
        refused: own.refused_by_reason(),
        limited: own.limited_by_scope(),
        retried: own.retried_in_all(),
        errors: own.errors_of(None),
        waited: own.waited,
        held_back: own.held_back,
    };
    status.connections = Connections {
        clients: count_of(own.clients),
        clients_max: process.places.most() as u64,
        clients_accepted: own.clients_accepted,
        upstream: pool(&own.pool),
        tls: process.tls.as_ref().map(|_| Handshakes {
            full: own.tls.handshakes,
            resumed: own.tls.resumed,
            failed: own.tls.failed_in_all(),
        }),
    };
    let handed = process.mesh.counts();
    status.hand_offs = HandOffs {
        permits: handed.permits,
        wakes: handed.wakes,
    };
    if let Some(cluster) = &mut status.cluster {
        (cluster.sent, cluster.received) = (own.relay.sent, own.relay.received);
    }
    Sample {
        refused: status.requests.refused.clone(),
        errors: own.errors_of(Some(Side::Upstream)),
        upstream: own.upstream,
        queue: own.queue_wait,
        added: own.added,
    }
}

fn add(sum: &mut Named, more: Named) {
    for (name, count) in more {
        *sum.entry(name).or_default() += count;
    }
}

fn pool(pool: &metrics::Pool) -> Pool {
    Pool {
        busy: pool.busy,
        idle: pool.idle,
        opening: pool.opening,
        waiting: pool.waiting,
        max: pool.most,
        opened: pool.opened,
        resumed: pool.resumed,
        reused: pool.reused,
        stale: pool.stale,
        failed: pool.dials_failed + pool.handshakes_failed,
    }
}

/// The identify queue's refusals by reason.
fn refusals(census: &crate::identify::Census) -> BTreeMap<String, u64> {
    let all = crate::identify::Reason::ALL.into_iter().zip(census.refused);
    let some = all.filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| (reason.label().to_owned(), count))
        .collect()
}

/// Locks the identify queue's state.
fn queues(process: &Process) -> std::sync::MutexGuard<'_, crate::identify::Queues> {
    process
        .identify
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
