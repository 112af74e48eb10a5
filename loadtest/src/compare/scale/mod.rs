//! What a request costs as something grows: load, connections, buckets, bodies, workers.
//!
//! The peers, the traffic and the clocks of a comparison. A peer is started once for each value, and
//! measured at all of its loads, the closed loop first: it tells what 100 % is.

mod report;
mod series;

pub use report::{FILE, Report};
pub use series::Series;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use self::series::{Pace, Step};
use super::host::{self, Cores, Scratch};
use super::measure::{self, Sample, Upstream, metric};
use super::peers::{self, Peer, Stage};
use super::{UpstreamKind, set_up};
use crate::load::LoadConfig;

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rounds, at least 1; medians are taken over them.
    pub rounds: usize,
    /// How long each sample is measured.
    pub measured: Duration,
    /// What grows.
    pub series: Vec<Series>,
    /// Values above this are left out.
    pub most: u64,
    /// Who takes part, of those that a series has.
    pub peers: Vec<Peer>,
    /// The weir under test; the one beside this program if `None`.
    pub weir: Option<PathBuf>,
}

/// Load before the first measurement of a process, and before each that follows.
const WARMUP: Duration = Duration::from_millis(300);
const WARMUP_NEXT: Duration = Duration::from_millis(150);

/// How long buckets are touched at most.
const TOUCH_PATIENCE: Duration = Duration::from_secs(60);

/// A sample has at least so many requests, if that does not take longer than [`LONGEST`].
const REQUESTS_LEAST: f64 = 40.0;
const LONGEST: Duration = Duration::from_secs(6);

/// How long is measured at a rate: longer if few requests come.
fn duration(measured: Duration, rate: Option<f64>) -> Duration {
    let Some(rate) = rate else { return measured };
    let needed = Duration::try_from_secs_f64(REQUESTS_LEAST / rate).unwrap_or(LONGEST);
    needed.min(LONGEST).max(measured)
}

/// `MAX_BUCKETS`: twice what is tracked at most, so that none has to go.
const BUCKETS_MAX: &str = "2000000";

/// A measurement of one point.
#[derive(Clone, Debug)]
struct Point {
    series: Series,
    x: u64,
    load: u32,
    sample: Sample,
}

impl Point {
    /// What samples of the same point are filed under.
    fn key(series: Series, x: u64, load: u32) -> String {
        format!("{}/{x}/{load}", series.name())
    }
}

/// Measures; tells `say` what it is about to do.
///
/// # Errors
/// When a peer does not start, or load cannot be made.
pub fn run(options: &Options, mut say: impl FnMut(&str)) -> io::Result<Report> {
    let cores = Cores::divide()?;
    host::raise_descriptors()?;
    let weir = peers::find_weir(options.weir.as_deref())?;
    let scratch = Scratch::make()?;
    let (mut stage, mut upstream) = set_up(UpstreamKind::Own, cores.clone(), weir, &scratch.0)?;
    stage.settings = vec![("MAX_BUCKETS", BUCKETS_MAX.to_owned())];
    host::pin(&[cores.load])?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let mut points = Vec::new();
    for round in 1..=options.rounds.max(1) {
        for &series in &options.series {
            let mut run = Run {
                options,
                stage: &stage,
                series,
                round,
                first: None,
                points: &mut points,
            };
            for step in series.steps(&cores) {
                if step.x <= options.most {
                    run.step(&mut upstream, &step, &mut say)?;
                }
            }
        }
    }
    rustix::thread::sched_setaffinity(None, &super::everywhere(&cores))?;
    Ok(Report::new(options.clone(), cores, points))
}

/// One series in one round.
struct Run<'a> {
    options: &'a Options,
    stage: &'a Stage,
    series: Series,
    round: usize,
    /// What the first closed loop reached.
    first: Option<f64>,
    points: &'a mut Vec<Point>,
}

impl Run<'_> {
    fn step(
        &mut self,
        upstream: &mut Upstream,
        step: &Step,
        say: &mut impl FnMut(&str),
    ) -> io::Result<()> {
        upstream.order(step.orders)?;
        let plan = step.sent.plan();
        let mut config = LoadConfig {
            // Another one for each peer.
            target: crate::client::Target::plain(self.stage.upstream_plain),
            connections: step.connections,
            under_way: step.under_way,
            rate: None,
            duration: self.options.measured,
            warmup: WARMUP,
            plan,
        };
        for (peer, paces) in &step.peers {
            let peer = *peer;
            if !self.options.peers.contains(&peer) {
                continue;
            }
            if let Some(why) = peer.missing(&self.stage.cores) {
                say(&format!("{} is left out: {why}", peer.name()));
                continue;
            }
            let running = peer.start_with(self.stage, step.workers)?;
            measure::try_out(&running, peer, &config.plan, step.orders.body_bytes)?;
            let mut problems = Vec::new();
            if step.touched {
                let bytes = step.orders.body_bytes;
                let touched = measure::touch(&running, &config.plan, bytes, TOUCH_PATIENCE)?;
                if (touched as u64) < step.sent.buckets() {
                    problems.push(format!("only {touched} buckets were touched"));
                }
            }
            config.target = running.target.clone();
            config.warmup = WARMUP;
            let mut reached = 0.0;
            for &pace in paces {
                config.rate = match pace {
                    Pace::Closed => None,
                    Pace::Share(percent) => Some(reached * f64::from(percent) / 100.0),
                    Pace::ShareOfFirst(percent) => {
                        Some(self.first.unwrap_or(reached) * f64::from(percent) / 100.0)
                    }
                };
                config.duration = duration(self.options.measured, config.rate);
                // In the series of loads the load is what grows.
                let load = pace.percent();
                let x = match (self.series, pace) {
                    (Series::Load, Pace::ShareOfFirst(percent)) => u64::from(percent),
                    (Series::Load, _) => 0,
                    _ => step.x,
                };
                let key = Point::key(self.series, x, load);
                say(&format!("round {}, {key}, {}", self.round, peer.name()));
                let cores = self.stage.cores.proxy(step.workers);
                let (values, more) =
                    measure::under_load(&running, upstream, (peer, cores), &config)?;
                config.warmup = WARMUP_NEXT;
                if pace == Pace::Closed {
                    reached = values.get(metric::RATE).copied().unwrap_or(0.0);
                    self.first.get_or_insert(reached);
                }
                let sample = Sample {
                    scenario: key,
                    peer: peer.name(),
                    round: self.round,
                    place: 1,
                    values,
                    problems: problems.iter().cloned().chain(more).collect(),
                };
                self.points.push(Point {
                    series: self.series,
                    x,
                    load,
                    sample,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_requests_are_measured_for_longer_but_not_for_ever() {
        let second = Duration::from_secs(1);
        assert_eq!(duration(second, None), second);
        assert_eq!(duration(second, Some(1000.0)), second);
        assert_eq!(duration(second, Some(10.0)), 4 * second);
        assert_eq!(duration(second, Some(0.1)), LONGEST);
        assert_eq!(duration(second, Some(0.0)), LONGEST);
    }
}
