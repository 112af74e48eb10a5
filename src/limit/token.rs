//! Whether an identity's token is believed to work.
//!
//! ```text
//! Good ── 401 ──▶ Doubtful ── the shell's GET /users/@me: 401 ──▶ Locked ── time ──▶ Probing
//!  ▲                 │ any other                                     ▲                 │
//!  └─────────────────┴────────────────── not a 401 ──────────────────┴───── 401 ───────┘
//! ```
//!
//! One 401 locks nobody: routes exist that answer it for reasons of their own. Locks run out, and one
//! request then finds out; locks that never end broke users' bots (nirn-proxy #3, #23).

use super::breaker::Passage;
use crate::clock::Instant;
use std::time::Duration;

/// A 401 asks for confirmation at most this often.
const CONFIRM_PAUSE: Duration = Duration::from_secs(10);
/// A locked identity's probe without an answer for so long is given up.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// Locks grow no longer: a token that was reset works again within the hour.
const LOCK_MAX: Duration = Duration::from_secs(3_600);

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Good,
    /// A 401 came; no second question before this.
    Doubtful(Instant),
    /// Refused until then; afterwards one probe goes.
    Locked {
        until: Instant,
        times: u32,
    },
    /// A probe goes since then.
    Probing {
        since: Instant,
        times: u32,
    },
}

impl Token {
    /// A request wants to use the token.
    pub(super) fn pass(&mut self, now: Instant) -> Passage {
        match *self {
            Self::Good | Self::Doubtful(_) => Passage::Open,
            Self::Locked { until, .. } if now < until => {
                Passage::Closed(until.saturating_duration_since(now))
            }
            Self::Probing { since, .. } if now < since + PROBE_PATIENCE => {
                Passage::Closed(Duration::from_secs(1))
            }
            Self::Locked { times, .. } | Self::Probing { times, .. } => {
                *self = Self::Probing { since: now, times };
                Passage::Probe
            }
        }
    }

    /// An answer came; `true`: the shell should confirm that the token is refused.
    pub(super) fn judge(&mut self, now: Instant, status: u16, probe: bool, lock: Duration) -> bool {
        match (*self, status) {
            (Self::Good, 401) => {
                *self = Self::Doubtful(now + CONFIRM_PAUSE);
                return true;
            }
            (Self::Doubtful(until), 401) if now >= until => {
                *self = Self::Doubtful(now + CONFIRM_PAUSE);
                return true;
            }
            (Self::Probing { times, .. }, 401) if probe => {
                let longer = (lock * (1 << times.min(8))).min(LOCK_MAX);
                *self = Self::Locked {
                    until: now + longer,
                    times: times.saturating_add(1),
                };
            }
            // Neither proof nor refutation: another probe may go.
            (Self::Probing { times, .. }, 429 | 500..) if probe => {
                *self = Self::Locked { until: now, times };
            }
            (Self::Probing { .. }, 200..=400 | 402..=428) => *self = Self::Good,
            (Self::Good | Self::Doubtful(_) | Self::Locked { .. } | Self::Probing { .. }, _) => {}
        }
        false
    }

    /// The shell asked; `valid` unless the answer was a 401.
    pub(super) fn confirmed(&mut self, now: Instant, valid: bool, lock: Duration) {
        match (*self, valid) {
            (_, true) => *self = Self::Good,
            (Self::Good | Self::Doubtful(_), false) => {
                *self = Self::Locked {
                    until: now + lock,
                    times: 1,
                };
            }
            (Self::Locked { .. } | Self::Probing { .. }, false) => {}
        }
    }

    /// The probe got no answer; another may go.
    pub(super) fn probe_lost(&mut self, now: Instant) {
        if let Self::Probing { times, .. } = *self {
            *self = Self::Locked { until: now, times };
        }
    }

    /// Whether forgetting it would open a lock.
    pub(super) fn is_locked(&self, now: Instant) -> bool {
        match *self {
            Self::Good | Self::Doubtful(_) => false,
            Self::Locked { until, .. } => until > now,
            Self::Probing { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Duration = Duration::from_secs(300);

    const fn s(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    #[test]
    fn a_401_asks_for_confirmation_once_in_a_while() {
        let mut token = Token::Good;
        assert!(token.judge(s(0), 401, false, LOCK));
        assert!(!token.judge(s(1), 401, false, LOCK));
        assert!(token.judge(s(10), 401, false, LOCK));
        assert_eq!(token.pass(s(11)), Passage::Open);
        token.confirmed(s(11), true, LOCK);
        assert_eq!(token, Token::Good);
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        let mut token = Token::Locked {
            until: s(10),
            times: 1,
        };
        assert_eq!(token.pass(s(10)), Passage::Probe);
        assert!(!token.judge(s(11), 503, true, LOCK));
        assert_eq!(token.pass(s(11)), Passage::Probe);
        token.probe_lost(s(12));
        assert_eq!(token.pass(s(12)), Passage::Probe);
        // An answer to what was under way when the lock began does not judge.
        assert!(!token.judge(s(13), 401, false, LOCK));
        assert_eq!(token.pass(s(13)), Passage::Closed(Duration::from_secs(1)));
        assert_eq!(token.pass(s(42)), Passage::Probe);
        token.judge(s(43), 404, true, LOCK);
        assert_eq!(token, Token::Good);
    }

    #[test]
    fn locks_grow_with_each_refused_probe_up_to_an_hour() {
        let mut token = Token::Good;
        token.confirmed(s(0), false, LOCK);
        let mut now = s(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let Passage::Closed(wait) = token.pass(now) else {
                panic!("locked")
            };
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(token.pass(now), Passage::Probe);
            token.judge(now, 401, true, LOCK);
        }
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600]);
    }
}
