//! `loadtest cluster-sim`: nodes of a cluster under virtual time, and how long what goes wrong lasts.

use std::io;
use std::time::{Duration, Instant};

use weir::sim::cluster::{self, Kind, Report};

use super::say;

/// Runs under virtual time; the same seeds give the same numbers. Fails, and names the seed, if nodes did
/// not agree in time, an identity had no owner or two, or Discord refused anything while nothing was
/// disturbed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs, each of 2 to 9 nodes and five disturbances.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
}

/// What one kind of disturbance did in all runs.
#[derive(Default)]
struct Row {
    times: u64,
    took: Vec<Duration>,
    window_max: Duration,
    refused: usize,
    refused_max: usize,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let started = Instant::now();
    let seeds = args.seed.map_or(0..args.seeds, |seed| seed..seed + 1);
    let reports: Vec<Report> = seeds.map(cluster::run).collect();
    say("             times   agreed after, ms        limits open   refused by Discord")?;
    say("                    median    99 %     max     max, ms     in all   in one run")?;
    for kind in Kind::EVERY {
        let row = row(kind, &reports);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        say(&format!(
            "{:<10} {:>7}  {:>8.0}  {:>6.0}  {:>6.0}  {:>10.0}  {:>9}  {:>11}",
            format!("{kind:?}"),
            row.times,
            ms(part(&row.took, 0.5)),
            ms(part(&row.took, 0.99)),
            ms(part(&row.took, 1.0)),
            ms(row.window_max),
            row.refused,
            row.refused_max,
        ))?;
    }
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    say(&format!(
        "\n{} requests, {} served, {} refused by weir for their long wait, {} found no node; {} relays failed; \
         {} refused by Discord while nothing was disturbed",
        sum(|r| r.asked),
        sum(|r| r.served),
        sum(|r| r.refused),
        sum(|r| r.failed),
        sum(|r| r.relays_failed),
        sum(|r| r.steady as u64),
    ))?;
    for nodes in 2..=9 {
        let of: Vec<f64> = reports
            .iter()
            .filter(|r| r.nodes == nodes)
            .map(|r| r.bytes_per_node_and_second)
            .collect();
        if !of.is_empty() {
            let mean = of.iter().sum::<f64>() / of.len() as f64;
            say(&format!(
                "{nodes} nodes: {mean:.0} bytes of gossip sent by each a second"
            ))?;
        }
    }
    say(&format!("{:.1} s", started.elapsed().as_secs_f64()))?;
    let complaints: Vec<String> = reports.iter().flat_map(Report::complaints).collect();
    if complaints.is_empty() {
        return say("everything held");
    }
    for complaint in &complaints {
        say(&format!("FAILED: {complaint}"))?;
    }
    Err(io::Error::other(format!(
        "{} things did not hold",
        complaints.len()
    )))
}

fn row(kind: Kind, reports: &[Report]) -> Row {
    let mut row = Row::default();
    for report in reports {
        for disturbance in report.disturbances.iter().filter(|d| d.kind == kind) {
            row.times += 1;
            row.took.extend(disturbance.took());
            row.window_max = row.window_max.max(disturbance.window().unwrap_or_default());
        }
        let refused = report.disturbed.iter().find(|(k, _)| *k == kind);
        let refused = refused.map_or(0, |(_, count)| *count);
        row.refused += refused;
        row.refused_max = row.refused_max.max(refused);
    }
    row.took.sort_unstable();
    row
}

/// The value below which this part of them lies.
fn part(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * part).ceil() as usize;
    sorted.get(place).copied().unwrap_or_default()
}
