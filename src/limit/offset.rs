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
//! whatever the network does. That is where a fresh estimate aims. A request sent at `S + lo`
//! arrives at `S` if its way is as short as the shortest one seen, and later otherwise, however
//! lopsided the two ways are. So the aim moves from `hi` towards `lo` as answers come, and stays
//! above it by what the shortest way there may yet fall below the shortest one seen: with `n` ways
//! spread over a range `J`, the chance of one that is shorter by `k·J/n` is `e^-k/n`.
//!
//! One refusal of a request that should have been in time makes the estimate a fresh one; from then
//! on it aims no earlier than the middle, half a shortest round trip behind `S`.
//!
//! Both clocks drift: `hi` rises while no answer comes, and after a long silence the shortest way
//! counts for little. `lo` needs no such care between answers that come often: each raises it, and
//! one that is too high only aims late. 16 bytes of state.

use crate::clock::Instant;
use std::time::Duration;

/// How fast two clocks may drift apart, in parts per million: quartz is within 50, twice that for
/// two of them being slewed.
const DRIFT_PPM: i64 = 100;
/// `Reset` and `Reset-After` are given in milliseconds; each may be off by one.
const ROUNDING_NS: i64 = 1_000_000;
/// After a silence this long, the clocks may have drifted apart by more than the aim's care.
const SILENCE: Duration = Duration::from_secs(60);
/// How many answers an estimate counts as after such a silence.
const SAMPLES_AFTER_SILENCE: u8 = 8;
/// `k` of the module's documentation: a bucket at its limit would send too early once in 10^7 lives.
const CARE: i64 = 16;
/// The least range of ways that is believed, as a part of the smoothed round trip: quiet minutes do
/// not promise that the next packet finds no shorter way, and an interval that clocks' drift has
/// widened hides how far the ways spread.
const RANGE_PART: i64 = 2;
/// A bucket's round trip moves by this part of what a new one differs: it tells how far ways spread
/// now.
const SMOOTHING: i64 = 8;
/// That of all answers is their average, and from so many on moves by this part. What is foretold
/// with it is a sum of many trips, whose own scatter is smaller than that of the last few; 128 are a
/// second of a busy shard.
const AVERAGED: u16 = 128;
/// Unit of the stored round trip: 65,535 of them are 8.4 s, beyond which nobody predicts waits.
const TRIP_UNIT_US: i64 = 128;
const SPREAD_MAX_NS: i64 = u32::MAX as i64 * 1000;

/// The average round trip of many answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trip {
    nanos: u64,
    /// Answers it was made of, up to [`AVERAGED`].
    answers: u16,
}

impl Trip {
    pub(super) fn add(&mut self, trip: Duration) {
        self.answers = (self.answers + 1).min(AVERAGED);
        let new = u64::try_from(trip.as_nanos()).unwrap_or(u64::MAX);
        let part = new.abs_diff(self.nanos) / u64::from(self.answers);
        self.nanos = if new > self.nanos {
            self.nanos + part
        } else {
            self.nanos - part
        };
    }

    pub(super) fn smoothed(self) -> Option<Duration> {
        (self.answers > 0).then_some(Duration::from_nanos(self.nanos))
    }
}

/// A smoothed round trip in two bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    /// In units of [`TRIP_UNIT_US`]; 0: none was measured.
    units: u16,
}

impl Recent {
    fn add(&mut self, trip: Duration) {
        let new = i64::try_from(trip.as_micros()).unwrap_or(i64::MAX) / TRIP_UNIT_US;
        let old = i64::from(self.units);
        let smoothed = if old == 0 {
            new
        } else {
            // Rounded away from the old value, or a small difference would stay for ever.
            let step = new - old;
            old + (step + (SMOOTHING - 1) * step.signum()) / SMOOTHING
        };
        self.units = u16::try_from(smoothed.max(1)).unwrap_or(u16::MAX);
    }

    fn smoothed(self) -> Option<Duration> {
        let micros = u64::from(self.units) * TRIP_UNIT_US as u64;
        (self.units > 0).then_some(Duration::from_micros(micros))
    }
}

/// The estimate for one bucket: two buckets may be counted by two servers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offset {
    /// Upper end of the interval, nanoseconds.
    hi: i64,
    /// Width of the interval, microseconds, rounded up.
    spread_us: u32,
    trip: Recent,
    /// Answers taken in since the estimate began, saturating; 0 means that it says nothing.
    samples: u8,
    /// A request that aimed ahead of the middle may have been refused for it.
    burnt: bool,
}

impl Offset {
    /// Takes in an answer: counted by the server at `server_ms`, sent and received at ours; `idle`
    /// is the time since the last one. `false`: this is not the clock of the answers before; it was
    /// set, or another server counted.
    pub(super) fn sample(
        &mut self,
        server_ms: u64,
        sent: Instant,
        received: Instant,
        idle: Duration,
    ) -> bool {
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
            let silent = idle >= SILENCE;
            let old_lo = self.lo().saturating_sub(if silent { drift } else { 0 });
            let (lo, hi) = (
                old_lo.max(at_least),
                self.hi.saturating_add(drift).min(at_most),
            );
            if lo <= hi {
                self.set(lo, hi);
                let counts = if silent {
                    SAMPLES_AFTER_SILENCE
                } else {
                    u8::MAX
                };
                self.samples = self.samples.min(counts).saturating_add(1);
                return true;
            }
        }
        let first = self.samples == 0;
        self.set(at_least, at_most);
        self.samples = 1;
        first
    }

    /// Our time from which a request may be sent so that it is counted at or after `server_ms`.
    /// `None` if there is no estimate.
    pub(super) fn aim(&self, server_ms: u64) -> Option<Instant> {
        if self.samples == 0 {
            return None;
        }
        let spread = i64::from(self.spread_us) * 1000;
        let range = self.range_ns();
        // Taking in an answer lowered `lo` by its rounding: what it said is put back.
        let ahead = ROUNDING_NS + CARE * range / i64::from(self.samples);
        let least = if self.burnt { spread / 2 } else { 0 };
        let behind = ahead.max(least).min(spread);
        let at = (server_ms as i64)
            .saturating_mul(1_000_000)
            .saturating_add(self.lo() + behind);
        Some(Instant::from_nanos(
            u64::try_from(at.saturating_add(ROUNDING_NS)).unwrap_or(0),
        ))
    }

    /// An answer took so long to come.
    pub(super) fn timed(&mut self, trip: Duration) {
        self.trip.add(trip);
    }

    /// The smoothed round trip, if one was measured.
    pub(super) fn trip(&self) -> Option<Duration> {
        self.trip.smoothed()
    }

    /// How much later than aimed the first of `together` requests is counted, on average.
    pub(super) fn lateness(&self, together: u16) -> Duration {
        if self.samples == 0 {
            return Duration::ZERO;
        }
        let behind = self.range_ns() / (i64::from(together) + 1);
        Duration::from_nanos((behind + 2 * ROUNDING_NS).max(0) as u64)
    }

    /// Over how wide a range the ways there are believed to spread.
    fn range_ns(&self) -> i64 {
        let spread = i64::from(self.spread_us) * 1000;
        let trip = self.trip().unwrap_or_default().as_nanos() as i64;
        (trip - spread).max(trip.max(spread / 2) / RANGE_PART)
    }

    /// A request that should have been in time was refused: aim carefully again.
    pub(super) fn distrust(&mut self) {
        self.samples = self.samples.min(1);
        self.burnt = true;
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
    fn a_proven_estimate_arrives_in_time_and_hardly_late_however_lopsided_the_ways() {
        for (there, back) in [(20, 20), (1, 39), (39, 1)] {
            let mut offset = Offset::default();
            for i in 0..100 {
                exchange(&mut offset, 1_000_000 + i, there, back);
            }
            let arrival = aim_ms(&offset, 1_001_000) + there;
            assert!((1..=4).contains(&arrival), "{there} {back}: {arrival}");
        }
    }

    #[test]
    fn after_a_refusal_the_aim_stays_half_a_round_trip_late() {
        for (there, back) in [(20, 20), (1, 39), (39, 1)] {
            let mut offset = Offset::default();
            (0..100).for_each(|i| exchange(&mut offset, 1_000_000 + i, there, back));
            offset.distrust();
            assert!(aim_ms(&offset, 1_001_000) >= back);
            (0..255).for_each(|i| exchange(&mut offset, 1_000_100 + i, there, back));
            let arrival = aim_ms(&offset, 1_001_000) + there;
            assert!((19..=24).contains(&arrival), "{there} {back}: {arrival}");
        }
    }

    #[test]
    fn spread_ways_never_arrive_early_and_cost_little_once_known() {
        for number in 0..200_u64 {
            let (mut offset, mut random) = (Offset::default(), number * 7_919 + 1);
            let mut late = 0;
            for i in 0..600_u64 {
                let mut delay = || {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    10_000 + (random >> 33) % 20_000
                };
                let server_ms = 1_000_000 + i * 1_000;
                let (there, back) = (delay(), delay());
                let truth_us = (server_ms as i64 + THETA_MS) * 1000;
                if let Some(at) = offset.aim(server_ms) {
                    let arrival = at.as_nanos() as i64 / 1000 + there as i64 - truth_us;
                    assert!(arrival >= 0, "{number} {i}: {arrival}");
                    late += if i >= 300 {
                        arrival - (there as i64 - 10_000)
                    } else {
                        0
                    };
                }
                let at = |us: i64| Instant::from_nanos((truth_us + us) as u64 * 1000);
                offset.timed(Duration::from_micros(there + back));
                offset.sample(
                    server_ms,
                    at(-(there as i64)),
                    at(back as i64),
                    Duration::from_secs(1),
                );
            }
            assert!(late / 300 < 4_500, "{number}: {}", late / 300);
        }
    }

    #[test]
    fn a_round_trip_is_smoothed_and_reaches_what_it_changes_to() {
        let mut trip = Recent::default();
        assert_eq!(trip.smoothed(), None);
        for (ms, after, least, most) in [
            (40, 1, 39, 40),
            (80, 1, 44, 47),
            (80, 50, 79, 80),
            (20, 60, 19, 20),
        ] {
            (0..after).for_each(|_| trip.add(Duration::from_millis(ms)));
            let smoothed = trip.smoothed().unwrap().as_micros();
            assert!(
                (least * 1000..=most * 1000).contains(&smoothed),
                "{ms}: {smoothed}"
            );
        }
    }

    #[test]
    fn the_round_trip_of_many_answers_is_their_average_and_follows_a_change() {
        let mut trip = Trip::default();
        assert_eq!(trip.smoothed(), None);
        // Long and short ones in turn, and a long one last.
        (0..101).for_each(|n| trip.add(Duration::from_millis(if n % 2 == 0 { 60 } else { 20 })));
        let smoothed = trip.smoothed().unwrap().as_micros();
        assert!((40_000..=40_300).contains(&smoothed), "{smoothed}");
        (0..600).for_each(|_| trip.add(Duration::from_millis(80)));
        let smoothed = trip.smoothed().unwrap().as_micros();
        assert!((79_000..=80_000).contains(&smoothed), "{smoothed}");
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
