//! Deciding in place under a shard's lock, against pure messages, between two workers.
//!
//! weir asks a bucket that lives on the other worker in place ([`weir::mesh`]). The other way would
//! be to send each such request to its owner and to wait for the permit: three messages a request
//! (ask, permit, report), each of which wakes a core that sleeps. Both are run here: two threads, a
//! core each, with weir's real mesh and shards, and half of the buckets on the other thread.
//!
//! ```text
//! arrival ─ work ─ ask ─▶ permit ─ work ─ upstream answers after RTT ─ work ─ report
//!                   └── in place: a lock;  messages: mail to the owner and back ──┘
//! ```
//! The rest of a request is a fixed number of instructions of about [`WORK`], so that a load in
//! percent means what it means in a proxy. What is counted is the CPU time of both threads by the
//! scheduler's clock, the sending and the being woken included.

mod post;
mod worker;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::Duration;
use std::{fs, iter};

use serde::{Deserialize, Serialize};

use self::worker::{Course, Outcome, Way};
use crate::compare::host::Cores;
use crate::compare::stats::Spread;

/// CPU time of a request without asking the limiter: what weir's costs on the machine that
/// PERF.md speaks of.
pub const WORK: Duration = Duration::from_micros(10);

/// How long the upstream takes to answer.
pub const RTT: Duration = Duration::from_micros(200);

/// Loads in percent; 100 is the closed loop.
const LOADS: [u32; 3] = [100, 50, 5];

/// The file that the picture is drawn from.
pub const FILE: &str = "handoff.json";

/// Names of what is compared.
pub const IN_PLACE: &str = "in place";
/// See [`IN_PLACE`].
pub const MESSAGES: &str = "messages";
/// Half of the buckets on each worker.
pub const EVEN: &str = "even";
/// All buckets on one worker.
pub const SKEWED: &str = "skewed";

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds, at least 1; medians are taken over them.
    pub rounds: usize,
    /// How long each sample is measured.
    pub measured: Duration,
}

/// Medians of one way at one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// In percent.
    pub load: u32,
    /// Where the buckets are: [`EVEN`] or [`SKEWED`].
    pub spread: String,
    /// [`IN_PLACE`] or [`MESSAGES`].
    pub variant: String,
    /// CPU µs per request, both threads.
    pub(crate) cpu_us: Spread,
    /// The limiter's part of the latency and the waiting for a thread: RTT is taken off.
    pub(crate) p50_us: Spread,
    /// See `p50_us`.
    pub(crate) p99_us: Spread,
    /// Requests a second.
    pub(crate) rate: Spread,
}

/// What came of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Rounds.
    pub rounds: usize,
    /// One for each load, place of buckets and way.
    pub rows: Vec<Row>,
}

/// Measures; the ways take turns.
///
/// # Errors
/// When there are no two cores, or a thread cannot be pinned to one.
pub fn run(options: &Options) -> io::Result<Results> {
    let cores = Cores::divide()?;
    let [one, other, ..] = cores.all[..] else {
        let text = "two cores are needed, of which each has one thread";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    };
    let spin = worker::calibrate(WORK);
    let mut saturation = None;
    let mut outcomes: Vec<(Course, Outcome)> = Vec::new();
    for round in 0..options.rounds.max(1) {
        for load in LOADS {
            for skewed in [false, true] {
                let mut ways = [Way::InPlace, Way::Messages];
                if round % 2 == 1 && saturation.is_some() {
                    ways.reverse();
                }
                for way in ways {
                    let course = Course { way, skewed, load };
                    let rate = match (load, saturation) {
                        (100, _) | (_, None) => None,
                        (_, Some(most)) => Some(most * f64::from(load) / 100.0),
                    };
                    let outcome = worker::pair([one, other], course, rate, spin, options.measured)?;
                    saturation.get_or_insert(outcome.rate);
                    outcomes.push((course, outcome));
                }
            }
        }
    }
    let courses = outcomes
        .iter()
        .take(LOADS.len() * 4)
        .map(|&(course, _)| course);
    let rows = courses
        .filter_map(|course| row(course, &outcomes))
        .collect();
    Ok(Results {
        rounds: options.rounds,
        rows,
    })
}

fn row(course: Course, outcomes: &[(Course, Outcome)]) -> Option<Row> {
    let of = |value: fn(&Outcome) -> f64| {
        let here = outcomes.iter().filter(|(one, _)| *one == course);
        Spread::of(here.map(|(_, outcome)| value(outcome)).collect())
    };
    Some(Row {
        load: course.load,
        spread: if course.skewed { SKEWED } else { EVEN }.to_owned(),
        variant: match course.way {
            Way::InPlace => IN_PLACE,
            Way::Messages => MESSAGES,
        }
        .to_owned(),
        cpu_us: of(|outcome| outcome.cpu_us)?,
        p50_us: of(|outcome| outcome.p50_us)?,
        p99_us: of(|outcome| outcome.p99_us)?,
        rate: of(|outcome| outcome.rate)?,
    })
}

impl Results {
    /// A table for people: Markdown that reads as it is.
    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "| load | buckets | in place: CPU µs | messages: CPU µs | in place ÷ messages | \
             in place: p50, p99 µs | messages: p50, p99 µs | requests/s |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let find = |load, spread, variant| {
            let mut rows = self.rows.iter();
            rows.find(|row| (row.load, &*row.spread, &*row.variant) == (load, spread, variant))
        };
        for spread in [EVEN, SKEWED] {
            for load in LOADS {
                let found = find(load, spread, IN_PLACE).zip(find(load, spread, MESSAGES));
                for (place, mail) in iter::once(found).flatten() {
                    let latency =
                        |row: &Row| format!("{:.0}, {:.0}", row.p50_us.median, row.p99_us.median);
                    // Writing to a String cannot fail.
                    let _ = writeln!(
                        text,
                        "| {load} % | {spread} | {:.2} | {:.2} | {:.2} | {} | {} | {:.0}, {:.0} |",
                        place.cpu_us.median,
                        mail.cpu_us.median,
                        place.cpu_us.median / mail.cpu_us.median,
                        latency(place),
                        latency(mail),
                        place.rate.median,
                        mail.rate.median,
                    );
                }
            }
        }
        text
    }

    /// Writes `handoff.md` and `handoff.json` into `folder`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("handoff.md"), self.markdown())?;
        fs::write(
            folder.join(FILE),
            serde_json::to_string_pretty(self)? + "\n",
        )
    }
}
