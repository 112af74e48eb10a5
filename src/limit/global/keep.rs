//! A global window over a restart.

use super::{ARRIVAL_MAX, MARGIN_MAX, PERIOD, STEP_NS, STEPS, Window, step_not_before, step_of};
use crate::clock::Instant;
use crate::limit::snapshot::{Times, WindowRecord, ago, left};

impl Window {
    /// The slots in use at `base`; held ones as if their requests departed now.
    pub(in crate::limit) fn keep(&mut self, base: Instant) -> WindowRecord {
        self.advance(base);
        let mut returns = Vec::new();
        if self.used > self.held {
            // The step's number wraps; another worker's clock may have been read a bit later.
            let lead = i64::from(self.step.wrapping_sub(step_of(base)) as i32);
            for ahead in 1..STEPS as u32 {
                let count = self.releases[self.step.wrapping_add(ahead) as usize % STEPS];
                if count > 0 {
                    let step =
                        (base.as_nanos() / STEP_NS).saturating_add_signed(lead + i64::from(ahead));
                    let at = Instant::from_nanos(step * STEP_NS);
                    returns.push((left(base, at), count));
                }
            }
        }
        if self.held > 0 {
            let at = base + PERIOD + ARRIVAL_MAX + self.margin(base);
            returns.push((left(base, at), u16::try_from(self.held).unwrap_or(u16::MAX)));
        }
        WindowRecord {
            returns,
            margin_us: self.margin_ns / 1_000,
            margin_ago_us: ago(base, self.margin_since),
        }
    }

    /// Takes the slots of a record, beside those that are in use: what two processes sent, Discord counted
    /// together. If the process that wrote it went on sending, Discord may have counted all that it could
    /// until this one began.
    pub(in crate::limit) fn revive(&mut self, now: Instant, record: &WindowRecord, times: Times) {
        self.advance(now);
        let margin_ns =
            (u64::from(record.margin_us) * 1_000).min(MARGIN_MAX.as_nanos() as u64) as u32;
        if margin_ns >= self.margin_ns {
            self.margin_ns = margin_ns;
            self.margin_since = times.since(record.margin_ago_us);
        }
        for &(left_us, count) in &record.returns {
            self.occupy(times.until(left_us), count);
        }
        if !times.complete() {
            let returned = times.until(0) + PERIOD;
            self.occupy(returned, u16::try_from(self.limit).unwrap_or(u16::MAX));
        }
    }

    /// Half of the window is taken for one period from `from` on: somebody else may have used it, who did
    /// not say.
    pub(in crate::limit) fn be_careful(&mut self, now: Instant, from: Instant) {
        self.is_told(now);
        let half = u16::try_from(self.limit.div_ceil(2)).unwrap_or(u16::MAX);
        let before = self.used;
        let step = self.occupy(from + PERIOD, half);
        let taken = (self.used - before) as u16;
        self.careful = step.map(|step| (step, taken));
    }

    /// He said it: what was taken for it is free again.
    pub(in crate::limit) fn is_told(&mut self, now: Instant) {
        self.advance(now);
        if let Some((step, taken)) = self.careful.take()
            && step.wrapping_sub(self.step) as i32 > 0
        {
            self.releases[step as usize % STEPS] -= taken;
            self.used -= u32::from(taken);
        }
    }

    /// Takes `count` slots that return at `at`, and says in which step, if that lies ahead.
    fn occupy(&mut self, at: Instant, count: u16) -> Option<u32> {
        let ahead = step_not_before(at).wrapping_sub(self.step) as i32;
        let room = u32::from(u16::MAX).saturating_sub(self.used);
        let count = u32::from(count).min(room);
        if ahead <= 0 || count == 0 {
            return None;
        }
        let ahead = (ahead as u32).min(STEPS as u32 - 1);
        let step = self.step.wrapping_add(ahead);
        self.releases[step as usize % STEPS] += count as u16;
        self.used += count;
        Some(step)
    }
}
