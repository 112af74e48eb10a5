//! Whether a limiter could have known: what each refusal is put down to.

use super::CounterKey;
use crate::clock::Instant;
use crate::limit::Answer;
use crate::sim::api::{Place, Refusal, Request, Route, Rule};
use crate::sim::counter::TEN_MINUTES;
use std::collections::HashMap;
use std::time::Duration;

/// A slot that is promised now may be used so much later: its request waits for the global window.
const PROMISE: Duration = Duration::from_secs(2);
/// So much later, if the bucket it was promised of is another one now.
const PROMISE_CHANGED: Duration = Duration::from_secs(5);
/// A slot that somebody else used is missed so much later at most.
const FOREIGN: Duration = Duration::from_secs(10);
/// A wrong clock's answer, or one that makes no sense, misleads for so long at most: some windows of
/// a bucket.
const DOUBT: Duration = Duration::from_secs(20);

/// The last answer that told of a route: when it reached the limiter, and when it was made.
struct Met {
    at: Instant,
    made: Instant,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Blame {
    /// When a request of a route that was not known yet was counted last.
    intruders: HashMap<CounterKey, Instant>,
    /// When somebody else used a bucket, or a bot's global limit, last.
    foreign: HashMap<CounterKey, Instant>,
    foreign_global: HashMap<u64, Instant>,
    /// When a bucket's answer came from a wrong clock last, or a clock was set.
    wrong_clock: HashMap<CounterKey, Instant>,
    clock_set: Option<Instant>,
    /// When a bucket's answer made no sense last, and when one that was made later told better.
    absurd: HashMap<CounterKey, (Instant, Option<Instant>)>,
    /// Routes of which an answer with headers has come back.
    met: HashMap<Place, Met>,
}

fn lately(at: Option<&Instant>, now: Instant, within: Duration) -> bool {
    at.is_some_and(|&at| now < at + within)
}

impl Blame {
    pub(super) fn used_by_others(&mut self, now: Instant, key: CounterKey) {
        self.foreign.insert(key, now);
        self.used_globally(now, key.0);
    }

    pub(super) fn used_globally(&mut self, now: Instant, bot: u64) {
        self.foreign_global.insert(bot, now);
    }

    pub(super) fn clock_was_set(&mut self, now: Instant) {
        self.clock_set = Some(now);
    }

    pub(super) fn clock_was_wrong(&mut self, now: Instant, key: CounterKey) {
        self.wrong_clock.insert(key, now);
    }

    pub(super) fn made_no_sense(&mut self, now: Instant, key: CounterKey) {
        self.absurd.insert(key, (now, None));
    }

    pub(super) fn of_global(&self, now: Instant, bot: u64) -> Refusal {
        if lately(self.foreign_global.get(&bot), now, FOREIGN) {
            Refusal::Foreign
        } else {
            Refusal::Global
        }
    }

    /// A request is about to be counted; why its bucket refuses it, if it does.
    pub(super) fn of_bucket(
        &mut self,
        now: Instant,
        key: CounterKey,
        route: &Route,
        known: bool,
    ) -> Refusal {
        let changed = route.change.is_some_and(|change| change.at <= now);
        let promise = if changed { PROMISE_CHANGED } else { PROMISE };
        let intruded = lately(self.intruders.get(&key), now, promise);
        if !known {
            self.intruders.insert(key, now);
        }
        let absurd = self.absurd.get(&key).is_some_and(|(at, better)| {
            now < *at + DOUBT || better.is_none_or(|better| now < better + PROMISE)
        });
        let clock = self.wrong_clock.get(&key).max(self.clock_set.as_ref());
        if route.unreliable || absurd {
            Refusal::Unreliable
        } else if lately(self.foreign.get(&key), now, FOREIGN) {
            Refusal::Foreign
        } else if lately(clock, now, DOUBT) {
            Refusal::Clock
        } else if known && !intruded {
            Refusal::Avoidable
        } else if changed {
            Refusal::Changed
        } else {
            Refusal::FirstContact
        }
    }

    /// An answer, made at `made`, reached the limiter; does it tell what one needs to know of the
    /// route?
    pub(super) fn told(
        &mut self,
        now: Instant,
        made: Instant,
        key: CounterKey,
        request: &Request,
        route: &Route,
        answer: &Answer,
    ) {
        let free = answer.status == 200 && route.rule == Rule::Free;
        if answer.headers.bucket.is_some() || free {
            let met = self.met.entry(request.place());
            let met = met.or_insert(Met { at: now, made });
            (met.at, met.made) = (now, made.max(met.made));
            if let Some((at, better)) = self.absurd.get_mut(&key)
                && made > *at
            {
                better.get_or_insert(now);
            }
        }
    }

    /// Whether a limiter knows the route there: one may forget what nobody used for ten minutes, and
    /// must be told of changes.
    pub(super) fn is_known(&self, now: Instant, place: &Place, route: &Route) -> bool {
        let met = self.met.get(place);
        met.is_some_and(|met| now < met.at + TEN_MINUTES && !route.changed(met.made, now))
    }
}
