//! What the scripts do, on a Redis that is a few maps. `tests/shared_caps` holds the scripts
//! themselves against a real one.

use super::*;

/// Longer than a beat, an answer that does not come, a wait and a few attempts.
pub(super) const SETTLE: Duration = Duration::from_secs(5);

pub(super) struct Redis {
    /// Which start it is.
    pub(super) run: u64,
    life: Duration,
    lately: Duration,
    /// The start that was noted, and when.
    noted: Option<(u64, Instant)>,
    epochs: BTreeMap<Box<str>, u64>,
    index: BTreeMap<Box<str>, Instant>,
    counters: BTreeMap<(HostKey, Box<str>), (u32, Instant)>,
}

impl Redis {
    pub(super) fn new(life: Duration, lately: Duration) -> Self {
        Self {
            run: 1,
            life,
            lately,
            noted: None,
            epochs: BTreeMap::new(),
            index: BTreeMap::new(),
            counters: BTreeMap::new(),
        }
    }

    /// `FLUSHALL`.
    pub(super) fn empty(&mut self) {
        self.noted = None;
        self.epochs.clear();
        self.index.clear();
        self.counters.clear();
    }

    /// It was killed, and runs again.
    pub(super) fn begin_anew(&mut self) {
        self.empty();
        self.run += 1;
    }

    /// The number of this worker's connection was evicted.
    pub(super) fn forget(&mut self, worker: &str) {
        self.epochs.remove(worker);
    }

    /// Places that are counted.
    pub(super) fn total(&mut self, now: Instant) -> u32 {
        self.counters.retain(|_, (_, until)| *until > now);
        self.counters.values().map(|(count, _)| count).sum()
    }

    pub(super) fn write(
        &mut self,
        now: Instant,
        me: &str,
        epoch: u64,
        run: u64,
        op: &Op,
    ) -> Option<(u32, u32)> {
        self.counters.retain(|_, (_, until)| *until > now);
        let joined = self.noted.is_some_and(|(noted, _)| noted == run);
        if self.epochs.get(me) != Some(&epoch) || op.wanted > 0 && !joined {
            return None;
        }
        let (mut others, mut granted) = (0, 0);
        if op.wanted > 0 {
            for worker in self.index.keys().filter(|worker| &***worker != me) {
                let counter = self.counters.get(&(op.host.clone(), worker.clone()));
                others += counter.map_or(0, |(count, _)| *count);
            }
            granted = op
                .wanted
                .min(op.cap.saturating_sub(others + op.held))
                .min(op.most.saturating_sub(op.held));
        }
        let key = (op.host.clone(), me.into());
        if op.held + granted > 0 {
            let until = now + self.life;
            self.counters.insert(key, (op.held + granted, until));
        } else {
            self.counters.remove(&key);
        }
        Some((granted, others))
    }

    pub(super) fn hello(
        &mut self,
        now: Instant,
        me: &str,
        epoch: u64,
        run: u64,
        enter: bool,
    ) -> Option<Roster> {
        let claimed = self.epochs.get(me).copied().unwrap_or(0);
        if claimed > epoch {
            return None;
        }
        let known = claimed == epoch && self.noted.is_some_and(|(noted, _)| noted == run);
        self.epochs.insert(me.into(), epoch);
        let since = match self.noted {
            Some((noted, since)) if noted == run => since,
            _ => now,
        };
        self.noted = Some((run, since));
        if enter && known {
            self.index.insert(me.into(), now);
        }
        let mut roster = Roster {
            settle: (since + SETTLE).saturating_duration_since(now),
            known,
            since: millis(since),
            ..Roster::default()
        };
        for (worker, seen) in &self.index {
            if now.saturating_duration_since(*seen) > self.lately {
                continue;
            }
            roster.workers.insert(worker.clone(), millis(*seen));
        }
        Some(roster)
    }
}

fn millis(time: Instant) -> i64 {
    i64::try_from(time.as_nanos() / 1_000_000).unwrap()
}
