//! The thread that talks to Redis for all workers of the process.
//!
//! It sends what the [`Book`](super::book::Book) has to say, one round trip after the other, and
//! sleeps when there is nothing. It alone waits for Redis; workers wait for nothing but the book's
//! lock, which is held for sums, never for IO.

use std::mem::{self, Discriminant};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};

use crate::clock::{self, Instant};
use crate::config::{RedisFail, RedisSettings};
use crate::metrics::Standing;

use super::book::{Book, Op};
use super::fleet::{Asker, Shared};
use super::link::{Link, LinkError, Round};
use super::script::{self, Times, Written};

/// How often the fleet is asked who belongs to it, and told that this proxy does.
const BEAT: Duration = Duration::from_secs(1);

/// The same while the fleet settles, so that it is noticed when all are back.
const BEAT_SETTLING: Duration = Duration::from_millis(100);

/// The wait before a second attempt to connect; each one after doubles it.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// The longest wait between two attempts, up to half more by chance: so late a Redis that is back is
/// noticed.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long joining waits for the first walk through all keys, which finds the workers of dprl: enough
/// for a million keys on the same machine. It goes on afterwards.
const FIRST_WALK_MAX: Duration = Duration::from_secs(1);

/// How long a worker that was not seen stays in the index at the least. A dprl that had no connection
/// for as long and then opens one is not seen until the next look for it.
const KEEP_MIN: Duration = Duration::from_secs(3_600);

/// Within what everybody has heard of a new proxy; see [`Rules`](super::book::Rules).
pub(super) fn introduction(settings: &RedisSettings) -> Duration {
    BEAT + 2 * settings.timeout
}

/// The times that the scripts go by.
pub(super) fn times(settings: &RedisSettings) -> Times {
    let scan = settings.scan_interval.unwrap_or_default();
    let lately = 3 * BEAT.max(scan);
    Times {
        life: settings.max_lifetime,
        // Whoever is alive has noticed that Redis was away after a beat and an answer that did not
        // come, has waited at most for its next attempt, and told what it holds.
        settle: BEAT + BACKOFF_MAX * 3 / 2 + 2 * settings.timeout,
        keep: KEEP_MIN.max(settings.max_lifetime).max(lately),
        lately,
    }
}

/// See the module.
pub(super) struct Driver {
    shared: Arc<Shared>,
    settings: RedisSettings,
    me: Box<str>,
    /// The number of the newest attempt to connect.
    epoch: u64,
    link: Option<Link>,
    /// When to try to connect again, and how long to wait after that.
    retry_at: Instant,
    backoff: Duration,
    said: Said,
    /// Why it was said to be away last.
    said_why: Option<Discriminant<LinkError>>,
    beat_at: Instant,
    /// When joining does not wait for the walk any more.
    join_by: Instant,
    scan: Scan,
    /// Of this process alone, so that a fleet does not come back all at once.
    chance: u64,
}

/// The look for workers of dprl.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scan {
    /// Somebody looks, from then on.
    Idle(Instant),
    /// This proxy looks; it is here in its walk through all keys.
    At(u64),
    /// There is no dprl.
    Never,
}

/// What was last said in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Nothing,
    Away,
    Shared,
}

/// What stands in a round beside the writes.
#[derive(Clone, Copy, Debug, Default)]
struct Extra {
    hello: bool,
    page: Option<u64>,
    claim: bool,
}

/// What comes next.
enum Step {
    Stop,
    Connect,
    Round(Vec<Op>, Extra),
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: RedisSettings,
        me: Box<str>,
        chance: u64,
    ) -> Self {
        Self {
            shared,
            settings,
            me,
            epoch: 0,
            link: None,
            retry_at: Instant::ZERO,
            backoff: BACKOFF_MIN,
            said: Said::Nothing,
            said_why: None,
            beat_at: Instant::ZERO,
            join_by: Instant::ZERO,
            scan: Scan::Never,
            chance,
        }
    }

    /// Runs until the fleet stops; `ended` is dropped then.
    pub(super) fn run(mut self, ended: Sender<()>) {
        loop {
            match self.next() {
                Step::Stop => break,
                Step::Connect => {
                    if let Err(error) = self.connect() {
                        self.away(&error);
                    }
                }
                Step::Round(ops, extra) => {
                    if let Err(error) = self.round(&ops, extra) {
                        self.away(&error);
                    }
                }
            }
            self.shared.deliver();
        }
        self.farewell();
        drop(ended);
    }

    /// Sleeps until there is something to do.
    fn next(&mut self) -> Step {
        let shared = self.shared.clone();
        loop {
            let mut state = shared.lock();
            if state.stopping {
                return Step::Stop;
            }
            let now = clock::now();
            state.book.tick(now);
            if state.book.has_answers() {
                drop(state);
                shared.deliver();
                continue;
            }
            let standing = state.book.standing();
            let wake = if self.link.is_none() {
                if now >= self.retry_at {
                    return Step::Connect;
                }
                self.retry_at
            } else {
                let ops = state.book.next_round();
                let all_told = ops.is_empty() && !state.book.is_due();
                let extra = self.extra(now, standing, all_told);
                if extra.hello {
                    state.book.greets();
                }
                if !ops.is_empty() || extra.hello || extra.claim || extra.page.is_some() {
                    return Step::Round(ops, extra);
                }
                match self.scan {
                    Scan::Idle(at) => at.min(self.beat_at),
                    Scan::At(_) | Scan::Never => self.beat_at,
                }
            };
            let wait = wake.min(state.book.next_deadline());
            let wait = wait.saturating_duration_since(now);
            state.asleep = true;
            let waited = shared.wake.wait_timeout(state, wait);
            waited.unwrap_or_else(PoisonError::into_inner).0.asleep = false;
        }
    }

    /// What is due beside the writes. The fleet is joined when all is written and all keys were walked
    /// through once.
    fn extra(&self, now: Instant, standing: Standing, all_told: bool) -> Extra {
        let page = match self.scan {
            Scan::At(cursor) => Some(cursor),
            Scan::Idle(_) | Scan::Never => None,
        };
        match standing {
            Standing::Away => Extra::default(),
            Standing::Joining => Extra {
                hello: all_told && (page.is_none() || now >= self.join_by),
                page,
                claim: false,
            },
            Standing::Settling | Standing::Shared => Extra {
                hello: now >= self.beat_at,
                page,
                claim: matches!(self.scan, Scan::Idle(at) if now >= at),
            },
        }
    }

    /// Connects, claims the connection's number and lets the book begin to join.
    pub(super) fn connect(&mut self) -> Result<(), LinkError> {
        self.epoch += 1;
        let mut link = Link::open(&self.settings, times(&self.settings), &self.me, self.epoch)?;
        self.claim(&mut link)?;
        self.link = Some(link);
        self.join_by = clock::now() + FIRST_WALK_MAX;
        self.scan = match self.settings.scan_interval {
            Some(_) => Scan::At(0),
            None => Scan::Never,
        };
        let mut state = self.shared.lock();
        if !state.stopping {
            state.book.joining();
        }
        Ok(())
    }

    fn claim(&self, link: &mut Link) -> Result<(), LinkError> {
        let hello = link.hello(false);
        match link.round(&[hello])? {
            Round::Answered(answers) => {
                let [answer] = answers.as_slice() else {
                    return Err(LinkError::Nonsense);
                };
                // Nobody else has this name, so nobody has claimed more.
                script::read_hello(answer)?.ok_or(LinkError::Nonsense)?;
                Ok(())
            }
            Round::ScriptsGone => Err(LinkError::Nonsense),
        }
    }

    fn round(&mut self, ops: &[Op], extra: Extra) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let mut cmds: Vec<Cmd> = ops.iter().map(|op| link.write(op)).collect();
        if extra.hello {
            cmds.push(link.hello(true));
        }
        if let Some(cursor) = extra.page {
            cmds.push(script::scan(cursor));
        }
        if extra.claim {
            cmds.push(link.claim_scan(self.settings.scan_interval.unwrap_or_default()));
        }
        let answers = match link.round(&cmds)? {
            Round::Answered(answers) => answers,
            Round::ScriptsGone => return self.rejoin(Book::joining),
        };
        let now = clock::now();
        let mut answers = answers.iter();
        let mut next = || answers.next().ok_or(LinkError::Nonsense);
        let mut known = true;
        {
            let mut state = self.shared.lock();
            for op in ops {
                match script::read_written(next()?)? {
                    Written::Done { granted, others } => {
                        state.book.done(now, op, granted, others);
                    }
                    Written::Unknown => known = false,
                }
            }
            if extra.hello {
                let roster = script::read_hello(next()?)?.ok_or(LinkError::Nonsense)?;
                match state.book.standing() {
                    _ if state.stopping || !known => {}
                    Standing::Joining | Standing::Settling | Standing::Shared => {
                        known = state.book.seen(now, &roster);
                    }
                    Standing::Away => {}
                }
                self.beat_at = now
                    + match state.book.standing() {
                        Standing::Settling => BEAT_SETTLING,
                        Standing::Away | Standing::Joining | Standing::Shared => BEAT,
                    };
            }
        }
        if extra.page.is_some() {
            let page = next()?;
            self.page(page)?;
        }
        if extra.claim {
            self.scan = match next()? {
                // Somebody else looks, or has looked lately.
                Value::Nil => self.scan_later(),
                _ => Scan::At(0),
            };
        }
        if !known {
            return self.rejoin(Book::forgotten);
        }
        self.say_shared();
        Ok(())
    }

    /// Redis has forgotten this proxy or its scripts: joins again on the same connection.
    fn rejoin(&mut self, begin: fn(&mut Book<Asker>)) -> Result<(), LinkError> {
        if let Some(mut link) = self.link.take() {
            self.claim(&mut link)?;
            self.link = Some(link);
        }
        let mut state = self.shared.lock();
        if !state.stopping {
            begin(&mut state.book);
        }
        Ok(())
    }

    /// One page of keys came.
    fn page(&mut self, page: &Value) -> Result<(), LinkError> {
        let (cursor, workers) = script::read_scan(page)?;
        self.scan = match cursor {
            0 => self.scan_later(),
            cursor => Scan::At(cursor),
        };
        if let Some(link) = &mut self.link
            && !workers.is_empty()
        {
            let found = link.found(&workers);
            if let Round::ScriptsGone = link.round(&[found])? {
                return self.rejoin(Book::joining);
            }
        }
        Ok(())
    }

    fn scan_later(&self) -> Scan {
        match self.settings.scan_interval {
            Some(interval) => Scan::Idle(clock::now() + interval),
            None => Scan::Never,
        }
    }

    /// Redis is gone: the policy holds, and connecting is tried again after a while.
    pub(super) fn away(&mut self, error: &LinkError) {
        self.link = None;
        self.shared.lock().book.lost();
        // Another reason is news if it is one that somebody has to mend.
        let reason = mem::discriminant(error);
        let is_news = error.is_a_mistake() && self.said_why != Some(reason);
        if self.said != Said::Away || is_news {
            self.said = Said::Away;
            self.said_why = Some(reason);
            let holds = match self.settings.fail {
                RedisFail::Closed => "new connections are refused",
                RedisFail::Open => "new connections are not capped",
                RedisFail::Local => "each proxy keeps to its own part of the caps",
            };
            tracing::warn!(redis = %self.settings.address, "Redis is away, {holds}: {error}");
        }
        self.retry_at = clock::now() + self.backoff + self.jitter();
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }

    /// Up to half of the wait.
    fn jitter(&mut self) -> Duration {
        // Knuth's multiplier (MMIX).
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let half = u32::try_from(self.chance >> 33).unwrap_or(0) % 512;
        self.backoff * half / 1_024
    }

    /// Says so once when the fleet shares its caps (again).
    fn say_shared(&mut self) {
        let state = self.shared.lock();
        if state.book.standing() != Standing::Shared {
            return;
        }
        self.backoff = BACKOFF_MIN;
        if self.said != Said::Shared {
            self.said = Said::Shared;
            self.said_why = None;
            let proxies = state.book.counters().fleet;
            drop(state);
            tracing::info!(
                redis = %self.settings.address,
                worker = &*self.me,
                proxies,
                "caps are shared through Redis"
            );
        }
    }

    fn farewell(&mut self) {
        let Some(link) = self.link.take() else {
            return;
        };
        let counters: Vec<String> = {
            let state = self.shared.lock();
            let told = state.book.told_hosts();
            told.map(|host| super::keys::counter(host, &self.me))
                .collect()
        };
        if let Err(error) = link.farewell(&counters) {
            tracing::warn!(
                "what this proxy had in Redis stays there for REDIS_MAX_LIFETIME: {error}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::{RedisAddress, RedisUrl};

    #[test]
    fn a_worker_is_kept_longer_than_anything_it_may_be_missed_for() {
        let url: RedisUrl = "redis".parse().unwrap();
        let address: RedisAddress = url.address;
        for (life, scan) in [(1, 0), (60, 5), (86_400, 3_600), (60, 3_600)] {
            let settings = RedisSettings {
                max_lifetime: Duration::from_secs(life),
                scan_interval: (scan > 0).then(|| Duration::from_secs(scan)),
                ..RedisSettings::new(address.clone())
            };
            let times = times(&settings);
            assert!(times.keep >= times.lately && times.keep >= times.life);
            assert!(times.lately > Duration::from_secs(scan) && times.lately > BEAT);
            assert!(times.settle > BACKOFF_MAX + BEAT + settings.timeout);
        }
    }
}
