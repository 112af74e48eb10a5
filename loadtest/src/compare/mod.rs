//! weir beside nginx, haproxy and the floor, on one core each, in turn.
//!
//! ```text
//! core 0   the proxy: weir, nginx, haproxy or the relay, a process of its own, started anew
//! core 1   load generator, upstream (TLS 1.3)
//! ```
//! Machines are noisy: what counts is CPU time per request, and ratios between peers that ran
//! moments apart. Each round goes through all scenarios, and in each through all peers in another
//! order; ratios are taken within a round, and medians over the rounds.
//!
//! `upstream` and `relay` are the parts that run beside the peers; `peers` start them; `measure`
//! takes one sample; `scale` measures what changes as something grows; `stats` and `bounds` make sense of all; `report` writes them down.

mod bounds;
pub(crate) mod host;
mod measure;
mod peers;
pub mod relay;
mod report;
pub mod scale;
mod scenario;
pub(crate) mod stats;
mod traffic;
pub mod upstream;

pub use peers::Peer;
pub(crate) use peers::find_weir;
pub use report::{Report, folder as new_folder};

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::host::{Cores, Guarded, Scratch};
use self::measure::{Sample, Timing, Upstream, metric};
use self::peers::{NginxUpstream, Stage};
use self::scenario::{CONNECTIONS, Scenario};
use self::stats::Samples;
use self::traffic::Fleet;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum UpstreamKind {
    /// The responder of this program.
    #[default]
    Own,
    /// nginx with a fixed answer.
    Nginx,
}

/// What to compare, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds, at least 1.
    pub rounds: usize,
    /// How long each sample is measured.
    pub measured: Duration,
    /// Who takes part.
    pub peers: Vec<Peer>,
    /// Connections of the closed loops.
    pub connections: Vec<usize>,
    /// Connections of the idle scenario.
    pub idle: usize,
    /// Requests that a connection to the upstream lives for in the churn.
    pub life: u64,
    /// Names of scenarios; all if empty.
    pub only: Vec<String>,
    /// Who answers.
    pub upstream: UpstreamKind,
    /// The weir under test; see [`Peer::Weir`]. The one beside this program if `None`.
    pub weir: Option<PathBuf>,
    /// Decides the order of peers.
    pub seed: u64,
}

/// Compares; tells `say` what it is about to do.
///
/// # Errors
/// When a scenario is unknown, a peer does not start, or load cannot be made.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> io::Result<Report> {
    let scenarios = choose(options)?;
    let cores = Cores::divide()?;
    host::raise_descriptors()?;
    let mut missing = Vec::new();
    let mut peers = Vec::new();
    for &peer in &options.peers {
        match peer.missing(&cores) {
            None => peers.push(peer),
            Some(why) => {
                say(&format!("{} is left out: {why}", peer.name()));
                missing.push((peer, why));
            }
        }
    }
    let weir = find_weir(options.weir.as_deref())?;
    let scratch = Scratch::make()?;
    let (stage, mut upstream) = set_up(options.upstream, cores.clone(), weir, &scratch.0)?;
    host::pin(&[cores.load])?;
    // Sleeps of the open loop end when they should; by default 50 µs later are as good.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let mut timing = Timing {
        measured: options.measured,
        warmup: (options.measured / 4).clamp(WARMUP_MIN, WARMUP_MAX),
        saturation: 0.0,
    };
    let mut samples = Samples::default();
    let mut order = Order(options.seed);
    for round in 1..=options.rounds.max(1) {
        for &scenario in &scenarios {
            if matches!(scenario, Scenario::Open { .. }) {
                timing.saturation = saturation(&stage, &mut upstream, &samples, timing)?;
            }
            let mut peers: Vec<Peer> = peers
                .iter()
                .copied()
                .filter(|&peer| scenario.concerns(peer))
                .collect();
            order.shuffle(&mut peers);
            for (place, &peer) in peers.iter().enumerate() {
                say(&format!(
                    "round {round} of {}, {}, {}",
                    options.rounds,
                    scenario.name(),
                    peer.name()
                ));
                let sample = measure::sample(&stage, &mut upstream, (scenario, peer), timing)?;
                samples.0.push(Sample {
                    round,
                    place: place + 1,
                    ..sample
                });
            }
        }
    }
    rustix::thread::sched_setaffinity(None, &everywhere(&cores))?;
    Ok(Report {
        standings: bounds::standings(&samples),
        options: options.clone(),
        scenarios,
        missing,
        cores,
        samples,
    })
}

/// Warm-ups last a quarter of what is measured, but no less than all buckets take to become known,
/// and no longer than helps.
const WARMUP_MIN: Duration = Duration::from_millis(300);
const WARMUP_MAX: Duration = Duration::from_secs(1);

fn everywhere(cores: &Cores) -> rustix::thread::CpuSet {
    let mut set = rustix::thread::CpuSet::new();
    for &core in &cores.all {
        set.set(core);
    }
    set
}

/// The scenarios that were asked for.
fn choose(options: &Options) -> io::Result<Vec<Scenario>> {
    let mut scenarios = Scenario::list(&options.connections, options.idle, options.life);
    if options.upstream == UpstreamKind::Nginx {
        // nginx does not count connections.
        scenarios.retain(|scenario| !matches!(scenario, Scenario::Churn { .. }));
    }
    for name in &options.only {
        if !scenarios.iter().any(|scenario| scenario.name() == *name) {
            let names: Vec<_> = scenarios.iter().map(|scenario| scenario.name()).collect();
            let text = format!("no scenario {name}; there are {}", names.join(", "));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
    }
    scenarios.retain(|scenario| options.only.is_empty() || options.only.contains(&scenario.name()));
    Ok(scenarios)
}

/// Starts the upstream.
fn set_up(
    kind: UpstreamKind,
    cores: Cores,
    weir: PathBuf,
    folder: &Path,
) -> io::Result<(Stage, Upstream)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["part", "upstream"]);
    let log = folder.join("responder.log");
    let mut process = Guarded::start(command, &[cores.upstream], &log, true)?;
    let mut output = process.output().ok_or(io::ErrorKind::BrokenPipe)?;
    let place: upstream::Place = host::hear(&mut output)?;
    let at = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let mut stage = Stage {
        folder: folder.to_owned(),
        upstream: at(place.tls),
        upstream_plain: at(place.plain),
        ca_pem: place.ca_pem,
        ca_file: folder.join("ca.pem"),
        cores,
        weir,
        overrides: Fleet::LARGE.overrides(),
        settings: Vec::new(),
    };
    let mut upstream = Upstream::Own(process, output);
    if kind == UpstreamKind::Nginx {
        let nginx = NginxUpstream::start(folder, &stage.cores)?;
        (stage.upstream, stage.ca_pem) = (nginx.addr, nginx.ca_pem.clone());
        upstream = upstream.joined_by(nginx);
    }
    fs::write(&stage.ca_file, &stage.ca_pem)?;
    Ok((stage, upstream))
}

/// What weir answers at most with 64 connections: measured already, or now.
fn saturation(
    stage: &Stage,
    upstream: &mut Upstream,
    samples: &Samples,
    timing: Timing,
) -> io::Result<f64> {
    let closed = Scenario::Closed {
        connections: CONNECTIONS,
    };
    let known = samples.spread(&closed.name(), Peer::Weir.name(), metric::RATE);
    if let Some(known) = known {
        return Ok(known.median);
    }
    if timing.saturation > 0.0 {
        return Ok(timing.saturation);
    }
    let sample = measure::sample(stage, upstream, (closed, Peer::Weir), timing)?;
    Ok(sample.values.get(metric::RATE).copied().unwrap_or(0.0))
}

/// Orders that look like chance and follow from a seed (splitmix64).
struct Order(u64);

impl Order {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle(&mut self, peers: &mut [Peer]) {
        for i in (1..peers.len()).rev() {
            let j = self.next() % (i as u64 + 1);
            peers.swap(i, usize::try_from(j).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_comes_first_now_and_then() {
        let mut order = Order(1);
        let mut first = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut peers = Peer::ALL;
            order.shuffle(&mut peers);
            first.insert(peers[0]);
        }
        assert_eq!(first.len(), Peer::ALL.len());
    }
}
