//! Who has sent wrong tokens lately, and how long it is not listened to.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ahash::AHashMap;

use crate::clock::Instant;

/// Addresses that are remembered; at the bound the one heard of longest ago is forgotten.
const ADDRESSES_MAX: usize = 256;

/// How long nothing is listened to after the first wrong token; it doubles.
const FIRST: Duration = Duration::from_millis(250);

/// It grows no longer: an operator who has mistyped can wait for it.
const LONGEST: Duration = Duration::from_secs(30);

/// Who has sent none for so long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Attempts {
    /// Invariant: at most [`ADDRESSES_MAX`].
    wrong: AHashMap<IpAddr, Wrong>,
}

struct Wrong {
    times: u32,
    last: Instant,
}

impl Wrong {
    fn until(&self) -> Instant {
        let doubled = FIRST.saturating_mul(1 << (self.times - 1).min(16));
        self.last + doubled.min(LONGEST)
    }
}

/// Addresses that one person has at will count as one.
fn whose(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Attempts {
    /// How long this address is not listened to any more, if it is not.
    pub(super) fn closed(&self, now: Instant, from: IpAddr) -> Option<Duration> {
        let until = self.wrong.get(&whose(from))?.until();
        (until > now).then(|| until.saturating_duration_since(now))
    }

    /// It sent a wrong token.
    pub(super) fn wrong(&mut self, now: Instant, from: IpAddr) {
        let from = whose(from);
        let fresh = |wrong: &Wrong| now.saturating_duration_since(wrong.last) < FORGOTTEN;
        if !self.wrong.contains_key(&from) && self.wrong.len() >= ADDRESSES_MAX {
            self.wrong.retain(|_, wrong| fresh(wrong));
            let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last);
            let oldest = oldest.map(|(&from, _)| from);
            if self.wrong.len() >= ADDRESSES_MAX
                && let Some(oldest) = oldest
            {
                self.wrong.remove(&oldest);
            }
        }
        let wrong = self.wrong.entry(from).or_insert(Wrong {
            times: 0,
            last: now,
        });
        wrong.times = if fresh(wrong) { wrong.times + 1 } else { 1 };
        wrong.last = now;
    }

    /// It sent the right one.
    pub(super) fn right(&mut self, from: IpAddr) {
        self.wrong.remove(&whose(from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn each_wrong_token_doubles_the_silence_and_the_right_one_ends_it() {
        let mut attempts = Attempts::default();
        let (mine, other): (IpAddr, IpAddr) =
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut now = ms(0);
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(attempts.closed(now, mine), None);
            attempts.wrong(now, mine);
            let wait = attempts.closed(now, mine).unwrap();
            assert_eq!(attempts.closed(now, other), None);
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(
            waits,
            [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]
        );
        attempts.right(mine);
        attempts.wrong(now, mine);
        assert_eq!(attempts.closed(now, mine), Some(FIRST));
        now += FORGOTTEN;
        attempts.wrong(now, mine);
        assert_eq!(attempts.closed(now, mine), Some(FIRST));
    }

    #[test]
    fn addresses_of_one_network_are_one_and_all_are_bounded() {
        let mut attempts = Attempts::default();
        attempts.wrong(ms(0), "2001:db8::1".parse().unwrap());
        assert!(
            attempts
                .closed(ms(0), "2001:db8::2:3".parse().unwrap())
                .is_some()
        );
        attempts.wrong(ms(0), "::ffff:10.0.0.1".parse().unwrap());
        assert!(
            attempts
                .closed(ms(0), "10.0.0.1".parse().unwrap())
                .is_some()
        );
        for n in 0..1_000_u32 {
            attempts.wrong(ms(1), IpAddr::V4(n.into()));
        }
        assert_eq!(attempts.wrong.len(), ADDRESSES_MAX);
        assert!(attempts.closed(ms(1), IpAddr::V4(999.into())).is_some());
    }
}
