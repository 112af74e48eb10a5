//! The last arrivals, for tests of order and timing. A ring: its strings are used again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// One arrival.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Arrival {
    /// When it was judged, in nanoseconds since the mock started.
    pub at_ns: u64,
    /// Method in capitals.
    pub method: String,
    /// Path and query as received.
    pub target: String,
    /// Status answered; zero when a fault left it without an answer.
    pub status: u16,
    /// Which connection of the mock it came on, counted from 1.
    pub connection: u64,
    /// Which request of that connection it was, counted from 1.
    pub ordinal: u32,
    /// The bot's user id, zero when the token has none.
    pub bot_id: u64,
    /// Bytes of its body.
    pub body_bytes: u64,
}

/// A bounded log of arrivals.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Arrival>,
    max: usize,
}

impl Log {
    /// Changes how many are kept.
    pub fn bound(&mut self, max: usize) {
        self.max = max;
        self.entries.truncate(max);
    }

    /// Appends what `fill` writes; the oldest leaves when the log is full.
    pub fn push(&mut self, fill: impl FnOnce(&mut Arrival)) {
        if self.max == 0 {
            return;
        }
        let mut entry = match self.entries.len() >= self.max {
            true => self.entries.pop_front().unwrap_or_default(),
            false => Arrival::default(),
        };
        fill(&mut entry);
        self.entries.push_back(entry);
    }

    /// Arrivals whose target contains `part`, oldest first.
    pub fn of(&self, part: &str) -> Vec<Arrival> {
        self.entries
            .iter()
            .filter(|e| e.target.contains(part))
            .cloned()
            .collect()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_arrivals_leave_a_full_log() {
        let mut log = Log::default();
        log.push(|_| unreachable!("nothing is kept"));
        log.bound(2);
        for i in 0..3u64 {
            log.push(|e| {
                e.at_ns = i;
                e.target.clear();
                e.target.push_str(if i == 1 { "/b" } else { "/a" });
            });
        }
        assert_eq!(
            log.of("").iter().map(|e| e.at_ns).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(log.of("/a").len(), 1);
    }
}
