//! Did what was accepted arrive in the order in which it was sent, once each?
//!
//! A request says its place by `seq:N` in its JSON content or `seq=N` in its query, counted up by
//! its sender, and who counts by `client:NAME`. A lane is what a proxy promises to keep in order:
//! one client's requests to one bucket.

use ahash::AHashMap;
use memchr::memmem;
use serde::{Deserialize, Serialize};

use crate::mock::stable_hash;

/// Lanes followed; the requests of further ones are not judged. More than any scenario has.
const LANES_MAX: usize = 200_000;

/// Numbers of one lane whose repetition is noticed: a bitmap of 128 KiB at most.
const SEQ_MAX: u64 = 1 << 20;

/// Disorders kept as examples, enough to see what happened.
const EXAMPLES_MAX: usize = 20;

/// A request's place in its lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The sender's count.
    pub seq: u64,
    /// A hash of the sender's name.
    pub client: u64,
}

impl Tag {
    /// Finds a tag in a query or in a JSON body; the query wins.
    pub fn find(query: &str, json: &[u8]) -> Option<Self> {
        [query.as_bytes(), json].into_iter().find_map(|text| {
            let seq = value(text, b"seq", u8::is_ascii_digit)?;
            let name = value(text, b"client", |b| b.is_ascii_alphanumeric() || *b == b'-');
            Some(Self {
                seq: std::str::from_utf8(seq).ok()?.parse().ok()?,
                client: name.map_or(0, stable_hash),
            })
        })
    }
}

/// The run of `allowed` bytes after `name:` or `name=`.
fn value<'a>(text: &'a [u8], name: &[u8], allowed: impl Fn(&u8) -> bool) -> Option<&'a [u8]> {
    memmem::find_iter(text, name).find_map(|at| {
        let rest = text.get(at + name.len()..)?;
        let (b':' | b'=', rest) = rest.split_first()? else {
            return None;
        };
        let len = rest.iter().position(|b| !allowed(b)).unwrap_or(rest.len());
        (len > 0).then(|| &rest[..len])
    })
}

/// What was seen of order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// Lanes seen.
    pub lanes: u64,
    /// Accepted requests with a tag.
    pub tagged: u64,
    /// Requests accepted after one that was sent later.
    pub inversions: u64,
    /// Requests accepted a second time.
    pub duplicates: u64,
    /// Numbers between a lane's lowest and highest that never came.
    pub missing: u64,
    /// The first disorders.
    pub examples: Vec<Disorder>,
}

/// One disorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disorder {
    /// Target of the request.
    pub target: String,
    /// Its number.
    pub seq: u64,
    /// The highest number that had been accepted before it.
    pub after: u64,
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Order {
    lanes: AHashMap<(u64, u64), Lane>,
    report: OrderReport,
}

#[derive(Debug, Default)]
struct Lane {
    lowest: u64,
    highest: u64,
    distinct: u64,
    seen: Vec<u64>,
}

impl Order {
    /// Takes note of an accepted request; `bucket` names count, identity and major parameter.
    pub fn record(&mut self, bucket: u64, tag: Tag, target: &str) {
        let key = (bucket, tag.client);
        if self.lanes.len() >= LANES_MAX && !self.lanes.contains_key(&key) {
            return;
        }
        self.report.tagged += 1;
        let lane = self.lanes.entry(key).or_default();
        let duplicate = !lane.insert(tag.seq);
        let after = lane.highest;
        let late = lane.distinct > 1 && tag.seq < after && !duplicate;
        lane.highest = after.max(tag.seq);
        self.report.duplicates += u64::from(duplicate);
        self.report.inversions += u64::from(late);
        if (duplicate || late) && self.report.examples.len() < EXAMPLES_MAX {
            let target = target.to_owned();
            self.report.examples.push(Disorder {
                target,
                seq: tag.seq,
                after,
            });
        }
    }

    /// The findings so far.
    pub fn report(&self) -> OrderReport {
        let missing = self
            .lanes
            .values()
            .map(|l| (l.highest - l.lowest + 1).saturating_sub(l.distinct));
        OrderReport {
            lanes: self.lanes.len() as u64,
            missing: missing.sum(),
            ..self.report.clone()
        }
    }
}

impl Lane {
    /// False when `seq` had been there before.
    fn insert(&mut self, seq: u64) -> bool {
        if seq < SEQ_MAX {
            let (word, bit) = ((seq / 64) as usize, 1u64 << (seq % 64));
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            if self.seen[word] & bit != 0 {
                return false;
            }
            self.seen[word] |= bit;
        }
        self.lowest = if self.distinct == 0 {
            seq
        } else {
            self.lowest.min(seq)
        };
        if self.distinct == 0 {
            self.highest = seq;
        }
        self.distinct += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sequence: &[u64]) -> OrderReport {
        let mut order = Order::default();
        for &seq in sequence {
            order.record(1, Tag { seq, client: 0 }, "/x");
        }
        order.report()
    }

    #[test]
    fn tags_are_found_in_bodies_and_queries() {
        let tag = |q: &str, b: &str| Tag::find(q, b.as_bytes()).map(|t| t.seq);
        assert_eq!(tag("", r#"{"content":"hello seq:17"}"#), Some(17));
        assert_eq!(tag("wait=true&seq=3", ""), Some(3));
        assert_eq!(tag("seq:4", r#"{"content":"seq:17"}"#), Some(4));
        assert_eq!(tag("", r#"{"content":"seq: none, sequel 4"}"#), None);
        let named = |b: &str| Tag::find("", b.as_bytes()).unwrap().client;
        assert_eq!(named("client:a seq:1"), named("seq:9 client:a"));
        assert_ne!(named("client:a seq:1"), named("client:b seq:1"));
    }

    #[test]
    fn order_kept_counts_nothing() {
        let report = order(&[0, 1, 2, 3]);
        assert_eq!((report.tagged, report.inversions), (4, 0));
        assert_eq!((report.duplicates, report.missing), (0, 0));
    }

    #[test]
    fn each_late_request_is_an_inversion() {
        let report = order(&[2, 0, 1, 3]);
        assert_eq!(report.inversions, 2);
        assert_eq!(
            report.examples[0],
            Disorder {
                target: "/x".into(),
                seq: 0,
                after: 2
            }
        );
    }

    #[test]
    fn a_repetition_is_a_duplicate_and_a_gap_is_missing() {
        let report = order(&[5, 6, 6, 9]);
        assert_eq!(
            (report.duplicates, report.missing, report.inversions),
            (1, 2, 0)
        );
    }

    #[test]
    fn lanes_do_not_disturb_each_other() {
        let mut order = Order::default();
        order.record(1, Tag { seq: 5, client: 0 }, "/x");
        order.record(2, Tag { seq: 1, client: 0 }, "/y");
        order.record(1, Tag { seq: 1, client: 7 }, "/x");
        assert_eq!((order.report().inversions, order.report().lanes), (0, 3));
    }
}
