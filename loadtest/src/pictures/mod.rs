//! Pictures of a run, from its JSON: what was measured is drawn again by one command.

mod chart;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use plotters::style::RGBColor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::chart::{Chart, Line, Stroke};
use crate::compare::{scale, stats::Spread};
use crate::handoff;

/// One measured point of a series.
#[derive(Clone, Debug, Deserialize)]
struct Point {
    series: String,
    x: u64,
    load: u32,
    peer: String,
    values: BTreeMap<String, Spread>,
}

/// `scale.json`, as far as it is drawn.
#[derive(Debug, Deserialize)]
struct Scale {
    points: Vec<Point>,
}

/// Draws all that `from` has data for into `into`, and returns the files.
///
/// # Errors
/// When there is no data, it cannot be read, or a picture cannot be written.
pub fn draw(from: &Path, into: &Path) -> io::Result<Vec<PathBuf>> {
    let mut charts = Vec::new();
    if let Some(Scale { points }) = read(&from.join(scale::FILE))? {
        charts.extend(of_series(&points));
    }
    if let Some(results) = read::<handoff::Results>(&from.join(handoff::FILE))? {
        charts.push(("hand-off", of_hand_off(&results)));
    }
    if charts.is_empty() {
        let text = format!("nothing to draw in {}", from.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    fs::create_dir_all(into)?;
    let write = |(name, chart): (&str, Chart)| {
        let file = into.join(name).with_extension("svg");
        fs::write(&file, chart.svg().map_err(io::Error::other)?)?;
        Ok(file)
    };
    charts.into_iter().map(write).collect()
}

/// Reads a file, if it is there.
fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A peer's colour.
fn colour(peer: &str) -> RGBColor {
    match peer {
        "weir" => RGBColor(0x2f, 0x81, 0xf7),
        "nginx" => RGBColor(0x2d, 0xa4, 0x4e),
        "haproxy" => RGBColor(0xdb, 0x6d, 0x28),
        "relay" => RGBColor(0xa3, 0x71, 0xf7),
        _ => RGBColor(0x8b, 0x94, 0x9e),
    }
}

/// What a picture of a series shows.
struct Plan {
    file: &'static str,
    series: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Each with its stroke; `None` for the load's.
    metrics: &'static [(&'static str, &'static str, Option<Stroke>)],
    logarithmic: bool,
}

const CPU: &[(&str, &str, Option<Stroke>)] = &[("cpu_us", "", None)];
const CPU_LABEL: &str = "CPU, µs a request";

const PLANS: [Plan; 7] = [
    Plan {
        file: "latency",
        series: "load",
        title: "Latency against load",
        x: "requests a second, % of weir's most",
        y: "latency, µs",
        metrics: &[
            ("p99_us", "p99", Some(Stroke::Solid)),
            ("p50_us", "p50", Some(Stroke::Dotted)),
        ],
        logarithmic: true,
    },
    Plan {
        file: "load",
        series: "load",
        title: "Cost of a request against load",
        x: "requests a second, % of weir's most",
        y: CPU_LABEL,
        metrics: &[("cpu_us", "", Some(Stroke::Solid))],
        logarithmic: false,
    },
    Plan {
        file: "connections",
        series: "connections",
        title: "Cost of a request as connections grow",
        x: "client connections",
        y: CPU_LABEL,
        metrics: CPU,
        logarithmic: false,
    },
    Plan {
        file: "buckets",
        series: "buckets",
        title: "Cost of a request as tracked buckets grow",
        x: "buckets",
        y: CPU_LABEL,
        metrics: CPU,
        logarithmic: false,
    },
    Plan {
        file: "answer-body",
        series: "answer-body",
        title: "Cost of a request as its answer grows",
        x: "bytes of the answer's body",
        y: CPU_LABEL,
        metrics: CPU,
        logarithmic: true,
    },
    Plan {
        file: "request-body",
        series: "request-body",
        title: "Cost of a request as its body grows",
        x: "bytes of the request's body",
        y: CPU_LABEL,
        metrics: CPU,
        logarithmic: true,
    },
    Plan {
        file: "workers",
        series: "workers",
        title: "Cost of a request as workers grow",
        x: "workers or threads, a core each",
        y: CPU_LABEL,
        metrics: CPU,
        logarithmic: false,
    },
];

fn of_series(points: &[Point]) -> impl Iterator<Item = (&'static str, Chart)> {
    PLANS.iter().filter_map(|plan| {
        let chart = plan.chart(points);
        (!chart.lines.is_empty()).then_some((plan.file, chart))
    })
}

impl Plan {
    fn chart(&self, points: &[Point]) -> Chart {
        let of_load = self.series == "load";
        // The closed loop that tells what 100 % is stands apart.
        let points: Vec<_> = points
            .iter()
            .filter(|point| point.series == self.series && !(of_load && point.x == 0))
            .collect();
        let mut values: Vec<_> = points.iter().map(|point| point.x).collect();
        values.sort_unstable();
        values.dedup();
        // What grows tenfold from value to value is set out evenly.
        let place = |x: u64| match values.iter().position(|&value| value == x) {
            Some(index) if !of_load => index as f64,
            _ => x as f64,
        };
        let mut lines: Vec<Line> = Vec::new();
        for peer in ["weir", "nginx", "haproxy", "relay", "direct"] {
            for load in [100, 50, 5] {
                for &(metric, name, stroke) in self.metrics {
                    let here = points.iter().filter(|point| {
                        point.peer == peer
                            && (of_load && load == 100 || !of_load && point.load == load)
                    });
                    let line: Vec<_> = here
                        .filter_map(|point| {
                            Some((place(point.x), point.values.get(metric)?.median))
                        })
                        // A logarithm has no place for nothing.
                        .filter(|&(_, value)| value > 0.0)
                        .collect();
                    if line.is_empty() {
                        continue;
                    }
                    let what = if of_load {
                        name.to_owned()
                    } else {
                        format!("{load} % load")
                    };
                    let comma = if what.is_empty() { "" } else { ", " };
                    lines.push(Line {
                        name: format!("{peer}{comma}{what}"),
                        colour: colour(peer),
                        stroke: stroke.unwrap_or(match load {
                            100 => Stroke::Solid,
                            50 => Stroke::Dashed,
                            _ => Stroke::Dotted,
                        }),
                        points: line,
                    });
                }
            }
        }
        Chart {
            title: self.title.to_owned(),
            x: self.x.to_owned(),
            ticks: values
                .iter()
                .map(|&x| (place(x), short(x, self.series)))
                .collect(),
            y: self.y.to_owned(),
            logarithmic: self.logarithmic,
            lines,
        }
    }
}

/// A value on an axis.
fn short(x: u64, series: &str) -> String {
    let (unit, names) = match series {
        "answer-body" | "request-body" => (1024, [" Ki", " Mi"]),
        _ => (1000, [" k", " M"]),
    };
    match x {
        _ if x >= unit * unit => format!("{}{}", x / (unit * unit), names[1]),
        _ if x >= unit => format!("{}{}", x / unit, names[0]),
        _ => x.to_string(),
    }
}

fn of_hand_off(results: &handoff::Results) -> Chart {
    let mut loads: Vec<_> = results.rows.iter().map(|row| row.load).collect();
    loads.sort_unstable();
    loads.dedup();
    let mut lines: Vec<Line> = Vec::new();
    for row in &results.rows {
        let name = format!("{}, {}", row.variant, row.spread);
        let point = (f64::from(row.load), row.cpu_us.median);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name,
                colour: colour(if row.variant == handoff::IN_PLACE {
                    "weir"
                } else {
                    "haproxy"
                }),
                stroke: if row.spread == handoff::EVEN {
                    Stroke::Solid
                } else {
                    Stroke::Dotted
                },
                points: vec![point],
            }),
        }
    }
    for line in &mut lines {
        line.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Chart {
        title: "A bucket on the other worker: decided in place, or by messages".to_owned(),
        x: "load of two workers, %".to_owned(),
        ticks: loads
            .iter()
            .map(|&load| (f64::from(load), load.to_string()))
            .collect(),
        y: CPU_LABEL.to_owned(),
        logarithmic: false,
        lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: u64, load: u32, cpu: f64) -> Point {
        let spread = Spread::of(vec![cpu]).unwrap();
        Point {
            series: "connections".into(),
            x,
            load,
            peer: "weir".into(),
            values: [("cpu_us".to_owned(), spread)].into(),
        }
    }

    #[test]
    fn each_load_of_a_peer_is_a_line_over_what_grows() {
        let points = [
            point(1, 100, 9.0),
            point(8, 100, 10.0),
            // Measured as nothing: no point.
            point(1, 5, 0.0),
            point(8, 5, 30.0),
        ];
        let charts: Vec<_> = of_series(&points).collect();
        let [(name, chart)] = &charts[..] else {
            panic!("{charts:?}");
        };
        assert_eq!(*name, "connections");
        assert_eq!(chart.ticks, [(0.0, "1".to_owned()), (1.0, "8".to_owned())]);
        let lines: Vec<_> = chart
            .lines
            .iter()
            .map(|line| (&line.name[..], &line.points[..]))
            .collect();
        assert_eq!(
            lines,
            [
                ("weir, 100 % load", &[(0.0, 9.0), (1.0, 10.0)][..]),
                ("weir, 5 % load", &[(1.0, 30.0)]),
            ]
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(short(10 << 20, "answer-body"), "10 Mi");
        assert_eq!(short(1_000_000, "buckets"), "1 M");
        assert_eq!(short(256, "connections"), "256");
    }

    #[test]
    fn a_folder_without_data_is_named() {
        let error = draw(Path::new("/nonexistent"), Path::new("/nonexistent")).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("nothing to draw in /nonexistent")
        );
    }
}
