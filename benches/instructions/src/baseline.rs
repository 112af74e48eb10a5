//! The recorded counts, and what may have become of them.

use std::fmt::Write;

/// What `record` wrote.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Baseline {
    /// Where it was recorded.
    pub(crate) place: Place,
    /// Instructions an operation, and the part's name.
    pub(crate) rows: Vec<(u64, String)>,
}

/// What a count depends on beside the source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place {
    /// `rustc -V`.
    pub(crate) compiler: String,
    /// Architecture, and those of its extensions that the C library looks for.
    pub(crate) processor: String,
    /// The C library, whose `memcpy` is counted too.
    pub(crate) library: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.compiler, self.processor, self.library)
    }
}

/// Growth that fails, in percent, where the baseline was recorded.
pub(crate) const GROWTH_MAX: u64 = 3;
/// The same elsewhere. Two releases of rustc later the rows were within 2 % of the record; how loops
/// become vector instructions may differ more.
pub(crate) const GROWTH_MAX_ELSEWHERE: u64 = 20;

/// A row of the comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Compared {
    pub(crate) name: String,
    /// `None`: not recorded yet.
    pub(crate) before: Option<u64>,
    /// `None`: recorded, and not there any more.
    pub(crate) now: Option<u64>,
}

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Same,
    /// Cheaper by more than the bound: worth recording, or later growth hides in it.
    Shrunk,
    Grown,
    /// On one side only: the baseline is not this source's.
    Unmatched,
}

impl Compared {
    pub(crate) fn verdict(&self, growth_max: u64) -> Verdict {
        match (self.before, self.now) {
            (Some(before), Some(now)) if now * 100 > before * (100 + growth_max) => Verdict::Grown,
            (Some(before), Some(now)) if now * (100 + growth_max) < before * 100 => Verdict::Shrunk,
            (Some(_), Some(_)) => Verdict::Same,
            (None, _) | (_, None) => Verdict::Unmatched,
        }
    }

    /// The change in percent, as it is shown.
    pub(crate) fn change(&self) -> String {
        match (self.before, self.now) {
            (Some(before), Some(now)) if before > 0 => {
                format!("{:+.1} %", (now as f64 / before as f64 - 1.0) * 100.0)
            }
            _ => "-".to_owned(),
        }
    }
}

impl Baseline {
    /// Reads what [`Baseline::to_text`] wrote; `None` if it is something else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut baseline = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (key, value) = line.trim().split_once(char::is_whitespace)?;
            let value = value.trim().to_owned();
            match key {
                "compiler" => baseline.place.compiler = value,
                "processor" => baseline.place.processor = value,
                "library" => baseline.place.library = value,
                count => baseline.rows.push((count.parse().ok()?, value)),
            }
        }
        Some(baseline)
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::from(
            "# Instructions of the request path, per operation, and what they depend on.\n\
             # Written by `cargo run --release -p instructions -- record`.\n",
        );
        let Place {
            compiler,
            processor,
            library,
        } = &self.place;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "compiler {compiler}\nprocessor {processor}\nlibrary {library}\n"
        );
        for (count, name) in &self.rows {
            let _ = writeln!(text, "{count:>6} {name}");
        }
        text
    }

    /// This one as it was before, `now` as it is: all rows of both.
    pub(crate) fn compare(&self, now: &Self) -> Vec<Compared> {
        let find = |rows: &[(u64, String)], name: &str| {
            let row = rows.iter().find(|row| row.1 == name);
            row.map(|row| row.0)
        };
        let gone = self
            .rows
            .iter()
            .filter(|row| find(&now.rows, &row.1).is_none());
        now.rows
            .iter()
            .chain(gone)
            .map(|(_, name)| Compared {
                name: name.clone(),
                before: find(&self.rows, name),
                now: find(&now.rows, name),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(rows: &[(u64, &str)]) -> Baseline {
        Baseline {
            place: Place {
                compiler: "rustc 1.95.0 (59807616e 2026-04-14)".to_owned(),
                processor: "x86_64 sse4.2 avx2".to_owned(),
                library: "glibc 2.36".to_owned(),
            },
            rows: rows.iter().map(|&(n, name)| (n, name.to_owned())).collect(),
        }
    }

    fn verdicts(before: &[(u64, &str)], now: &[(u64, &str)]) -> Vec<Verdict> {
        let compared = baseline(before).compare(&baseline(now));
        compared.iter().map(|row| row.verdict(GROWTH_MAX)).collect()
    }

    #[test]
    fn what_was_recorded_is_read_again() {
        let recorded = baseline(&[(1_234, "request head: parse"), (7, "x")]);
        let text = recorded.to_text();
        assert_eq!(Baseline::from_text(&text), Some(recorded));
        assert_eq!(Baseline::from_text("12a what"), None);
        assert_eq!(Baseline::from_text("12"), None);
    }

    #[test]
    fn three_percent_are_borne_and_more_is_not() {
        assert_eq!(verdicts(&[(1_000, "x")], &[(1_030, "x")]), [Verdict::Same]);
        assert_eq!(verdicts(&[(1_000, "x")], &[(1_031, "x")]), [Verdict::Grown]);
        assert_eq!(verdicts(&[(1_000, "x")], &[(971, "x")]), [Verdict::Same]);
        assert_eq!(verdicts(&[(1_000, "x")], &[(970, "x")]), [Verdict::Shrunk]);
    }

    #[test]
    fn a_row_on_one_side_only_is_not_passed_over() {
        assert_eq!(
            verdicts(&[(1, "a"), (2, "b")], &[(2, "b"), (3, "c")]),
            [Verdict::Same, Verdict::Unmatched, Verdict::Unmatched]
        );
    }
}
