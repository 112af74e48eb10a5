//! How far the server's clock is from ours, as an interval that shrinks with every answer.
//!
//! An answer carries the server's time at which the request was counted, `s = Reset − Reset-After`.
//! We know when we sent (`a`) and received (`b`), and that it was counted in between. So the offset
//! `θ = our clock − server's clock` lies in `[a − s, b − s]`, and in the intersection of those
//! intervals over all answers:
//!
//! ```text
//!   lo = max(a − s) = θ − shortest way there      hi = min(b − s) = θ + shortest way back
//! ```
//!
//! A request sent when our clock shows `S + hi` arrives after the server's clock showed `S`,
//! whatever the network does. That is where a fresh estimate aims. A request sent at
//! `S + (lo + hi)/2` still arrives half a shortest round trip after `S` if its way is no shorter
//! than the shortest one seen, however lopsided the two ways are; a proven estimate aims there. One
//! unexpected refusal makes it a fresh one again.
//!
//! Both clocks drift, so the interval widens while no answer comes. 13 bytes of state.

use crate::clock::Instant;
use std::time::Duration;

/// How fast two clocks may drift apart, in parts per million: quartz is within 50, twice that for
/// two of them being slewed.
const DRIFT_PPM: i64 = 100;
/// `Reset` and `Reset-After` are given in milliseconds; each may be off by one.
const ROUNDING_NS: i64 = 1_000_000;
/// Answers after which the aim starts to move from `hi` to the middle: with fewer, the shortest way
/// seen says little about the shortest way there is.
const SAMPLES_BEFORE_TRUST: u8 = 8;
/// Answers after which the aim is in the middle.
const SAMPLES_FOR_TRUST: u8 = 40;
const SPREAD_MAX_NS: i64 = u32::MAX as i64 * 1000;

/// The estimate for one bucket: two buckets may be counted by two servers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offset {
    /// Upper end of the interval, nanoseconds.
    hi: i64,
    /// Width of the interval, microseconds, rounded up.
    spread_us: u32,
    /// Answers taken in since the estimate began, saturating; 0 means that it says nothing.
    samples: u8,
}

impl Offset {
    /// Takes in an answer: counted by the server at `server_ms`, sent and received at ours; `idle`
    /// is the time since the last one.
    pub(super) fn sample(
        &mut self,
        server_ms: u64,
        sent: Instant,
        received: Instant,
        idle: Duration,
    ) {
        let server = (server_ms as i64).saturating_mul(1_000_000);
        let at_least = (sent.as_nanos() as i64)
            .saturating_sub(server)
            .saturating_sub(ROUNDING_NS);
        let at_most = (received.as_nanos() as i64)
            .saturating_sub(server)
            .saturating_add(ROUNDING_NS);
        if self.samples > 0 {
            let drift =
                i64::try_from(idle.as_micros()).unwrap_or(i64::MAX / 1000) * DRIFT_PPM / 1000;
            let (old_lo, old_hi) = (
                self.lo().saturating_sub(drift),
                self.hi.saturating_add(drift),
            );
            let (lo, hi) = (old_lo.max(at_least), old_hi.min(at_most));
            // An empty intersection: a clock was set, or another server counts now. Begin again.
            if lo <= hi {
                self.set(lo, hi);
                self.samples = self.samples.saturating_add(1);
                return;
            }
        }
        self.set(at_least, at_most);
        self.samples = 1;
    }

    /// Our time from which a request may be sent so that it is counted at or after `server_ms`.
    /// `None` if there is no estimate.
    pub(super) fn aim(&self, server_ms: u64) -> Option<Instant> {
        if self.samples == 0 {
            return None;
        }
        let trust =
            self.samples.clamp(SAMPLES_BEFORE_TRUST, SAMPLES_FOR_TRUST) - SAMPLES_BEFORE_TRUST;
        let full = i64::from(SAMPLES_FOR_TRUST - SAMPLES_BEFORE_TRUST);
        let forward = i64::from(self.spread_us) * 1000 / 2 * i64::from(trust) / full;
        let at = (server_ms as i64)
            .saturating_mul(1_000_000)
            .saturating_add(self.hi - forward);
        Some(Instant::from_nanos(
            u64::try_from(at.saturating_add(ROUNDING_NS)).unwrap_or(0),
        ))
    }

    /// A request that should have been in time was refused: aim carefully again.
    pub(super) fn distrust(&mut self) {
        self.samples = self.samples.min(1);
    }

    fn lo(&self) -> i64 {
        self.hi.saturating_sub(i64::from(self.spread_us) * 1000)
    }

    fn set(&mut self, lo: i64, hi: i64) {
        self.hi = hi;
        self.spread_us =
            (hi.saturating_sub(lo).clamp(0, SPREAD_MAX_NS) as u64).div_ceil(1000) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our clock shows 5 s when the server's shows 1,000 s.
    const THETA_MS: i64 = 5_000 - 1_000_000;

    fn exchange(offset: &mut Offset, server_ms: u64, there_ms: i64, back_ms: i64) {
        let ours = server_ms as i64 + THETA_MS;
        let at = |ms: i64| Instant::from_millis(ms as u64);
        offset.sample(
            server_ms,
            at(ours - there_ms),
            at(ours + back_ms),
            Duration::ZERO,
        );
    }

    fn aim_ms(offset: &Offset, server_ms: u64) -> i64 {
        offset.aim(server_ms).unwrap().as_nanos() as i64 / 1_000_000 - THETA_MS - server_ms as i64
    }

    #[test]
    fn a_fresh_estimate_aims_where_no_delay_can_be_too_short() {
        let mut offset = Offset::default();
        assert!(offset.aim(1_000_000).is_none());
        exchange(&mut offset, 1_000_000, 20, 25);
        assert_eq!(aim_ms(&offset, 1_000_100), 25 + 2);
    }

    #[test]
    fn a_proven_estimate_arrives_half_a_round_trip_late_however_lopsided_the_ways() {
        for (there, back) in [(20, 20), (1, 39), (39, 1)] {
            let mut offset = Offset::default();
            for i in 0..100 {
                exchange(&mut offset, 1_000_000 + i, there, back);
            }
            let arrival = aim_ms(&offset, 1_001_000) + there;
            assert!((19..=24).contains(&arrival), "{there} {back}: {arrival}");
            offset.distrust();
            assert!(aim_ms(&offset, 1_001_000) >= back);
        }
    }

    #[test]
    fn a_clock_that_was_set_begins_a_new_estimate() {
        let mut offset = Offset::default();
        (0..50).for_each(|i| exchange(&mut offset, 1_000_000 + i, 20, 20));
        exchange(&mut offset, 1_000_100 + 3_000, 20 - 3_000, 20 + 3_000);
        assert_eq!(aim_ms(&offset, 1_003_200), 3_020 + 2);
    }

    #[test]
    fn silence_widens_the_estimate() {
        let mut offset = Offset::default();
        exchange(&mut offset, 1_000_000, 10, 10);
        let sent = Instant::from_millis(5_000 + 600_000 - 50);
        offset.sample(
            1_600_000,
            sent,
            sent + Duration::from_millis(200),
            Duration::from_secs(600),
        );
        assert_eq!(aim_ms(&offset, 1_600_000), 10 + 60 + 2);
    }
}
