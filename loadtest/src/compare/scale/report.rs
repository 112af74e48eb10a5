//! Series as tables, and as files that pictures are drawn from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;

use super::{Options, Point, Series};
use crate::compare::host::Cores;
use crate::compare::measure::metric;
use crate::compare::peers::Peer;
use crate::compare::report::{SATURATED, processor, read};
use crate::compare::stats::Samples;

/// The file that pictures are drawn from.
pub const FILE: &str = "scale.json";

/// What came of all series.
#[derive(Debug)]
pub struct Report {
    options: Options,
    cores: Cores,
    /// Where there is a measurement: series, value, load, peer.
    places: BTreeSet<(u8, u64, u32, Peer)>,
    samples: Samples,
}

/// Columns of a table: a peer at a load.
type Columns = BTreeSet<(Peer, std::cmp::Reverse<u32>)>;

impl Report {
    pub(super) fn new(options: Options, cores: Cores, points: Vec<Point>) -> Self {
        let place = |point: &Point| {
            let peer = Peer::ALL
                .into_iter()
                .find(|peer| peer.name() == point.sample.peer)?;
            Some((point.series as u8, point.x, point.load, peer))
        };
        Self {
            options,
            cores,
            places: points.iter().filter_map(place).collect(),
            samples: Samples(points.into_iter().map(|point| point.sample).collect()),
        }
    }

    /// Tables for people: Markdown that reads as it is.
    pub fn markdown(&self) -> String {
        let mut text = String::from("# What a request costs as something grows\n\n");
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            text,
            "{} round(s), {:.1} s a sample, {} cores, kernel {}; proxies from core 0 on, load and upstream on \
             core {} and {}. Medians.\nCPU in µs per request, user and system, of the proxy's \
             processes. 100 %: the closed loop; below: an open loop at that share of it.\n\\*: the proxy \
             was less than 95 % busy, so that load or upstream were the limit.",
            self.options.rounds,
            self.options.measured.as_secs_f64(),
            self.cores.all.len(),
            read("/proc/sys/kernel/osrelease"),
            self.cores.load,
            self.cores.upstream,
        );
        for &series in &self.options.series {
            let of = |&&(one, ..): &&(u8, u64, u32, Peer)| one == series as u8;
            if self.places.iter().any(|place| of(&place)) {
                let (name, what) = (series.name(), series.describe());
                let _ = writeln!(text, "\n## {name}: {what}");
                self.tables(series, &mut text);
            }
        }
        let doubts: BTreeSet<_> = self.samples.0.iter().filter_map(doubt).collect();
        for doubt in doubts {
            let _ = writeln!(text, "\nDoubtful: {doubt}.");
        }
        text
    }

    fn tables(&self, series: Series, text: &mut String) {
        let cpu = |key: &str, peer: &str| {
            let spread = self.samples.spread(key, peer, metric::CPU)?;
            let busy = self.samples.spread(key, peer, metric::BUSY)?.median;
            let idle = key.ends_with("/100") && busy < SATURATED && !self.shares(key);
            let star = if idle { "\\*" } else { "" };
            Some(format!("{:.2}{star}", spread.median))
        };
        self.table(series, "CPU µs", cpu, text);
        let latency = |key: &str, peer: &str| {
            let p50 = self.samples.spread(key, peer, metric::P50)?.median;
            let p99 = self.samples.spread(key, peer, metric::P99)?.median;
            Some(format!("{p50:.0}, {p99:.0}"))
        };
        let rate = |key: &str, peer: &str| {
            let rate = self.samples.spread(key, peer, metric::RATE)?.median;
            key.ends_with("/100").then(|| format!("{rate:.0}"))
        };
        let memory = |key: &str, peer: &str| {
            let bytes = self.samples.spread(key, peer, metric::RSS)?.median;
            key.ends_with("/100")
                .then(|| format!("{:.1}", bytes / (1024.0 * 1024.0)))
        };
        match series {
            Series::Load | Series::Skew => self.table(series, "p50, p99 in µs", latency, text),
            Series::Workers => {
                self.table(series, "p50, p99 in µs", latency, text);
                self.table(series, "requests/s", rate, text);
            }
            Series::AnswerBody | Series::RequestBody => {
                self.table(series, "requests/s", rate, text);
                self.table(series, "RSS at most, MiB", memory, text);
            }
            Series::Connections | Series::Buckets => {
                self.table(series, "RSS at most, MiB", memory, text);
            }
        }
    }

    /// Whether a proxy with so many workers shares a core with load or upstream: it cannot be fully
    /// busy then.
    fn shares(&self, key: &str) -> bool {
        let workers = match key.split('/').collect::<Vec<_>>()[..] {
            ["workers", x, _] => x.parse().unwrap_or(1),
            ["skew", ..] => 2,
            _ => 1,
        };
        self.cores.shared(workers)
    }

    /// One row for each value, one column for each peer at a load, as far as there is anything to say.
    fn table(
        &self,
        series: Series,
        title: &str,
        cell: impl Fn(&str, &str) -> Option<String>,
        text: &mut String,
    ) {
        let mut rows: BTreeMap<u64, BTreeMap<(Peer, std::cmp::Reverse<u32>), String>> =
            BTreeMap::new();
        let mut columns = Columns::new();
        for &(one, x, load, peer) in &self.places {
            if one != series as u8 {
                continue;
            }
            let Some(value) = cell(&Point::key(series, x, load), peer.name()) else {
                continue;
            };
            // In the series of loads, the load is the row; its closed loop stands apart.
            let load = match series {
                Series::Load if x == 0 => continue,
                Series::Load => 0,
                _ => load,
            };
            let column = (peer, std::cmp::Reverse(load));
            columns.insert(column);
            rows.entry(x).or_default().insert(column, value);
        }
        if columns.is_empty() {
            return;
        }
        let titles = columns.iter().map(|(peer, load)| match load.0 {
            0 => peer.name().to_owned(),
            load => format!("{}, {load} %", peer.name()),
        });
        let titles: Vec<_> = titles.collect();
        let _ = writeln!(
            text,
            "\n| {}: {title} | {} |",
            series.name(),
            titles.join(" | ")
        );
        let _ = writeln!(text, "|---|{}", "---|".repeat(columns.len()));
        for (x, row) in rows {
            let _ = write!(text, "| {} |", thousands(x));
            for column in &columns {
                let _ = write!(text, " {} |", row.get(column).map_or("", String::as_str));
            }
            text.push('\n');
        }
    }

    /// Everything but the samples.
    pub fn json(&self) -> serde_json::Value {
        let points = self.options.series.iter().flat_map(|&series| {
            let of = self
                .places
                .iter()
                .filter(move |(one, ..)| *one == series as u8);
            of.map(move |&(_, x, load, peer)| {
                let (key, peer) = (Point::key(series, x, load), peer.name());
                let names: BTreeSet<_> = self
                    .samples
                    .of(&key, peer)
                    .flat_map(|sample| sample.values.keys())
                    .collect();
                let values: BTreeMap<_, _> = names
                    .into_iter()
                    .map(|name| (name, self.samples.spread(&key, peer, name)))
                    .collect();
                json!({
                    "series": series.name(), "x": x, "load": load, "peer": peer, "values": values,
                })
            })
        });
        json!({
            "rounds": self.options.rounds,
            "seconds": self.options.measured.as_secs_f64(),
            "cores": self.cores.all.len(),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "processor": processor(),
            "points": points.collect::<Vec<_>>(),
        })
    }

    /// Writes `scale.md`, `scale.json` and `scale-samples.jsonl` into `folder`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("scale.md"), self.markdown())?;
        let json = serde_json::to_string_pretty(&self.json())?;
        fs::write(folder.join(FILE), json + "\n")?;
        let mut samples = fs::File::create(folder.join("scale-samples.jsonl"))?;
        for sample in &self.samples.0 {
            writeln!(samples, "{}", serde_json::to_string(sample)?)?;
        }
        Ok(())
    }
}

fn doubt(sample: &crate::compare::measure::Sample) -> Option<String> {
    let problems = sample.problems.join(", ");
    (!problems.is_empty()).then(|| format!("{}, {}: {problems}", sample.scenario, sample.peer))
}

/// A number with its thousands set apart.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure::Sample;

    fn point(x: u64, load: u32, cpu: f64, busy: f64) -> Point {
        let series = Series::Connections;
        Point {
            series,
            x,
            load,
            sample: Sample {
                scenario: Point::key(series, x, load),
                peer: "weir",
                round: 1,
                place: 1,
                values: [(metric::CPU, cpu), (metric::BUSY, busy)].into(),
                problems: Vec::new(),
            },
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_value_and_marks_what_was_not_saturated() {
        let options = Options {
            rounds: 1,
            measured: std::time::Duration::from_secs(1),
            series: vec![Series::Connections],
            most: u64::MAX,
            peers: Peer::ALL.to_vec(),
            weir: None,
        };
        let cores = Cores {
            all: vec![0, 1],
            load: 1,
            upstream: 1,
        };
        let points = vec![
            point(1000, 100, 10.0, 0.99),
            point(1, 100, 30.0, 0.5),
            point(1, 5, 40.0, 0.1),
        ];
        let report = Report::new(options, cores, points);
        let text = report.markdown();
        assert!(
            text.contains("| connections: CPU µs | weir, 100 % | weir, 5 % |"),
            "{text}"
        );
        assert!(
            text.contains("| 1 | 30.00\\* | 40.00 |\n| 1,000 | 10.00 |  |"),
            "{text}"
        );
        let points = &report.json()["points"];
        assert_eq!(points[0]["x"], 1);
        assert_eq!(points[0]["values"]["cpu_us"]["median"], 40.0);
    }

    #[test]
    fn numbers_are_set_apart_by_thousands() {
        let texts = [0, 999, 1_000, 1_048_576].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "1,048,576"]);
    }
}
