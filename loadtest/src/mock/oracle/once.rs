//! Was any request processed twice?
//!
//! A sender numbers its requests, all of one run in one count, by `request=N` in the query. A safe
//! request may come again; one that changes something must not (RFC 9110 9.2.2).

use serde::{Deserialize, Serialize};

use crate::mock::route::Method;

/// Numbers told apart: 8 MiB of bits, twelve hours at 1,500 requests a second. Higher ones are not
/// judged.
const NUMBERS_MAX: u64 = 1 << 26;

/// Repetitions kept as examples, enough to see what happened.
const EXAMPLES_MAX: usize = 20;

/// What was seen of numbered requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceReport {
    /// Processed, each counted once.
    pub processed: u64,
    /// Safe requests that were processed again.
    pub repeated_safe: u64,
    /// Requests that change something and were processed again.
    pub repeated_unsafe: u64,
    /// The first of those.
    pub examples: Vec<String>,
}

/// The numbers seen.
#[derive(Debug, Default)]
pub struct Once {
    seen: Vec<u64>,
    report: OnceReport,
}

impl Once {
    /// Takes note of a request that is processed.
    pub fn record(&mut self, number: u64, method: Method, target: &str) {
        if number >= NUMBERS_MAX {
            return;
        }
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit == 0 {
            self.seen[word] |= bit;
            self.report.processed += 1;
        } else if method.is_safe() {
            self.report.repeated_safe += 1;
        } else {
            self.report.repeated_unsafe += 1;
            if self.report.examples.len() < EXAMPLES_MAX {
                let name = method.as_str();
                self.report.examples.push(format!("{name} {target}"));
            }
        }
    }

    /// The findings so far.
    pub fn report(&self) -> &OnceReport {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_told_apart_by_whether_its_method_is_safe() {
        let mut once = Once::default();
        for (number, method) in [
            (1, Method::Get),
            (70, Method::Post),
            (1, Method::Get),
            (70, Method::Post),
            (71, Method::Post),
            (NUMBERS_MAX, Method::Post),
        ] {
            once.record(number, method, "/x");
        }
        let report = once.report();
        assert_eq!(report.processed, 3);
        assert_eq!((report.repeated_safe, report.repeated_unsafe), (1, 1));
        assert_eq!(report.examples, ["POST /x"]);
    }
}
