//! A comparison as text, as JSON, and as files under `benches/runs`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::bounds::Standing;
use super::host::Cores;
use super::measure::metric;
use super::scenario::Scenario;
use super::stats::{Samples, Spread};
use super::traffic::Fleet;
use super::{Options, Peer};
use crate::mock::clock::iso_date;

/// A core that is less busy than this was not saturated.
pub(super) const SATURATED: f64 = 0.95;

/// A core of which others use more than this was disturbed.
const DISTURBED: f64 = 0.05;

/// What came of a comparison.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) options: Options,
    pub(super) scenarios: Vec<Scenario>,
    pub(super) missing: Vec<(Peer, String)>,
    pub(super) cores: Cores,
    pub(super) samples: Samples,
    pub(super) standings: Vec<Standing>,
}

/// One column of a table.
struct Column {
    title: &'static str,
    metric: &'static str,
    scale: f64,
    digits: usize,
}

const COLUMNS: [Column; 8] = {
    const fn column(
        title: &'static str,
        metric: &'static str,
        scale: f64,
        digits: usize,
    ) -> Column {
        Column {
            title,
            metric,
            scale,
            digits,
        }
    }
    [
        column("user", metric::USER, 1.0, 1),
        column("system", metric::SYSTEM, 1.0, 1),
        column("requests/s", metric::RATE, 1.0, 0),
        column("p50 µs", metric::P50, 1.0, 0),
        column("p99 µs", metric::P99, 1.0, 0),
        column("p99.9 µs", metric::P999, 1.0, 0),
        column("RSS MiB", metric::RSS, 1.0 / (1024.0 * 1024.0), 1),
        column("core busy %", metric::BUSY, 100.0, 0),
    ]
};

impl Report {
    /// Tables for people: Markdown that reads as it is.
    pub fn markdown(&self) -> String {
        let mut text = self.head();
        for &scenario in &self.scenarios {
            text.push_str(&self.table(scenario));
        }
        text.push_str(&self.standings());
        text
    }

    fn head(&self) -> String {
        let (cores, options) = (&self.cores, &self.options);
        let mut text = String::from("# weir and its peers\n\n");
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "{} rounds, {:.1} s a sample, {} cores, kernel {}; proxies from core {} on, load on core {}, \
             upstream ({:?}) on core {}.\nMedians [least to most]. CPU in µs per request, of the \
             proxy's process. weir ÷ peer: CPU, within a round, the weir with as\nmany workers.\n\
             GET of a channel by {} bots, {} buckets, 300 bytes of JSON behind Discord's rate-limit headers. \
             weir runs with limiter, metrics\nand log as by default; every bot's global limit is \
             overridden (BOT_RATELIMIT_OVERRIDES), so that nothing waits.\n",
            options.rounds,
            options.measured.as_secs_f64(),
            cores.all.len(),
            read("/proc/sys/kernel/osrelease"),
            cores.proxy(1).first().copied().unwrap_or(0),
            cores.load,
            options.upstream,
            cores.upstream,
            Fleet::USUAL.bots,
            Fleet::USUAL.buckets(),
        );
        for &peer in &options.peers {
            let out = self.missing.iter().find(|(out, _)| *out == peer);
            let what = out.map_or_else(|| peer.describe(), |(_, why)| format!("not run: {why}"));
            let _ = writeln!(text, "- {}: {what}", peer.name());
        }
        text
    }

    fn table(&self, scenario: Scenario) -> String {
        let name = scenario.name();
        let mut text = format!("\n## {name}: {}\n\n", scenario.describe());
        if matches!(scenario, Scenario::Idle { .. }) {
            text.push_str("| | bytes a connection |\n|---|---|\n");
            for peer in self.ran(&name) {
                let spread = self.samples.spread(&name, peer.name(), metric::IDLE);
                let _ = writeln!(text, "| {} | {} |", peer.name(), cell(spread, 1.0, 0));
            }
            return text;
        }
        let titles: Vec<_> = COLUMNS.iter().map(|column| column.title).collect();
        let _ = writeln!(text, "| | CPU µs | weir ÷ peer | {} |", titles.join(" | "));
        let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(COLUMNS.len()));
        for peer in self.ran(&name) {
            let of = |metric| self.samples.spread(&name, peer.name(), metric);
            let pair = (peer.beside().name(), peer.name());
            let ratio = match peer {
                Peer::Weir => None,
                _ => self.samples.ratio(&name, pair, metric::CPU),
            };
            let (cpu, ratio) = (cell(of(metric::CPU), 1.0, 2), cell(ratio, 1.0, 2));
            let _ = write!(text, "| {} | {cpu} | {ratio} |", peer.name());
            for column in COLUMNS {
                let median = of(column.metric).map(|spread| spread.median * column.scale);
                let digits = column.digits;
                let _ = match median {
                    Some(median) => write!(text, " {median:.digits$} |"),
                    None => write!(text, " |"),
                };
            }
            text.push('\n');
        }
        for note in self.notes(scenario) {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    /// What to know about a table before believing it.
    fn notes(&self, scenario: Scenario) -> Vec<String> {
        let name = scenario.name();
        let mut notes = Vec::new();
        let closed = matches!(
            scenario,
            Scenario::Closed { .. } | Scenario::Buckets | Scenario::Churn { .. }
        );
        let (mut idle, mut disturbed) = (Vec::new(), Vec::new());
        for peer in self.ran(&name) {
            let of = |metric| {
                let spread = self.samples.spread(&name, peer.name(), metric);
                spread.map(|spread| spread.median)
            };
            if let (Some(busy), Some(used)) = (of(metric::BUSY), of(metric::SHARE)) {
                if closed && busy < SATURATED {
                    idle.push(format!("{} ({:.0} % busy)", peer.name(), busy * 100.0));
                }
                if busy - used > DISTURBED && !self.cores.shared(peer.workers()) {
                    let by = (busy - used) * 100.0;
                    disturbed.push(format!("{} ({by:.0} %)", peer.name()));
                }
            }
            for problem in self.samples.problems(&name, peer.name()) {
                notes.push(format!("Doubtful: {}: {problem}.", peer.name()));
            }
            if self.cores.shared(peer.workers()) {
                let name = peer.name();
                notes.push(format!("{name} shares a core with load and upstream."));
            }
        }
        if !idle.is_empty() {
            let idle = idle.join(", ");
            notes.push(format!("Not saturated, the load was the limit: {idle}."));
        }
        if !disturbed.is_empty() {
            let by = disturbed.join(", ");
            notes.push(format!("Others used the proxy's core, too: {by}."));
        }
        if let Some(reuse) = self.reuse(&name) {
            notes.push(reuse);
        }
        notes
    }

    /// What weir did with connections to the upstream.
    fn reuse(&self, scenario: &str) -> Option<String> {
        let sum = |metric| -> Option<f64> {
            let samples = self.samples.of(scenario, Peer::Weir.name());
            samples.map(|sample| sample.values.get(metric)).sum()
        };
        let requests = sum(metric::REQUESTS).filter(|&requests| requests > 0.0)?;
        let (opened, resumed) = (sum(metric::OPENED)?, sum(metric::RESUMED)?);
        let reused = (1.0 - opened / requests) * 100.0;
        Some(format!(
            "weir sent {reused:.3} % of {requests} requests on connections that it had, and opened {opened}, \
             {resumed} of them by resuming a session."
        ))
    }

    fn standings(&self) -> String {
        let mut text = String::from("\n## What weir is to show\n\n");
        text.push_str("| | scenario | at most | measured | |\n|---|---|---|---|---|\n");
        for standing in &self.standings {
            let Standing {
                what,
                scenario,
                most,
                unit,
                measured,
                holds,
            } = standing;
            let digits = if *most < 100.0 { 2 } else { 0 };
            let verdict = match holds {
                Some(true) => "holds",
                Some(false) => "does not hold",
                None => "not measured",
            };
            let measured = cell(*measured, 1.0, digits);
            let _ = writeln!(
                text,
                "| {what} | {scenario} | {most:.digits$} {unit} | {measured} | {verdict} |"
            );
        }
        text
    }

    /// The peers that have samples of a scenario.
    fn ran(&self, scenario: &str) -> impl Iterator<Item = Peer> {
        let peers = Peer::ALL.into_iter();
        peers.filter(move |peer| self.samples.of(scenario, peer.name()).next().is_some())
    }

    /// Everything but the samples.
    pub fn json(&self) -> Value {
        let mut scenarios = serde_json::Map::new();
        for scenario in &self.scenarios {
            let name = scenario.name();
            let mut peers = serde_json::Map::new();
            for peer in self.ran(&name) {
                peers.insert(peer.name().to_owned(), self.peer(&name, peer));
            }
            scenarios.insert(name, peers.into());
        }
        let missing = self.missing.iter();
        let missing = missing.map(|(peer, why)| (peer.name().to_owned(), json!(why)));
        let peers = self.options.peers.iter();
        json!({
            "rounds": self.options.rounds,
            "seconds": self.options.measured.as_secs_f64(),
            "cores": self.cores.all.len(),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "processor": processor(),
            "upstream": format!("{:?}", self.options.upstream).to_lowercase(),
            "versions": peers.map(|peer| (peer.name().to_owned(), json!(peer.describe())))
                .collect::<serde_json::Map<_, _>>(),
            "not_run": missing.collect::<serde_json::Map<_, _>>(),
            "scenarios": scenarios,
            "bounds": self.standings,
        })
    }

    fn peer(&self, scenario: &str, peer: Peer) -> Value {
        let names: std::collections::BTreeSet<_> = self
            .samples
            .of(scenario, peer.name())
            .flat_map(|sample| sample.values.keys())
            .collect();
        let mut values = serde_json::Map::new();
        for name in names {
            let spread = self.samples.spread(scenario, peer.name(), name);
            values.insert((*name).to_owned(), json!(spread));
        }
        let pair = (peer.beside().name(), peer.name());
        if peer != Peer::Weir
            && let Some(ratio) = self.samples.ratio(scenario, pair, metric::CPU)
        {
            values.insert("weir_cpu_ratio".to_owned(), json!(ratio));
        }
        values.into()
    }

    /// For a benchmark harness: a list of what should become smaller, as
    /// github-action-benchmark's `customSmallerIsBetter` reads it.
    pub fn harness(&self) -> Value {
        let mut list = Vec::new();
        for scenario in &self.scenarios {
            let name = scenario.name();
            for peer in self.ran(&name) {
                for (metric, unit) in [
                    (metric::CPU, "µs"),
                    (metric::P50, "µs"),
                    (metric::P99, "µs"),
                    (metric::RSS, "bytes"),
                    (metric::IDLE, "bytes"),
                ] {
                    let spread = self.samples.spread(&name, peer.name(), metric);
                    if let Some(Spread { median, min, max }) = spread {
                        list.push(json!({
                            "name": format!("{name}/{}/{metric}", peer.name()),
                            "unit": unit,
                            "value": median,
                            "range": format!("{min:.3} to {max:.3}"),
                        }));
                    }
                }
            }
        }
        list.into()
    }

    /// Writes `report.md`, `results.json`, `harness.json` and `samples.jsonl` into `folder`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.md"), self.markdown())?;
        let json = |value: &Value| serde_json::to_string_pretty(value).map(|text| text + "\n");
        fs::write(folder.join("results.json"), json(&self.json())?)?;
        fs::write(folder.join("harness.json"), json(&self.harness())?)?;
        let mut samples = fs::File::create(folder.join("samples.jsonl"))?;
        for sample in &self.samples.0 {
            writeln!(samples, "{}", serde_json::to_string(sample)?)?;
        }
        Ok(())
    }
}

/// A folder for a run: `benches/runs/<date>-<host>` in this checkout, with a number behind it if
/// there is one already.
pub fn folder() -> PathBuf {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/runs");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(0);
    let date: String = iso_date(ms).chars().take("2026-11-22".len()).collect();
    let host = read("/proc/sys/kernel/hostname");
    let name = format!("{date}-{host}");
    let numbered = (2..).map(|n| runs.join(format!("{name}-{n}")));
    std::iter::once(runs.join(&name))
        .chain(numbered)
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| runs.join(&name))
}

pub(super) fn read(file: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().to_owned()
}

pub(super) fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or(String::new(), |(_, name)| name.trim().to_owned())
}

fn cell(spread: Option<Spread>, scale: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| {
        let Spread { median, min, max } = spread.scaled(scale);
        format!("{median:.digits$} [{min:.digits$} to {max:.digits$}]")
    })
}
