//! What a run showed, and what of it is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::process::Sample;
use super::tally::Counts;
use super::{Options, PATIENCE};
use crate::mock::oracle::OracleReport;

/// Descriptors that may be open for the moment: a connection that asks for metrics.
const FDS_SPARE: u64 = 2;

/// What memory may grow over the second half of a run, beside a part of it: what the program holds, as
/// it counts it itself, and what is resident. The second follows the busiest moment so far, since an
/// allocator keeps a page of each size that it was asked for: it creeps up to a limit, and judges
/// nothing finer than that.
const HELD_GROWTH: Growth = Growth {
    part: 50,
    spare: 1 << 20,
};
const RESIDENT_GROWTH: Growth = Growth {
    part: 4,
    spare: 4 << 20,
};

/// One kind of memory of a sample, and what it may grow.
struct Memory {
    what: &'static str,
    of: fn(&Sample) -> u64,
    allowed: Growth,
}

const MEMORY: [Memory; 2] = [
    Memory {
        what: "held",
        of: |sample| sample.held,
        allowed: HELD_GROWTH,
    },
    Memory {
        what: "resident",
        of: |sample| sample.rss,
        allowed: RESIDENT_GROWTH,
    },
];

/// One part of so many, and so many bytes.
struct Growth {
    part: u64,
    spare: u64,
}

impl Growth {
    fn allows(&self, before: u64, after: u64) -> bool {
        after <= before + before / self.part + self.spare
    }
}

/// At most one request of so many may be refused upstream for a pause of the machine's.
const EXCUSED_ONE_OF: u64 = 2_000;

/// A run shorter than this still fills tables in its second half; its memory is shown and not judged.
const JUDGED_FROM: Duration = Duration::from_secs(240);

/// CPU time that weir may use in two seconds of rest: a scrape, and a thread that looks at the clock.
const REST_CPU_MAX: Duration = Duration::from_millis(20);

/// 429s that the mock gave by its own judgement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusals {
    /// Foretold by earlier answers.
    pub avoidable: u64,
    /// The same, just after the machine stood still.
    pub excused: u64,
    /// The first of both: when, meanwhile what, and which routes.
    pub examples: Vec<String>,
    /// All 429s by route until the last look.
    pub(super) seen: BTreeMap<String, u64>,
}

/// What a run showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was run.
    pub options: Options,
    /// How long there was load.
    pub loaded: Duration,
    /// What became of the requests.
    pub counts: Counts,
    /// Times within which half, 99 and 99.9 of 100 answers came.
    pub quantiles: [Duration; 3],
    /// Tokens of bots and webhooks that came.
    pub tokens: u64,
    /// Requests that were made up, those included that were never sent.
    pub made: u64,
    /// Faults of the whole upstream, by name.
    pub outages: BTreeMap<&'static str, u64>,
    /// What the mock saw.
    pub oracle: OracleReport,
    /// What it refused.
    pub refusals: Refusals,
    /// The longest pause of this process.
    pub pause_max: Duration,
    /// weir before the load.
    pub before: Sample,
    /// weir under load, a sample a second.
    pub samples: Vec<Sample>,
    /// weir after it.
    pub after: Sample,
    /// CPU time of two seconds of rest.
    pub rest_cpu: Duration,
    /// Lanes that did not answer the roll call.
    pub absent: Vec<String>,
    /// weir's exit status after SIGTERM.
    pub exit: Option<i32>,
    /// Lines of its log that tell of a panic.
    pub panics: u64,
}

/// What `after` holds that `before` did not.
pub(super) fn leaks(before: &Sample, after: &Sample) -> Vec<String> {
    let mut found = Vec::new();
    let mut at_most = |what: &str, had: u64, has: u64, spare: u64| {
        if has > had + spare {
            found.push(format!("{what}: {has} after the load, {had} before"));
        }
    };
    at_most("descriptors", before.fds, after.fds, FDS_SPARE);
    at_most("threads", before.threads, after.threads, 0);
    // The scrape's connection is not on a ring.
    at_most("armed polls", before.polls, after.polls, 0);
    for (what, has) in [
        ("client connections", after.clients),
        ("requests under way", after.open),
        ("requests waiting", after.waiting),
        ("upstream connections", after.upstream),
    ] {
        if has != 0 {
            found.push(format!("{what}: {has} after the load"));
        }
    }
    found
}

impl Report {
    /// What must not be, each in a line; empty if all is well.
    pub fn wrongs(&self) -> Vec<String> {
        let mut wrongs = self.counts.wrongs.clone();
        let told = wrongs.len() as u64;
        let mut expect = |holds: bool, what: String| {
            if !holds {
                wrongs.push(what);
            }
        };
        let (counts, oracle) = (&self.counts, &self.oracle);
        expect(
            counts.wrong <= told,
            format!("{} more of these", counts.wrong - told.min(counts.wrong)),
        );
        expect(
            self.refusals.avoidable == 0,
            format!(
                "{} avoidable 429s upstream ({:?}): {:#?}",
                self.refusals.avoidable, oracle.refused, self.refusals.examples
            ),
        );
        expect(
            self.refusals.excused * EXCUSED_ONE_OF <= counts.sent,
            format!(
                "{} 429s upstream after pauses, more than they explain: {:#?}",
                self.refusals.excused, self.refusals.examples
            ),
        );
        let once = &oracle.once;
        expect(
            once.repeated_unsafe == 0,
            format!(
                "{} unsafe requests sent twice: {:?}",
                once.repeated_unsafe, once.examples
            ),
        );
        let order = &oracle.order;
        expect(
            order.inversions == 0 && order.duplicates == 0,
            format!(
                "order: {} inversions, {} duplicates: {:?}",
                order.inversions, order.duplicates, order.examples
            ),
        );
        expect(
            oracle.malformed == 0,
            format!("{} malformed requests upstream", oracle.malformed),
        );
        expect(oracle.bans == 0, format!("{} bans", oracle.bans));
        expect(
            counts.ended() == counts.sent,
            format!("{} requests sent, {} ended", counts.sent, counts.ended()),
        );
        expect(
            self.absent.is_empty(),
            format!(
                "{} lanes do not answer the roll call, among them {:?}",
                self.absent.len(),
                &self.absent[..self.absent.len().min(5)]
            ),
        );
        for leak in leaks(&self.before, &self.after) {
            expect(false, leak);
        }
        for Memory { what, of, allowed } in MEMORY {
            let judged = self.growth(of).filter(|_| self.loaded >= JUDGED_FROM);
            if let Some((before, after)) = judged {
                expect(
                    allowed.allows(before, after),
                    format!(
                        "memory {what} grew over the second half from {before} to {after} bytes"
                    ),
                );
            }
        }
        expect(
            self.rest_cpu <= REST_CPU_MAX,
            format!("{:?} of CPU time at rest", self.rest_cpu),
        );
        expect(
            self.exit == Some(0),
            format!("exit status {:?} after SIGTERM", self.exit),
        );
        expect(self.panics == 0, format!("{} panics", self.panics));
        wrongs
    }

    /// Mean memory at the beginning and at the end of the second half, an eighth of the run each, in
    /// bytes.
    fn growth(&self, of: fn(&Sample) -> u64) -> Option<(u64, u64)> {
        let eighth = self.samples.len() / 8;
        let mean = |from: usize| {
            let part = self.samples.get(from..from + eighth)?;
            let sum: u64 = part.iter().map(of).sum();
            sum.checked_div(part.len() as u64)
        };
        let end = self.samples.len();
        Some((mean(end / 2)?, mean(end - eighth)?))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, oracle) = (&self.counts, &self.oracle);
        let minutes = self.loaded.as_secs_f64() / 60.0;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let list = |map: &BTreeMap<u16, u64>| {
            let parts: Vec<String> = map.iter().map(|(k, n)| format!("{k}: {n}")).collect();
            parts.join(", ")
        };
        let named = |map: Vec<(&str, u64)>| {
            let parts: Vec<String> = map.iter().map(|(k, n)| format!("{k} {n}")).collect();
            parts.join(", ")
        };
        let struck: Vec<(&str, u64)> = oracle.struck.iter().map(|(k, &n)| (&**k, n)).collect();
        let outages: Vec<(&str, u64)> = self.outages.iter().map(|(&k, &n)| (k, n)).collect();
        let left: Vec<(&str, u64)> = counts.left.iter().map(|(&k, &n)| (k, n)).collect();
        let [p50, p99, p999] = self.quantiles.map(ms);
        writeln!(f, "\n| soak | |\n|---|---|")?;
        let mut row = |what: &str, text: String| writeln!(f, "| {what} | {text} |");
        row(
            "run",
            format!(
                "{minutes:.1} min, seed {}, driver {}, {:.0} requests/s",
                self.options.seed,
                self.options.driver,
                counts.sent as f64 / self.loaded.as_secs_f64()
            ),
        )?;
        row(
            "requests",
            format!(
                "{} sent, {} processed upstream; {} tokens, {} connections to the upstream ({} resumed)",
                counts.sent,
                oracle.once.processed,
                self.tokens,
                oracle.connections.opened,
                oracle.connections.tls_resumed,
            ),
        )?;
        row("answers of the upstream", list(&counts.upstream))?;
        row("answers of weir", list(&counts.own))?;
        row("cut off in the body", counts.broken.to_string())?;
        row("clients that left", named(left))?;
        row(
            "faults of requests",
            format!("{} struck: {}", oracle.faults, named(struck)),
        )?;
        row("faults of the upstream", named(outages))?;
        row(
            "latency",
            format!(
                "p50 {p50:.1} ms, p99 {p99:.0} ms, p99.9 {p999:.0} ms, longest {:.0} ms of {:.0} allowed",
                ms(counts.longest),
                ms(PATIENCE)
            ),
        )?;
        row(
            "avoidable 429s upstream",
            format!(
                "{} (and {} just after this machine stood still; longest pause {:.0} ms)",
                self.refusals.avoidable,
                self.refusals.excused,
                ms(self.pause_max)
            ),
        )?;
        row(
            "sent twice",
            format!(
                "{} unsafe, {} safe",
                oracle.once.repeated_unsafe, oracle.once.repeated_safe
            ),
        )?;
        row(
            "order",
            format!(
                "{} messages in {} lanes, {} inversions",
                oracle.order.tagged, oracle.order.lanes, oracle.order.inversions
            ),
        )?;
        row(
            "wrong answers, stuck or lost requests",
            counts.wrong.to_string(),
        )?;
        row(
            "lanes absent from the roll call",
            self.absent.len().to_string(),
        )?;
        row(
            "exit status, panics",
            format!("{:?}, {}", self.exit, self.panics),
        )?;
        row(
            "CPU time of 2 s at rest",
            format!("{:.1} ms", ms(self.rest_cpu)),
        )?;
        for Memory { what, of, .. } in MEMORY {
            if let Some((before, after)) = self.growth(of) {
                let change = after as f64 - before as f64;
                row(
                    &format!("memory {what} over the second half"),
                    format!(
                        "{:.2} MiB, {:+.2} MiB at its end",
                        before as f64 / MIB,
                        change / MIB
                    ),
                )?;
            }
        }
        writeln!(
            f,
            "\n| at | held MiB | RSS MiB | descriptors | threads | armed polls | clients | under way | waiting | upstream |\n\
             |---|---|---|---|---|---|---|---|---|---|"
        )?;
        let step = (self.samples.len() / 10).max(1);
        let shown = self.samples.iter().step_by(step);
        let shown = [&self.before].into_iter().chain(shown).chain([&self.after]);
        for sample in shown {
            writeln!(
                f,
                "| {} s | {:.1} | {:.1} | {} | {} | {} | {} | {} | {} | {} |",
                sample.at.as_secs(),
                sample.held as f64 / MIB,
                sample.rss as f64 / MIB,
                sample.fds,
                sample.threads,
                sample.polls,
                sample.clients,
                sample.open,
                sample.waiting,
                sample.upstream,
            )?;
        }
        Ok(())
    }
}

const MIB: f64 = 1_048_576.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_may_grow_a_little() {
        assert!(HELD_GROWTH.allows(10 << 20, 11 << 20));
        assert!(!HELD_GROWTH.allows(10 << 20, 12 << 20));
        assert!(RESIDENT_GROWTH.allows(40 << 20, 54 << 20));
        assert!(!RESIDENT_GROWTH.allows(40 << 20, 55 << 20));
    }

    #[test]
    fn what_is_held_after_the_load_and_was_not_before_is_a_leak() {
        let before = Sample {
            fds: 20,
            threads: 4,
            polls: 6,
            ..Sample::default()
        };
        assert_eq!(leaks(&before, &before), Vec::<String>::new());
        for after in [
            Sample { fds: 23, ..before },
            Sample {
                threads: 5,
                ..before
            },
            Sample { polls: 7, ..before },
            Sample {
                clients: 1,
                ..before
            },
            Sample { open: 1, ..before },
            Sample {
                waiting: -1,
                ..before
            },
            Sample {
                upstream: 1,
                ..before
            },
        ] {
            assert_eq!(leaks(&before, &after).len(), 1, "{after:?}");
        }
    }
}
