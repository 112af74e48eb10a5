//! Whether an identity's token is believed to work.
//!
//! ```text
//! Good ── 401 ──▶ Doubtful ── the shell's GET /users/@me: 401 ──▶ Locked ── time ──▶ Probing
//!  ▲                 │ any other                                     ▲                 │
//!  └─────────────────┴────────────────── not a 401 ──────────────────┴───── 401 ───────┘
//! ```
//!
//! One 401 locks nobody: routes exist that answer it for reasons of their own. A doubtful token's
//! requests go one at a time. If nobody asks for it, several 401s and nothing else lock it too, but
//! for seconds at first. Locks run out, and one request then finds out; locks that never end broke
//! users' bots (nirn-proxy #3, #23).

use super::breaker::Passage;
use crate::clock::Instant;
use std::time::Duration;

/// A 401 asks for confirmation at most this often.
const CONFIRM_PAUSE: Duration = Duration::from_secs(10);
/// A locked identity's probe without an answer for so long is given up.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// Locks grow no longer: a token that was reset works again within the hour.
const LOCK_MAX: Duration = Duration::from_secs(3_600);

/// So many 401s in a row, without any other answer, lock a token that nobody confirmed to be refused.
const REFUSED_MAX: u8 = 5;
/// How long the first such lock lasts; each refused probe doubles it.
const UNCONFIRMED_LOCK: Duration = Duration::from_secs(5);
/// A token that was confirmed to work is not doubted for so long, whatever its routes answer.
const TRUST: Duration = Duration::from_secs(60);

/// See the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Good,
    /// Confirmed to work: 401s mean nothing before this.
    Trusted(Instant),
    /// 401s came; no second question before `ask_at`.
    Doubtful {
        ask_at: Instant,
        refused: u8,
    },
    /// Refused until then; afterwards one probe goes.
    Locked {
        until: Instant,
        times: u32,
        /// The shell asked; otherwise 401s alone speak against the token.
        confirmed: bool,
    },
    /// A probe goes since then.
    Probing {
        since: Instant,
        times: u32,
        confirmed: bool,
    },
}

impl Token {
    /// Of what two processes believe of one token, what lets fewer requests go.
    pub(super) fn stricter(self, other: Self) -> Self {
        const fn rank(token: &Token) -> u8 {
            match token {
                Token::Good => 0,
                Token::Trusted(_) => 1,
                Token::Doubtful { .. } => 2,
                Token::Locked { .. } => 3,
                // A probe of ours tells soon, and the answer has to find it.
                Token::Probing { .. } => 4,
            }
        }
        let later = match (&self, &other) {
            (Self::Trusted(a), Self::Trusted(b)) => b > a,
            (Self::Doubtful { refused: a, .. }, Self::Doubtful { refused: b, .. }) => b > a,
            (Self::Locked { until: a, .. }, Self::Locked { until: b, .. }) => b > a,
            (a, b) => rank(b) > rank(a),
        };
        if later { other } else { self }
    }

    /// How long no request may use the token, not even to try it.
    pub(super) fn closed_for(&self, now: Instant) -> Option<Duration> {
        match *self {
            Self::Locked { until, .. } if now < until => Some(until.saturating_duration_since(now)),
            Self::Probing { since, .. } if now < since + PROBE_PATIENCE => {
                Some(Duration::from_secs(1))
            }
            Self::Good
            | Self::Trusted(_)
            | Self::Doubtful { .. }
            | Self::Locked { .. }
            | Self::Probing { .. } => None,
        }
    }

    /// A request wants to use the token.
    pub(super) fn pass(&mut self, now: Instant) -> Passage {
        if let Some(wait) = self.closed_for(now) {
            return Passage::Closed(wait);
        }
        match *self {
            Self::Good | Self::Trusted(_) | Self::Doubtful { .. } => Passage::Open,
            Self::Locked {
                times, confirmed, ..
            }
            | Self::Probing {
                times, confirmed, ..
            } => {
                *self = Self::Probing {
                    since: now,
                    times,
                    confirmed,
                };
                Passage::Probe
            }
        }
    }

    /// An answer came; `true`: the shell should confirm that the token is refused.
    pub(super) fn judge(&mut self, now: Instant, status: u16, probe: bool, lock: Duration) -> bool {
        if status == 401 {
            return self.refused(now, probe, lock);
        }
        match *self {
            // Neither proof nor refutation: another probe may go.
            Self::Probing { .. } if probe && matches!(status, 429 | 500..) => self.probe_lost(now),
            Self::Doubtful { .. } | Self::Probing { .. } if !matches!(status, 429 | 500..) => {
                *self = Self::Good;
            }
            Self::Good
            | Self::Trusted(_)
            | Self::Doubtful { .. }
            | Self::Locked { .. }
            | Self::Probing { .. } => {}
        }
        false
    }

    fn refused(&mut self, now: Instant, probe: bool, lock: Duration) -> bool {
        match *self {
            Self::Trusted(until) if now < until => false,
            Self::Good | Self::Trusted(_) => {
                *self = Self::Doubtful {
                    ask_at: now + CONFIRM_PAUSE,
                    refused: 1,
                };
                true
            }
            Self::Doubtful { ask_at, refused } => {
                let ask = now >= ask_at;
                *self = if refused + 1 >= REFUSED_MAX {
                    Self::Locked {
                        until: now + UNCONFIRMED_LOCK.min(lock),
                        times: 1,
                        confirmed: false,
                    }
                } else {
                    Self::Doubtful {
                        ask_at: if ask { now + CONFIRM_PAUSE } else { ask_at },
                        refused: refused + 1,
                    }
                };
                ask
            }
            Self::Probing {
                times, confirmed, ..
            } if probe => {
                let (first, longest) = if confirmed {
                    (lock, LOCK_MAX)
                } else {
                    (UNCONFIRMED_LOCK.min(lock), lock)
                };
                *self = Self::Locked {
                    until: now + (first * (1 << times.min(8))).min(longest),
                    times: times.saturating_add(1),
                    confirmed,
                };
                !confirmed
            }
            Self::Locked { .. } | Self::Probing { .. } => false,
        }
    }

    /// The shell asked; `valid` unless the answer was a 401.
    pub(super) fn confirmed(&mut self, now: Instant, valid: bool, lock: Duration) {
        let known = matches!(
            self,
            Self::Locked {
                confirmed: true,
                ..
            } | Self::Probing {
                confirmed: true,
                ..
            }
        );
        if valid {
            *self = Self::Trusted(now + TRUST);
        } else if !known {
            *self = Self::Locked {
                until: now + lock,
                times: 1,
                confirmed: true,
            };
        }
    }

    /// The probe got no answer; another may go.
    pub(super) fn probe_lost(&mut self, now: Instant) {
        if let Self::Probing {
            times, confirmed, ..
        } = *self
        {
            *self = Self::Locked {
                until: now,
                times,
                confirmed,
            };
        }
    }

    /// A 401 came and nothing since: one request at a time finds out.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Doubtful { .. })
    }

    /// Locked, or being tried after a lock.
    pub(super) const fn is_barred(&self) -> bool {
        matches!(self, Self::Locked { .. } | Self::Probing { .. })
    }

    /// Whether forgetting it would open a lock.
    pub(super) fn is_locked(&self, now: Instant) -> bool {
        match *self {
            Self::Good | Self::Trusted(_) | Self::Doubtful { .. } => false,
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
        assert_eq!(token, Token::Trusted(s(71)));
        // A route that answers 401 for its own reasons does not doubt it again and again.
        assert!(!token.judge(s(70), 401, false, LOCK));
        assert!(token.judge(s(71), 401, false, LOCK) && token.is_doubtful());
        token.judge(s(72), 429, false, LOCK);
        assert!(token.is_doubtful());
        token.judge(s(72), 200, false, LOCK);
        assert_eq!(token, Token::Good);
    }

    #[test]
    fn several_401s_and_nothing_else_lock_for_seconds_even_if_nobody_confirms() {
        let mut token = Token::Good;
        for n in 0..4 {
            assert_eq!(token.judge(s(0), 401, false, LOCK), n == 0);
        }
        assert_eq!(token.pass(s(0)), Passage::Open);
        token.judge(s(0), 401, false, LOCK);
        let (mut now, mut waits) = (s(0), Vec::new());
        for _ in 0..8 {
            let Passage::Closed(wait) = token.pass(now) else {
                panic!("locked")
            };
            waits.push(wait.as_secs());
            now += wait;
            assert_eq!(token.pass(now), Passage::Probe);
            assert!(token.judge(now, 401, true, LOCK), "it is asked for again");
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        token.confirmed(now, false, LOCK);
        assert_eq!(token.pass(now), Passage::Closed(LOCK));
    }

    #[test]
    fn a_probe_that_says_nothing_is_followed_by_another() {
        let mut token = Token::Locked {
            until: s(10),
            times: 1,
            confirmed: true,
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
