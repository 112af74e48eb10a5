//! What the owner of a shard is woken for: the timers of those that wait, and the sweep that forgets.

use super::ask::{Output, Outputs};
use super::timer::{TimerKey, Wheel};
use crate::clock::Instant;

/// A timer that was set, and for when.
pub(super) type Timer = Option<(TimerKey, Instant)>;

/// The deadlines of one shard. Its owner is told of a deadline only if it is before all that it
/// knows of.
pub(super) struct Agenda {
    shard: u16,
    wheel: Wheel<u32>,
    sweep_at: Instant,
    /// The next place that the sweep looks at.
    hand: u32,
    /// The deadline that the owner knows of.
    announced: Instant,
}

impl Agenda {
    pub(super) fn new(shard: u16) -> Self {
        Self {
            shard,
            wheel: Wheel::new(Instant::ZERO),
            sweep_at: Instant::FAR,
            hand: 0,
            announced: Instant::FAR,
        }
    }

    /// Lets `timer` name `of` at `wake`, and at no other time.
    pub(super) fn set(
        &mut self,
        timer: &mut Timer,
        wake: Option<Instant>,
        of: u32,
        out: &mut Outputs,
    ) {
        if timer.map(|(_, at)| at) == wake {
            return;
        }
        if let Some((key, _)) = timer.take() {
            self.wheel.cancel(key);
        }
        if let Some(at) = wake {
            *timer = Some((self.wheel.insert(at, of), at));
            self.announce(at, out);
        }
    }

    /// Timers that are set.
    #[cfg(any(debug_assertions, test))]
    pub(super) fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// The owner has woken: whatever is set until it asks for [`Self::next`] needs no telling.
    pub(super) fn wake(&mut self) {
        self.announced = Instant::ZERO;
    }

    /// Whose timer has run out.
    pub(super) fn pop(&mut self, now: Instant) -> Option<u32> {
        self.wheel.pop(now)
    }

    /// When to wake next; the owner knows it from now on.
    pub(super) fn next(&mut self) -> Option<Instant> {
        let timer = self.wheel.next_deadline().unwrap_or(Instant::FAR);
        self.announced = timer.min(self.sweep_at);
        (self.announced < Instant::FAR).then_some(self.announced)
    }

    /// Something is held that is to be forgotten: a sweep comes at `at`, if none is to come already.
    pub(super) fn sweep_by(&mut self, at: Instant, out: &mut Outputs) {
        if self.sweep_at == Instant::FAR {
            self.sweep_at = at;
            self.announce(at, out);
        }
    }

    /// Whether a sweep is due; the next has to be asked for.
    pub(super) fn sweeps(&mut self, now: Instant) -> bool {
        let due = now >= self.sweep_at;
        if due {
            self.sweep_at = Instant::FAR;
        }
        due
    }

    /// The place that the sweep looks at next, below `end`.
    pub(super) fn sweep_next(&mut self, end: u32) -> u32 {
        let place = if self.hand >= end { 0 } else { self.hand };
        self.hand = place + 1;
        place
    }

    fn announce(&mut self, at: Instant, out: &mut Outputs) {
        if at < self.announced {
            self.announced = at;
            out.list.push_back(Output::Deadline {
                shard: usize::from(self.shard),
                at,
            });
        }
    }
}
