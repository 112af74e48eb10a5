//! One sample: one peer under one load.
//!
//! CPU time is the scheduler's count for the process, the same that `/proc/PID/stat` shows in
//! steps of 10 ms, read in nanoseconds; the kernel splits it into user and system by what its timer
//! sees every 4 to 10 ms, so that split needs seconds to be good. Both are read at the two ends of
//! the measured time, from within the load generator.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::host::{self, CoreTime, Guarded};
use super::peers::{NginxUpstream, Peer, Running, Stage};
use super::scenario::{CONNECTIONS, Scenario};
use super::traffic::{BODY_BYTES, Orders};
use super::upstream::Seen;
use crate::client::Client;
use crate::load::{self, LoadConfig, Moment, Plan, process};

/// What came of one sample.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// The scenario's name.
    pub scenario: String,
    /// The peer's name.
    pub peer: &'static str,
    /// Counts from 1.
    pub round: usize,
    /// The peer's place in this round.
    pub place: usize,
    /// Measurements by name; see [`metric`].
    pub values: BTreeMap<&'static str, f64>,
    /// What makes it doubtful.
    pub problems: Vec<String>,
}

/// Names of measurements.
pub(super) mod metric {
    /// CPU µs per request.
    pub(crate) const CPU: &str = "cpu_us";
    /// Of it in user space.
    pub(crate) const USER: &str = "user_us";
    /// Of it in the kernel.
    pub(crate) const SYSTEM: &str = "system_us";
    /// Answers a second.
    pub(crate) const RATE: &str = "rate";
    /// Latencies in µs.
    pub(crate) const P50: &str = "p50_us";
    /// See [`P50`].
    pub(crate) const P99: &str = "p99_us";
    /// See [`P50`].
    pub(crate) const P999: &str = "p999_us";
    /// Most resident memory of the serving process, in bytes.
    pub(crate) const RSS: &str = "rss_max_bytes";
    /// Of the proxy's cores, the busy share, whoever used it.
    pub(crate) const BUSY: &str = "cores_busy";
    /// Of the proxy's cores, the share that the proxy used.
    pub(crate) const SHARE: &str = "cores_used";
    /// CPU µs per request of the load generator.
    pub(crate) const LOAD: &str = "load_cpu_us";
    /// CPU µs per request of the upstream.
    pub(crate) const UPSTREAM: &str = "upstream_cpu_us";
    /// TLS connections opened to the upstream while it was measured.
    pub(crate) const OPENED: &str = "upstream_opened";
    /// Of those, how many resumed a session.
    pub(crate) const RESUMED: &str = "upstream_resumed";
    /// Connections opened for every hundred requests.
    pub(crate) const OPENED_SHARE: &str = "upstream_opened_percent";
    /// Of those opened, how many of a hundred did not resume a session.
    pub(crate) const FULL_SHARE: &str = "upstream_not_resumed_percent";
    /// Memory that an idle connection takes, in bytes.
    pub(crate) const IDLE: &str = "idle_connection_bytes";
    /// Requests measured.
    pub(crate) const REQUESTS: &str = "requests";
}

/// The upstream, whoever plays it.
pub(super) enum Upstream {
    /// Ours, with what it says.
    Own(Guarded, BufReader<ChildStdout>),
    /// nginx for TLS; ours for the relay alone.
    Nginx(NginxUpstream, Guarded),
}

impl Upstream {
    /// nginx takes over TLS.
    #[must_use]
    pub(super) fn joined_by(self, nginx: NginxUpstream) -> Self {
        let (Self::Own(own, _) | Self::Nginx(_, own)) = self;
        Self::Nginx(nginx, own)
    }

    fn move_to(&self, cores: &[usize]) -> io::Result<()> {
        match self {
            Self::Own(own, _) => host::move_to(own.pid(), cores),
            Self::Nginx(nginx, _) => {
                for pid in host::serving(nginx.pid()) {
                    host::move_to(pid, cores)?;
                }
                Ok(())
            }
        }
    }

    fn cpu(&self) -> io::Result<Duration> {
        let mut pids = Vec::new();
        match self {
            Self::Own(own, _) => pids.push(own.pid()),
            Self::Nginx(nginx, own) => {
                pids.push(own.pid());
                pids.extend(host::serving(nginx.pid()));
            }
        }
        cpu_clock(&pids)
    }

    /// What it has seen; nginx does not tell.
    fn seen(&mut self) -> io::Result<Option<Seen>> {
        match self {
            Self::Own(process, output) => ask(process, output, "").map(Some),
            Self::Nginx(..) => Ok(None),
        }
    }

    /// Has it answer like this from now on.
    pub(super) fn order(&mut self, orders: Orders) -> io::Result<()> {
        match self {
            Self::Own(process, output) => {
                ask(process, output, &serde_json::to_string(&orders)?).map(drop)
            }
            Self::Nginx(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn ask(process: &mut Guarded, output: &mut BufReader<ChildStdout>, line: &str) -> io::Result<Seen> {
    process.tell(line)?;
    host::hear(output)
}

/// All clocks at one moment.
struct Reading {
    at: Instant,
    proxy: Duration,
    user: Duration,
    system: Duration,
    cores: Vec<CoreTime>,
    load: Duration,
    upstream: Duration,
    seen: Option<Seen>,
}

fn cpu_clock(pids: &[u32]) -> io::Result<Duration> {
    pids.iter().map(|&pid| process::cpu_clock(pid)).sum()
}

impl Reading {
    fn take(pids: &[u32], cores: &[usize], upstream: &mut Upstream) -> io::Result<Self> {
        let (mut user, mut system) = (Duration::ZERO, Duration::ZERO);
        for &pid in pids {
            let (u, s) = process::cpu_times(pid)?;
            (user, system) = (user + u, system + s);
        }
        Ok(Self {
            seen: upstream.seen()?,
            proxy: cpu_clock(pids)?,
            user,
            system,
            cores: cores
                .iter()
                .map(|&core| CoreTime::of(core))
                .collect::<io::Result<_>>()?,
            load: process::thread_clock()?,
            upstream: upstream.cpu()?,
            at: Instant::now(),
        })
    }
}

/// How long is measured, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Measured.
    pub measured: Duration,
    /// Before that.
    pub warmup: Duration,
    /// What weir answers at most; the open loop's rate is a share of it.
    pub saturation: f64,
}

/// Starts a peer, loads it, and tells what came of it.
///
/// # Errors
/// When the peer does not start or does not relay, or the load cannot be made.
pub(super) fn sample(
    stage: &Stage,
    upstream: &mut Upstream,
    (scenario, peer): (Scenario, Peer),
    timing: Timing,
) -> io::Result<Sample> {
    if let Scenario::Churn { life } = scenario {
        upstream.order(Orders {
            life,
            ..Orders::default()
        })?;
        let sample = loaded(stage, upstream, (scenario, peer), timing);
        upstream.order(Orders::default())?;
        return sample;
    }
    loaded(stage, upstream, (scenario, peer), timing)
}

fn loaded(
    stage: &Stage,
    upstream: &mut Upstream,
    (scenario, peer): (Scenario, Peer),
    timing: Timing,
) -> io::Result<Sample> {
    let running = peer.start(stage)?;
    let plan = running.plan(scenario.fleet());
    try_out(&running, peer, &plan, BODY_BYTES)?;
    let mut sample = Sample {
        scenario: scenario.name(),
        peer: peer.name(),
        round: 0,
        place: 0,
        values: BTreeMap::new(),
        problems: Vec::new(),
    };
    let (connections, rate) = match scenario {
        Scenario::Closed { connections } => (connections, None),
        Scenario::Buckets | Scenario::Churn { .. } => (CONNECTIONS, None),
        Scenario::Open { percent } => {
            let rate = timing.saturation * f64::from(percent) / 100.0;
            (CONNECTIONS, Some(rate))
        }
        Scenario::Idle { connections } => {
            let bytes = idle(&running, scenario, connections)?;
            sample.values.insert(metric::IDLE, bytes);
            return Ok(sample);
        }
    };
    let config = LoadConfig {
        target: running.target.clone(),
        connections,
        under_way: None,
        rate,
        duration: timing.measured,
        warmup: timing.warmup,
        plan,
    };
    let cores = stage.cores.proxy(peer.workers());
    if peer == Peer::DirectApart {
        upstream.move_to(cores)?;
    }
    let measured = under_load(&running, upstream, (peer, cores), &config);
    if peer == Peer::DirectApart {
        upstream.move_to(&[stage.cores.upstream])?;
    }
    (sample.values, sample.problems) = measured?;
    Ok(sample)
}

/// What is measured of a running peer under a load, by name, and what makes it doubtful.
///
/// # Errors
/// When the load cannot be made, or a process has ended.
pub(super) fn under_load(
    running: &Running,
    upstream: &mut Upstream,
    (peer, cores): (Peer, &[usize]),
    config: &LoadConfig,
) -> io::Result<(BTreeMap<&'static str, f64>, Vec<String>)> {
    let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
    let pids = running.serving();
    let mut readings = Vec::new();
    let report = load::run_watched(config, |_: Moment| {
        readings.push(Reading::take(&pids, cores, upstream));
    })?;
    let readings = readings.into_iter().collect::<io::Result<Vec<_>>>()?;
    let [begin, end] = &readings[..] else {
        return Err(io::Error::other("the load ended before it was measured"));
    };
    let answers = report.answers();
    if report.statuses.keys().any(|&status| status != 200) || report.errors > 0 {
        let (statuses, errors) = (&report.statuses, report.errors);
        let text = format!("answers {statuses:?}, {errors} errors");
        problems.push(text);
    }
    let wall = (end.at - begin.at).as_secs_f64();
    let per_request = |spent: Duration| spent.as_secs_f64() * 1e6 / answers.max(1) as f64;
    values.insert(metric::REQUESTS, answers as f64);
    values.insert(metric::RATE, answers as f64 / wall);
    values.insert(metric::P50, report.latency_us(0.5));
    values.insert(metric::P99, report.latency_us(0.99));
    values.insert(metric::P999, report.latency_us(0.999));
    values.insert(metric::LOAD, per_request(end.load - begin.load));
    values.insert(metric::UPSTREAM, per_request(end.upstream - begin.upstream));
    if let (Some(before), Some(after), true) = (begin.seen, end.seen, peer != Peer::Relay) {
        let resumed = after.resumed - before.resumed;
        values.insert(metric::RESUMED, resumed as f64);
        let opened = after.full - before.full + resumed;
        values.insert(metric::OPENED, opened as f64);
        let share = opened as f64 / answers.max(1) as f64;
        values.insert(metric::OPENED_SHARE, share * 100.0);
        let full = opened - resumed;
        values.insert(
            metric::FULL_SHARE,
            full as f64 * 100.0 / opened.max(1) as f64,
        );
    }
    // Of nothing there is no cost of one.
    if pids.is_empty() || answers == 0 {
        return Ok((values, problems));
    }
    let spent = end.proxy - begin.proxy;
    let cpu = per_request(spent);
    let (user, system) = (end.user - begin.user, end.system - begin.system);
    let share = user.as_secs_f64() / (user + system).as_secs_f64().max(1e-9);
    values.insert(metric::CPU, cpu);
    values.insert(metric::USER, cpu * share);
    values.insert(metric::SYSTEM, cpu * (1.0 - share));
    let both = begin.cores.iter().zip(&end.cores);
    let busy: f64 = both.map(|(before, after)| after.busy_since(*before)).sum();
    values.insert(metric::BUSY, busy / cores.len() as f64);
    values.insert(
        metric::SHARE,
        spent.as_secs_f64() / wall / cores.len() as f64,
    );
    values.insert(metric::RSS, resident(&pids)?.1 as f64);
    Ok((values, problems))
}

/// Resident bytes of these processes, now and at most.
fn resident(pids: &[u32]) -> io::Result<(u64, u64)> {
    let mut sum = (0, 0);
    for &pid in pids {
        let (now, most) = process::resident_bytes(pid)?;
        sum = (sum.0 + now, sum.1 + most);
    }
    Ok(sum)
}

/// One request: a peer that answers anything else is not measured.
///
/// # Errors
/// See above.
pub(super) fn try_out(
    running: &Running,
    peer: Peer,
    plan: &Plan,
    body_bytes: usize,
) -> io::Result<()> {
    let request = plan.first(&running.target);
    let mut client = Client::connect(&running.target)?;
    client.send_raw(&request)?;
    let response = client.response("GET")?;
    if response.status == 200 && response.body.len() == body_bytes {
        return Ok(());
    }
    let (name, status, bytes) = (peer.name(), response.status, response.body.len());
    Err(io::Error::other(format!(
        "{name} answers {status} with {bytes} bytes"
    )))
}

/// Bytes that each of `connections` idle connections takes.
fn idle(running: &Running, scenario: Scenario, connections: usize) -> io::Result<f64> {
    let pids = running.serving();
    let requests = scenario.fleet().plan().bytes(&running.target);
    let open = |n: usize| -> io::Result<Vec<TcpStream>> {
        let once = |request: &Vec<u8>| -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect(running.target.addr)?;
            stream.write_all(request)?;
            receive(&mut stream, BODY_BYTES)?;
            Ok(stream)
        };
        requests.iter().cycle().take(n).map(once).collect()
    };
    // What the first connections bring about (buckets, buffers, the pool) is not the others' doing.
    let first = open(requests.len())?;
    let before = resident(&pids)?.0;
    let rest = open(connections)?;
    // Time for memory to be given back, where that happens.
    std::thread::sleep(Duration::from_millis(300));
    let after = resident(&pids)?.0;
    drop((first, rest));
    Ok(after.saturating_sub(before) as f64 / connections.max(1) as f64)
}

/// Sends each of these requests once over so many connections, for no longer than `patience`. Tells
/// how many were answered.
///
/// # Errors
/// When a connection breaks.
pub(super) fn touch(
    running: &Running,
    plan: &Plan,
    body_bytes: usize,
    patience: Duration,
) -> io::Result<usize> {
    let connect = || TcpStream::connect(running.target.addr);
    let mut streams = (0..CONNECTIONS)
        .map(|_| connect())
        .collect::<io::Result<Vec<_>>>()?;
    let (end, mut answered) = (Instant::now() + patience, 0);
    for requests in plan.bytes(&running.target).chunks(CONNECTIONS) {
        if Instant::now() > end {
            break;
        }
        for (stream, request) in streams.iter_mut().zip(requests) {
            stream.write_all(request)?;
        }
        for (stream, _) in streams.iter_mut().zip(requests) {
            receive(stream, body_bytes)?;
            answered += 1;
        }
    }
    Ok(answered)
}

/// Reads an answer whose length is known.
fn receive(stream: &mut TcpStream, body_bytes: usize) -> io::Result<()> {
    let (mut have, mut buf) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buf)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        have.extend_from_slice(&buf[..n]);
        if let Some(head) = memchr::memmem::find(&have, b"\r\n\r\n")
            && have.len() >= head + 4 + body_bytes
        {
            return Ok(());
        }
    }
}
