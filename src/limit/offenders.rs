//! Who causes invalid requests (401, 403), and who of them has to hold back when the egress address's
//! budget shrinks, so that the rest of the fleet need not.
//!
//! ```text
//! of the budget spent   what holds
//! below 10 %            nothing: every request passes
//! from 10 %             a route that drew 3 such answers in a row from one identity and major is
//!                       asked at growing pauses; tokens that never worked go a few at a time
//! from 50 %             pauses begin with the first such answer and grow longer; an identity beyond
//!                       its share is held back on the routes that drew them
//! from 80 %             every identity that drew one is, on those routes
//! 100 %                 the budget itself stops everything
//! ```
//!
//! Nothing else is touched: other routes of the same identity go on, and one answer that is not
//! invalid ends a route's pauses. Costs 48 bytes for each offence that is remembered; a fleet
//! without them pays nothing.

use super::ask::{BucketKey, Reason, Refusal};
use super::invalid::BUDGET;
use super::learn::{KeyMap, fold};
use super::snapshot::{OffenceRecord, Record, Times, ago};
use crate::clock::Instant;
use std::time::Duration;

/// Offences remembered: three for each identity that offends on one route. Later ones are not; the
/// budget itself still holds.
const OFFENCES_MAX: usize = 32_768;
/// An offence counts for as long as Discord counts its answers.
const MEMORY: Duration = Duration::from_secs(600);
/// Old offences are looked for this often, in a fraction of a millisecond.
const PRUNE_PAUSE: Duration = Duration::from_secs(60);
/// Answers in a row that make a route pause, while the budget is hardly touched.
const STREAK_WARY: u32 = 3;
/// The first pause; it doubles.
const PAUSE_WARY: Duration = Duration::from_secs(1);
/// The first pause once half of the budget is spent.
const PAUSE_STRICT: Duration = Duration::from_secs(8);
/// Permissions that were granted are found out within a minute.
const PAUSE_WARY_MAX: Duration = Duration::from_secs(60);
/// By then a route costs one invalid request in the time that the budget counts.
const PAUSE_STRICT_MAX: Duration = Duration::from_secs(600);
/// What those who offend may spend together once half of the budget is gone.
const SHARED_OUT: f32 = BUDGET as f32 * 0.4;
/// No identity's share is smaller: one such answer may be an accident.
const SHARE_MIN: f32 = 2.0;
/// When an identity is let be again, though it offended.
const FORGIVEN: f32 = 0.5;

/// How much of the budget is spent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Level {
    Calm,
    Wary,
    Strict,
    Last,
}

impl Level {
    /// The level at so many invalid answers within ten minutes.
    pub(super) const fn of(invalid: u32) -> Self {
        if invalid < BUDGET / 10 {
            Self::Calm
        } else if invalid < BUDGET / 2 {
            Self::Wary
        } else if invalid < BUDGET / 5 * 4 {
            Self::Strict
        } else {
            Self::Last
        }
    }
}

/// What one identity did on one route and major, on one route, or at all.
struct Offence {
    /// How many such answers came; older ones count less.
    weight: f32,
    /// How many came in a row.
    streak: u32,
    /// The last one was a 401.
    unauthorized: bool,
    /// All that an identity did, not only on one route.
    whole: bool,
    /// When the last one came.
    at: Instant,
    /// When a request was let pass last, or the last answer came: pauses count from here.
    since: Instant,
}

impl Offence {
    fn weight(&self, now: Instant) -> f32 {
        let age = now.saturating_duration_since(self.at);
        self.weight * (-age.as_secs_f32() / MEMORY.as_secs_f32()).exp()
    }

    fn add(&mut self, now: Instant, unauthorized: bool) {
        self.weight = self.weight(now) + 1.0;
        self.streak = self.streak.saturating_add(1);
        self.unauthorized = unauthorized;
        (self.at, self.since) = (now, now);
    }

    /// The pause that its streak asks for.
    fn pause(&self, level: Level) -> Duration {
        let (streak, first, longest) = match level {
            Level::Calm => return Duration::ZERO,
            Level::Wary => (STREAK_WARY, PAUSE_WARY, PAUSE_WARY_MAX),
            Level::Strict | Level::Last => (1, PAUSE_STRICT, PAUSE_STRICT_MAX),
        };
        match self.streak.checked_sub(streak) {
            None => Duration::ZERO,
            Some(more) => first.saturating_mul(1 << more.min(16)).min(longest),
        }
    }

    /// When it weighs no more than `share`.
    fn lighter_in(&self, now: Instant, share: f32) -> Duration {
        let weight = self.weight(now);
        if weight <= share {
            return Duration::ZERO;
        }
        MEMORY.mul_f32((weight / share).ln())
    }
}

/// See the module's documentation.
pub(super) struct Offenders {
    offences: KeyMap<Offence>,
    /// Identities among the offences.
    identities: u32,
    pruned: Instant,
}

impl Offenders {
    pub(super) fn new() -> Self {
        Self {
            offences: KeyMap::default(),
            identities: 0,
            pruned: Instant::ZERO,
        }
    }

    /// An answer came: a 401 or 403, or `None` of these.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        level: Level,
        key: &BucketKey,
        invalid: Option<u16>,
    ) {
        let Some(status) = invalid else {
            if !self.offences.is_empty() {
                self.offences.remove(&place_key(key));
            }
            return;
        };
        if now.saturating_duration_since(self.pruned) >= PRUNE_PAUSE {
            self.prune(now);
        }
        if self.offences.len() + 3 > OFFENCES_MAX {
            return;
        }
        if !self.offences.contains_key(&identity_key(key)) {
            self.identities += 1;
        }
        for (name, whole) in [
            (place_key(key), false),
            (route_key(key), false),
            (identity_key(key), true),
        ] {
            let offence = self.offences.entry(name).or_insert(Offence {
                weight: 0.0,
                streak: 0,
                unauthorized: false,
                whole,
                at: now,
                since: now,
            });
            offence.add(now, status == 401);
            if level == Level::Calm {
                // Nobody looked for answers between them.
                offence.streak = offence.streak.min(STREAK_WARY);
            }
        }
    }

    /// Whether a request has to hold back.
    pub(super) fn refuses(&self, now: Instant, level: Level, key: &BucketKey) -> Option<Refusal> {
        if level == Level::Calm || self.offences.is_empty() {
            return None;
        }
        let place = self.offences.get(&place_key(key));
        let paused = place.and_then(|place| {
            let until = place.since + place.pause(level);
            let reason = if place.unauthorized {
                Reason::Unauthorized
            } else {
                Reason::Forbidden
            };
            (until > now).then(|| Refusal {
                reason,
                retry_after: until.saturating_duration_since(now),
            })
        });
        paused.or_else(|| {
            let wait = self.beyond_share(now, level, key);
            (!wait.is_zero()).then_some(Refusal {
                reason: Reason::Share,
                retry_after: wait,
            })
        })
    }

    /// A request goes: if it is the one that asks after a pause, the next pause begins.
    pub(super) fn goes(&mut self, now: Instant, level: Level, key: &BucketKey) {
        if level > Level::Calm
            && let Some(place) = self.offences.get_mut(&place_key(key))
            && !place.pause(level).is_zero()
        {
            place.since = now;
        }
    }

    /// How long until the identity may offend again, if the route is one on which it does.
    fn beyond_share(&self, now: Instant, level: Level, key: &BucketKey) -> Duration {
        let share = match level {
            Level::Calm | Level::Wary => return Duration::ZERO,
            Level::Strict => (SHARED_OUT / self.identities.max(1) as f32).max(SHARE_MIN),
            Level::Last => FORGIVEN,
        };
        let (Some(route), Some(identity)) = (
            self.offences.get(&route_key(key)),
            self.offences.get(&identity_key(key)),
        ) else {
            return Duration::ZERO;
        };
        // Both must weigh: a route that drew nothing lately is none of those that are held back.
        route
            .lighter_in(now, FORGIVEN)
            .min(identity.lighter_in(now, share))
    }

    /// All of them, to be written down.
    pub(super) fn keep(&self, base: Instant) -> impl Iterator<Item = Record> {
        self.offences.iter().map(move |(&key, offence)| {
            Record::Offence(OffenceRecord {
                key,
                weight: offence.weight,
                streak: offence.streak,
                unauthorized: offence.unauthorized,
                whole: offence.whole,
                at_ago_us: ago(base, offence.at),
                since_ago_us: ago(base, offence.since),
            })
        })
    }

    /// Offences remembered.
    pub(super) fn len(&self) -> usize {
        self.offences.len()
    }

    /// Takes in one that was written down.
    pub(super) fn revive(&mut self, now: Instant, record: &OffenceRecord, times: Times) {
        let (at, since) = (
            times.since(record.at_ago_us),
            times.since(record.since_ago_us),
        );
        let remembered = at + MEMORY > now && record.weight.is_finite() && record.weight > 0.0;
        if !remembered || self.offences.len() >= OFFENCES_MAX {
            return;
        }
        let offence = Offence {
            // Discord bans long before anybody has drawn so many.
            weight: record.weight.min(BUDGET as f32),
            streak: record.streak,
            unauthorized: record.unauthorized,
            whole: record.whole,
            at,
            since,
        };
        if self.offences.insert(record.key, offence).is_none() {
            self.identities += u32::from(record.whole);
        }
    }

    fn prune(&mut self, now: Instant) {
        self.pruned = now;
        self.offences.retain(|_, offence| offence.at + MEMORY > now);
        self.identities = self.offences.values().filter(|o| o.whole).count() as u32;
    }
}

const fn identity_key(key: &BucketKey) -> u64 {
    fold(key.identity ^ 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3)
}

const fn route_key(key: &BucketKey) -> u64 {
    fold(
        identity_key(key) ^ 0x2d35_8dcc_aa6c_78a5,
        key.route ^ 0x9e37_79b9_7f4a_7c15,
    )
}

const fn place_key(key: &BucketKey) -> u64 {
    fold(
        route_key(key) ^ 0xa407_6a07_0d1a_f3e9,
        key.major ^ 0xe703_7ed1_a0b4_28db,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    const fn key(identity: u64, major: u64, route: u64) -> BucketKey {
        BucketKey {
            identity,
            major,
            route,
        }
    }

    fn wait(of: &Offenders, now: u64, level: Level, key: &BucketKey) -> Option<(Reason, u64)> {
        let refusal = of.refuses(s(now), level, key)?;
        Some((refusal.reason, refusal.retry_after.as_secs()))
    }

    #[test]
    fn a_route_that_draws_403s_is_asked_at_growing_pauses_and_others_go_on() {
        let (mut of, here) = (Offenders::new(), key(1, 1, 1));
        let mut now = 1_000;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            of.answered(s(now), Level::Wary, &here, Some(403));
            let (reason, pause) =
                wait(&of, now, Level::Wary, &here).unwrap_or((Reason::Forbidden, 0));
            assert_eq!(reason, Reason::Forbidden);
            pauses.push(pause);
            for other in [key(1, 1, 2), key(1, 2, 1), key(2, 1, 1)] {
                assert_eq!(wait(&of, now, Level::Wary, &other), None);
            }
            now += pause;
            assert_eq!(
                wait(&of, now, Level::Wary, &here),
                None,
                "the pause is the truth"
            );
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60]);
        // One goes and asks; the others wait for what it hears.
        of.goes(s(now), Level::Wary, &here);
        assert_eq!(
            wait(&of, now, Level::Wary, &here),
            Some((Reason::Forbidden, 60))
        );
        of.answered(s(now + 1), Level::Wary, &here, None);
        assert_eq!(wait(&of, now + 1, Level::Wary, &here), None);
    }

    #[test]
    fn nobody_is_held_back_while_the_budget_is_hardly_touched() {
        let (mut of, here) = (Offenders::new(), key(1, 1, 1));
        for n in 0..100 {
            of.answered(s(n), Level::Calm, &here, Some(403));
        }
        assert_eq!(wait(&of, 100, Level::Calm, &here), None);
        // Successes between them were not looked for: no long pause follows from them.
        assert_eq!(
            wait(&of, 99, Level::Wary, &here),
            Some((Reason::Forbidden, 1))
        );
    }

    #[test]
    fn an_identity_beyond_its_share_is_held_back_where_it_offends_and_truthfully() {
        let mut of = Offenders::new();
        for identity in 0..100 {
            let times = if identity == 7 { 200 } else { 5 };
            (0..times).for_each(|major| {
                of.answered(s(1_000), Level::Strict, &key(identity, major, 1), Some(403));
            });
        }
        let (modest, greedy) = (key(8, 999, 1), key(7, 999, 1));
        assert_eq!(wait(&of, 1_000, Level::Strict, &modest), None);
        assert_eq!(wait(&of, 1_000, Level::Strict, &key(7, 999, 2)), None);
        let (reason, pause) = wait(&of, 1_000, Level::Strict, &greedy).unwrap();
        // 200 of a share of 38: 600 s times ln 5.26.
        assert_eq!((reason, pause), (Reason::Share, 996));
        assert_eq!(wait(&of, 1_000 + pause + 1, Level::Strict, &greedy), None);
        assert!(wait(&of, 1_000, Level::Last, &modest).is_some());
        assert_eq!(wait(&of, 1_000, Level::Last, &key(200, 1, 1)), None);
    }

    #[test]
    fn offences_are_bounded_and_forgotten() {
        let mut of = Offenders::new();
        for n in 0..OFFENCES_MAX as u64 {
            of.answered(s(1_000), Level::Wary, &key(n, n, 1), Some(401));
        }
        assert!(of.offences.len() <= OFFENCES_MAX);
        of.answered(s(2_000), Level::Wary, &key(1, 1, 1), Some(401));
        assert_eq!((of.offences.len(), of.identities), (3, 1));
    }
}
