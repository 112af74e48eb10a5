//! Who waits for a place that all proxies of a fleet share: the pure half.
//!
//! Of each host those who wait stand in line. Each ask of the fleet is for whoever is in front when its
//! answer comes, not for who was there when it was asked; so the order holds although answers come in
//! any, and the place of one that left meanwhile goes to the next, or back.
//!
//! ```text
//! enter ─▶ Ask ─▶ granted ─▶ the first in line has it
//!                 full ─▶ the first is told so; or, with time to wait, the line is dry:
//!                         those who come are not asked for, and it is asked again
//!                           - at once when this proxy gives a place back
//!                           - every AGAIN, for what other proxies gave back
//! ```
//! Costs two look-ups in a hash table for a place; nothing is kept of a host for which nobody waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahash::AHashMap;

use super::book::Verdict;
use crate::clock::Instant;
use crate::egress::hosts::HostKey;
use crate::egress::hosts::slots::Ticket;

/// How often a fleet whose places are all taken is asked again: a place that another proxy gave back
/// lies idle for half of that on average, and Redis has 20 asks a second of each proxy and full host.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

/// Places that are asked for at once, again: they go in one write, and more free places than that
/// within [`AGAIN`] are a new line's beginning.
const AGAIN_PLACES_MAX: usize = 64;

/// What somebody in line is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// A place of the fleet is taken, and has to be given back.
    Granted,
    /// All proxies together have as many connections as they may.
    Full,
    /// No place came free in time.
    TooLate,
    /// Nobody could say, and the policy says no.
    Refused,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Ask the fleet for a place; its answer belongs to [`Lines::answered`].
    Ask(HostKey),
    /// Somebody's wait is over.
    Tell(Ticket, HostKey, Outcome),
    /// A place was granted to nobody.
    GiveBack(HostKey),
}

/// A place in a line, for [`Lines::leave`]. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Position(u64);

/// The lines of all hosts.
#[derive(Default)]
pub(crate) struct Lines {
    hosts: AHashMap<HostKey, Line>,
    /// Everybody whose time is limited.
    deadlines: BTreeMap<(Instant, Position), HostKey>,
    outputs: VecDeque<Output>,
    entered: u64,
}

/// Invariant: either as many are asked for as wait, or it is dry.
#[derive(Default)]
struct Line {
    waiting: BTreeMap<Position, Waiter>,
    /// Asks without an answer yet.
    asked: usize,
    /// It is dry, and asked for again then.
    again_at: Option<Instant>,
}

struct Waiter {
    ticket: Ticket,
    /// Without, it is told of a fleet that is full.
    until: Option<Instant>,
}

impl Lines {
    /// Somebody wants a place of `host`, and waits for one until then.
    pub(crate) fn enter(
        &mut self,
        host: &HostKey,
        ticket: Ticket,
        until: Option<Instant>,
    ) -> Position {
        self.entered += 1;
        let position = Position(self.entered);
        if let Some(until) = until {
            self.deadlines.insert((until, position), host.clone());
        }
        let line = self.hosts.entry(host.clone()).or_default();
        line.waiting.insert(position, Waiter { ticket, until });
        if line.again_at.is_none() {
            line.ask(host, 1, &mut self.outputs);
        }
        position
    }

    /// An ask has its answer.
    pub(crate) fn answered(&mut self, now: Instant, host: &HostKey, verdict: Verdict) {
        let Some(line) = self.hosts.get_mut(host) else {
            debug_assert!(false, "{host}: an answer that nobody asked for");
            return;
        };
        debug_assert!(line.asked > 0, "{host}: an answer that nobody asked for");
        line.asked = line.asked.saturating_sub(1);
        let first = line.waiting.first_key_value();
        let patient = first.is_some_and(|(_, waiter)| waiter.until.is_some());
        let outcome = match verdict {
            Verdict::Granted => Outcome::Granted,
            Verdict::Refused => Outcome::Refused,
            Verdict::Full if patient => {
                line.again_at = Some(now + AGAIN);
                return;
            }
            Verdict::Full => Outcome::Full,
        };
        match line.waiting.pop_first() {
            Some((position, waiter)) => {
                if let Some(until) = waiter.until {
                    self.deadlines.remove(&(until, position));
                }
                let told = Output::Tell(waiter.ticket, host.clone(), outcome);
                self.outputs.push_back(told);
            }
            None if verdict == Verdict::Granted => {
                self.outputs.push_back(Output::GiveBack(host.clone()));
            }
            None => {}
        }
        self.settle(host);
    }

    /// Leaves the line. False if that one was told already, and may have been granted a place.
    pub(crate) fn leave(&mut self, host: &HostKey, position: Position) -> bool {
        let line = self.hosts.get_mut(host);
        let Some(waiter) = line.and_then(|line| line.waiting.remove(&position)) else {
            return false;
        };
        if let Some(until) = waiter.until {
            self.deadlines.remove(&(until, position));
        }
        self.settle(host);
        true
    }

    /// This proxy has given a place of `host` back.
    pub(crate) fn freed(&mut self, host: &HostKey) {
        if let Some(line) = self.hosts.get_mut(host)
            && line.again_at.is_some()
        {
            line.ask(host, 1, &mut self.outputs);
        }
    }

    /// Time has passed: some wait no more, and dry lines are asked for again.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(first) = self.deadlines.first_entry() {
            let (until, position) = *first.key();
            if until > now {
                break;
            }
            let host = first.remove();
            let line = self.hosts.get_mut(&host);
            if let Some(waiter) = line.and_then(|line| line.waiting.remove(&position)) {
                let told = Output::Tell(waiter.ticket, host.clone(), Outcome::TooLate);
                self.outputs.push_back(told);
            }
            self.settle(&host);
        }
        for (host, line) in &mut self.hosts {
            if line.again_at.is_some_and(|at| at <= now) {
                line.again_at = Some(now + AGAIN);
                line.ask(host, AGAIN_PLACES_MAX, &mut self.outputs);
            }
        }
    }

    /// When [`Lines::tick`] may have something to do. A line becomes dry by an answer, which comes at
    /// any time; so whoever has time to wait is looked at every [`AGAIN`].
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let first = self.deadlines.first_key_value();
        first.map(|((until, _), _)| (*until).min(now + AGAIN))
    }

    /// What is to be done next.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many wait for a place of `host`.
    pub(crate) fn waiting(&self, host: &HostKey) -> usize {
        self.hosts.get(host).map_or(0, |line| line.waiting.len())
    }

    /// How many wait, of all hosts.
    pub(crate) fn all_waiting(&self) -> usize {
        self.hosts.values().map(|line| line.waiting.len()).sum()
    }

    /// Ends a dry line that has nobody to ask for, and forgets a host that nobody wants.
    fn settle(&mut self, host: &HostKey) {
        let Some(line) = self.hosts.get_mut(host) else {
            return;
        };
        if line.waiting.len() <= line.asked {
            line.again_at = None;
        }
        if line.waiting.is_empty() && line.asked == 0 {
            self.hosts.remove(host);
        }
    }

    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let mut limited = 0;
        for (host, line) in &self.hosts {
            assert!(!line.waiting.is_empty() || line.asked > 0, "{host}: kept");
            let asked_for = line.waiting.len() <= line.asked;
            assert!(asked_for || line.again_at.is_some(), "{host}: forgotten");
            for (position, waiter) in &line.waiting {
                if let Some(until) = waiter.until {
                    limited += 1;
                    assert_eq!(self.deadlines.get(&(until, *position)), Some(host));
                }
            }
        }
        assert_eq!(limited, self.deadlines.len());
    }
}

impl Line {
    /// Asks for those who wait and are not asked for, for so many at the most.
    fn ask(&mut self, host: &HostKey, most: usize, outputs: &mut VecDeque<Output>) {
        let more = self.waiting.len().saturating_sub(self.asked).min(most);
        self.asked += more;
        outputs.extend((0..more).map(|_| Output::Ask(host.clone())));
    }
}

#[cfg(test)]
mod tests;
