//! `loadtest demo`: see it happen.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use loadtest::demo::{self, Bot, Proxy, Tick};
use loadtest::mock::oracle::OracleReport;

/// Starts a mock Discord, weir before it and some bots, all on loopback, and shows every second
/// what happens. Fails when the mock had to refuse anything or a request failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long, in seconds.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// How many bots.
    #[arg(long, default_value_t = 3)]
    bots: u64,
    /// Leave weir out: what happens to the same bots without it.
    #[arg(long)]
    direct: bool,
}

pub(super) fn run(args: &Args) -> io::Result<()> {
    let mock = demo::discord(args.direct)?;
    let ca = CaFile::write(&mock.ca_pem)?;
    let proxy = if args.direct {
        super::say("Discord without a proxy:")?;
        None
    } else {
        let proxy = Proxy::start(&mock.url(), &ca.0)?;
        let (here, there) = (proxy.addr, mock.addr);
        super::say(&format!("weir at {here} before a mock Discord at {there}"))?;
        if let Some(metrics) = proxy.metrics_addr {
            super::say(&format!("metrics at http://{metrics}/metrics"))?;
        }
        Some(proxy)
    };
    let target = proxy.as_ref().map_or(mock.addr, |proxy| proxy.addr);
    let bots = Bot::first(args.bots.max(1));
    let seconds = args.seconds.max(1);
    let (n, s) = (bots.len(), seconds);
    super::say(&format!(
        "{n} bots without rate limits of their own, for {s} s\n\n{HEAD}"
    ))?;
    let (mut last, mut told) = (Tick::default(), Ok(()));
    let tell = |tick: &Tick, report: &OracleReport| {
        if told.is_ok() {
            told = super::say(&line(tick, &last, report));
        }
        last = *tick;
    };
    let report = demo::run(&mock, target, &bots, Duration::from_secs(seconds), tell)?;
    told?;
    let refused: u64 = report.refused.values().sum();
    super::say(&summary(&last, &report, refused))?;
    if refused > 0 && !args.direct {
        return Err(io::Error::other(format!(
            "{refused} requests were refused upstream"
        )));
    }
    if last.failed > 0 && !args.direct {
        return Err(io::Error::other(format!("{} requests failed", last.failed)));
    }
    Ok(())
}

const HEAD: &str =
    "  time   sent/s  waiting  answered/s   429s upstream   429s avoided     p50 ms     p99 ms";

fn line(tick: &Tick, last: &Tick, report: &OracleReport) -> String {
    let over = (tick.elapsed - last.elapsed).as_secs_f64().max(0.001);
    let rate = |now: u64, before: u64| (now - before) as f64 / over;
    let answered = |t: &Tick| t.succeeded + t.refused + t.failed;
    format!(
        "{:>4} s {:>8.0} {:>8} {:>11.0} {:>15} {:>14} {:>10.1} {:>10.1}",
        tick.elapsed.as_secs(),
        rate(tick.sent, last.sent),
        tick.waiting,
        rate(answered(tick), answered(last)),
        report.refused.values().sum::<u64>(),
        tick.avoided,
        tick.p50.as_secs_f64() * 1000.0,
        tick.p99.as_secs_f64() * 1000.0,
    )
}

fn summary(tick: &Tick, report: &OracleReport, refused: u64) -> String {
    let Tick {
        sent,
        succeeded,
        failed,
        avoided,
        ..
    } = tick;
    let (order, connections) = (&report.order, &report.connections);
    format!(
        "\n{sent} requests sent, {succeeded} succeeded, {failed} failed. Discord refused {refused}; \
         {avoided} would have been refused had they not waited.\n{} messages in sequence, {} out of \
         order. {} connections to Discord.",
        order.tagged, order.inversions, connections.opened
    )
}

/// The mock's authority as a file, as long as the demonstration lasts.
struct CaFile(PathBuf);

impl CaFile {
    fn write(pem: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("weir-demo-ca-{}.pem", std::process::id()));
        fs::write(&path, pem)?;
        Ok(Self(path))
    }
}

impl Drop for CaFile {
    fn drop(&mut self) {
        // A file that is already gone is as good.
        let _ = fs::remove_file(&self.0);
    }
}
