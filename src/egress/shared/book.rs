//! What this proxy holds, what Redis was told of it, and who waits for an answer: the pure half of a
//! fleet's shared caps.
//!
//! # How it stays exact
//! A proxy never adds to or takes from its counter in Redis; it writes how much it holds, and in the
//! same step asks for more ([`Op`]). So a reply that was lost, a counter that ran out or a Redis that
//! came back empty need no repair of their own: the next write is right again. Of each host at most
//! one write is under way, and everybody who asks meanwhile goes with the next: a hundred asks for one
//! host cost two.
//!
//! # Where it stands
//! ```text
//! Away ─ connected ─▶ Joining ─ all is written, joined ─▶ Settling ─ all have met, or time is up ─▶ Shared
//!   ▲                    ▲                                   │  │                                      │ │
//!   │                    └───── Redis has forgotten us ──────┘──┼──────────────────────────────────────┘ │
//!   └────────────────── connection lost ────────────────────────┴────────────────────────────────────────┘
//! ```
//! A Redis that was started anew knows nothing of what the others hold until they have told it; whoever
//! came back first would be given the places of the others. Therefore the whole fleet settles first:
//! everybody waits until all are back whom it knew of, and whoever is new gets no place before all the
//! others have heard of it.
//!
//! Costs some 150 bytes for each host with a connection, and for each that waits what the asker is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::clock::Instant;
use crate::config::RedisFail;
use crate::egress::hosts::HostKey;
use crate::metrics::{FleetCounters as Counters, Standing};

use super::keys;
use super::share;

/// Asks that wait at a time: as many as a proxy may have clients by default; more are refused.
const ASKS_MAX: usize = 65_536;

/// Hosts in one round trip: a round stays below some milliseconds of Redis' time, and its bytes below
/// what a socket takes at once.
pub(crate) const ROUND_HOSTS_MAX: usize = 256;

/// Asks in one write; beyond it they go with the next one.
const WANTED_MAX: usize = 4_096;

/// What became of an ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// A place is taken; it is to be given back once.
    Granted,
    /// The host has as many connections as its cap allows.
    Full,
    /// Nobody could say, and the policy (`REDIS_FAIL=closed`), a full queue or the end of the process
    /// says no.
    Refused,
}

/// What a book goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Who decides while Redis cannot.
    pub(crate) fail: RedisFail,
    /// How long a counter that nobody writes stays in Redis.
    pub(crate) max_lifetime: Duration,
    /// How long an ask waits for Redis before the policy answers it.
    pub(crate) patience: Duration,
    /// Within what everybody who is there has heard of a new one: the time between two looks at the
    /// fleet, and what an answer may take.
    pub(crate) introduction: Duration,
}

impl Rules {
    /// How often what is open is written again: three times within its life, and every ten seconds at
    /// the least, so that a counter that was evicted is not missed for longer.
    pub(crate) fn renewal(&self) -> Duration {
        (self.max_lifetime / 3).min(Duration::from_secs(10))
    }
}

/// One write: "I hold so many places of this host, and want so many more".
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Op {
    /// Of which host.
    pub(crate) host: HostKey,
    /// Places that are open.
    pub(crate) held: u32,
    /// Places that somebody waits for.
    pub(crate) wanted: u32,
    /// Places that the fleet may have; not 0 where some are wanted.
    pub(crate) cap: u32,
    /// Places that this proxy may have.
    pub(crate) most: u32,
}

/// What Redis says of the fleet.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Roster {
    /// Workers that were seen lately, and when: milliseconds of Redis' clock.
    pub(crate) workers: BTreeMap<Box<str>, i64>,
    /// When it was noticed that Redis had started; who was seen since then has told what it holds.
    pub(crate) since: i64,
    /// For how long others may still be missing; zero if none is.
    pub(crate) settle: Duration,
    /// Whether Redis still knew of this proxy.
    pub(crate) known: bool,
}

/// What one host has.
struct Entry<A> {
    /// Places that were granted and not given back.
    held: u32,
    /// What its counter in Redis is; `None` while a write is under way, and when nobody knows.
    told: Option<u32>,
    /// When that was written.
    told_at: Instant,
    /// What the others held when Redis was last asked.
    others: u32,
    /// The cap that came with the last ask.
    cap: u32,
    /// Who waits, the first to have asked first.
    waiting: VecDeque<Ask<A>>,
    /// It stands in `Book::due`.
    due: bool,
    /// Its counter is to be written although nothing changed.
    renew: bool,
}

struct Ask<A> {
    asker: A,
    until: Instant,
}

/// An answer that is to be given.
pub(crate) struct Answer<A> {
    pub(crate) asker: A,
    pub(crate) host: HostKey,
    pub(crate) verdict: Verdict,
}

/// See the module. `A` is what an answer is given to.
pub(crate) struct Book<A> {
    me: Box<str>,
    rules: Rules,
    standing: Standing,
    /// When settling ends, if that is what is going on.
    settled_at: Instant,
    hosts: BTreeMap<HostKey, Entry<A>>,
    /// Hosts that Redis is to be told of, each once.
    due: VecDeque<HostKey>,
    /// When asks run out of patience, the first first; the ask may have been answered since.
    patience: VecDeque<(Instant, HostKey)>,
    waiting: usize,
    /// Who shares the caps, this proxy among them: what its part of a cap follows from.
    fleet: BTreeSet<Box<str>>,
    /// `fleet` has everybody who was given a place by the Redis that was asked last.
    acquainted: bool,
    /// When it was last told who belongs to the fleet.
    told_fleet_at: Instant,
    /// It has asked who belongs to the fleet and waits for the answer.
    greeting: bool,
    /// When it joined, by Redis' clock.
    entered: i64,
    renew_at: Instant,
    answers: VecDeque<Answer<A>>,
    counters: Counters,
}

impl<A> Book<A> {
    pub(crate) fn new(me: Box<str>, rules: Rules) -> Self {
        Self {
            fleet: BTreeSet::from([me.clone()]),
            me,
            rules,
            standing: Standing::Away,
            settled_at: Instant::ZERO,
            hosts: BTreeMap::new(),
            due: VecDeque::new(),
            patience: VecDeque::new(),
            waiting: 0,
            acquainted: false,
            told_fleet_at: Instant::ZERO,
            greeting: false,
            entered: 0,
            renew_at: Instant::ZERO,
            answers: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Somebody wants a place of `host`, of which the fleet may have `cap`; 0 for any number.
    pub(crate) fn ask(&mut self, now: Instant, host: &HostKey, cap: u32, asker: A) {
        if cap == 0 {
            // There is nothing to ask Redis for; it is told all the same, since others may have a cap.
            self.take(host);
            self.counters.granted += 1;
            self.answer(asker, host, Verdict::Granted);
            return;
        }
        if self.standing == Standing::Away {
            let verdict = self.by_policy(host, cap);
            self.answer(asker, host, verdict);
            return;
        }
        if self.waiting >= ASKS_MAX {
            self.counters.refused += 1;
            self.answer(asker, host, Verdict::Refused);
            return;
        }
        let until = now + self.rules.patience;
        let entry = self.entry(host);
        entry.cap = cap;
        entry.waiting.push_back(Ask { asker, until });
        self.waiting += 1;
        self.patience.push_back((until, host.clone()));
        self.mark(host);
    }

    /// A place of `host` is free again.
    pub(crate) fn give_back(&mut self, host: &HostKey) {
        let Some(entry) = self.hosts.get_mut(host) else {
            debug_assert!(false, "{host}: given back what nobody holds");
            return;
        };
        debug_assert!(entry.held > 0, "{host}: given back twice");
        entry.held = entry.held.saturating_sub(1);
        self.mark(host);
        self.forget(host);
    }

    /// A connection stands, or Redis has forgotten this proxy: all that is open is to be written
    /// before anything is asked for.
    pub(crate) fn joining(&mut self) {
        self.standing = Standing::Joining;
        for entry in self.hosts.values_mut() {
            if entry.told != Some(0) {
                entry.told = None;
            }
        }
        self.mark_all();
    }

    /// Redis is being asked who belongs to the fleet, and others may hear of this proxy.
    pub(crate) fn greets(&mut self) {
        self.greeting = true;
    }

    /// What the fleet is now, after all was written that there was to write. False if Redis has
    /// forgotten this proxy.
    pub(crate) fn seen(&mut self, now: Instant, roster: &Roster) -> bool {
        match self.standing {
            _ if !roster.known => return false,
            Standing::Joining => self.joined(now, roster),
            Standing::Away | Standing::Settling | Standing::Shared => self.take_in(now, roster),
        }
        true
    }

    /// The fleet knows of this proxy from now on.
    fn joined(&mut self, now: Instant, roster: &Roster) {
        self.counters.joined += 1;
        self.renew_at = now + self.rules.renewal();
        self.standing = Standing::Settling;
        self.settled_at = now + roster.settle.max(self.rules.introduction);
        self.entered = roster.workers.get(&self.me).copied().unwrap_or(i64::MAX);
        // Whoever came meanwhile has not waited for this proxy to hear of it.
        let away = now.saturating_duration_since(self.told_fleet_at);
        self.acquainted &= away <= self.rules.introduction;
        self.take_in(now, roster);
        self.mark_all();
    }

    /// Redis has forgotten this proxy, which then has to join anew.
    pub(crate) fn forgotten(&mut self) {
        self.counters.forgotten += 1;
        self.joining();
    }

    fn take_in(&mut self, now: Instant, roster: &Roster) {
        self.greeting = false;
        if self.standing == Standing::Settling {
            let is_another = |worker: &str| keys::is_ours(worker) && *worker != *self.me;
            // A Redis that loses all is then waited with for this proxy, too.
            let introduced = roster
                .workers
                .iter()
                .filter(|(worker, _)| is_another(worker))
                .all(|(_, seen)| *seen >= self.entered);
            let back = |worker: &str| {
                let seen = roster.workers.get(worker);
                seen.is_some_and(|seen| *seen >= roster.since)
            };
            let mut expected = self.fleet.iter().filter(|worker| is_another(worker));
            let complete =
                roster.settle.is_zero() || self.acquainted && expected.all(|worker| back(worker));
            if introduced && complete || now >= self.settled_at {
                self.settle();
            }
        }
        let mut fleet: BTreeSet<Box<str>> = roster.workers.keys().cloned().collect();
        fleet.insert(self.me.clone());
        if self.standing == Standing::Settling {
            // Who is not back yet has its part all the same.
            fleet.append(&mut self.fleet);
        } else {
            self.acquainted = true;
        }
        self.told_fleet_at = now;
        self.fleet = fleet;
    }

    fn settle(&mut self) {
        self.standing = Standing::Shared;
        self.mark_all();
    }

    /// There is no connection any more: whoever waits is answered by the policy, and nobody knows
    /// whether what was under way has arrived.
    pub(crate) fn lost(&mut self) {
        if self.standing == Standing::Away {
            return;
        }
        self.standing = Standing::Away;
        self.counters.lost += 1;
        // Others may take it that this proxy has heard of them.
        self.acquainted &= !self.greeting;
        self.greeting = false;
        self.due.clear();
        let waiting: Vec<HostKey> = self
            .hosts
            .iter_mut()
            .filter_map(|(host, entry)| {
                entry.due = false;
                (!entry.waiting.is_empty()).then(|| host.clone())
            })
            .collect();
        for host in waiting {
            while let Some(ask) = self.next_waiting(&host, |_| true) {
                let cap = self.entry(&host).cap;
                let verdict = self.by_policy(&host, cap);
                self.answer(ask.asker, &host, verdict);
            }
        }
        self.patience.clear();
        self.hosts.retain(|_, entry| !entry.is_idle());
    }

    /// The process ends: whoever waits is refused.
    pub(crate) fn close(&mut self) {
        self.rules.fail = RedisFail::Closed;
        self.lost();
    }

    /// What is to be written now, at most [`ROUND_HOSTS_MAX`] hosts; nothing if there is no connection.
    /// Each is to be answered by [`Book::done`] before the next round.
    pub(crate) fn next_round(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        if self.standing == Standing::Away {
            return ops;
        }
        while ops.len() < ROUND_HOSTS_MAX
            && let Some(host) = self.due.pop_front()
        {
            let may_want = self.may_want();
            let most = self.most(&host);
            let Some(entry) = self.hosts.get_mut(&host) else {
                continue;
            };
            entry.due = false;
            if !entry.needs(may_want) {
                self.forget(&host);
                continue;
            }
            let wanted = if may_want {
                entry.waiting.len().min(WANTED_MAX)
            } else {
                0
            };
            entry.told = None;
            entry.renew = false;
            ops.push(Op {
                host,
                held: entry.held,
                wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
                cap: entry.cap,
                most,
            });
        }
        ops
    }

    /// `op` was carried out: Redis has counted `granted` places more, the others held `others` (known
    /// only if something was wanted).
    pub(crate) fn done(&mut self, now: Instant, op: &Op, granted: u32, others: u32) {
        let granted = granted.min(op.wanted);
        let entry = self.entry(&op.host);
        entry.told = Some(op.held + granted);
        entry.told_at = now;
        if op.wanted > 0 {
            entry.others = others;
        }
        for nth in 0..op.wanted {
            // Who ran out of patience meanwhile is not there any more.
            let Some(ask) = self.next_waiting(&op.host, |_| true) else {
                self.counters.late_grants += u64::from(granted.saturating_sub(nth));
                break;
            };
            let verdict = if nth < granted {
                self.entry(&op.host).held += 1;
                self.counters.granted += 1;
                Verdict::Granted
            } else {
                self.counters.full += 1;
                Verdict::Full
            };
            self.answer(ask.asker, &op.host, verdict);
        }
        self.mark(&op.host);
        self.forget(&op.host);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some((_, host)) = pop_if(&mut self.patience, |(until, _)| *until <= now) {
            while let Some(ask) = self.next_waiting(&host, |ask| ask.until <= now) {
                self.counters.late += 1;
                let cap = self.entry(&host).cap;
                let verdict = self.by_policy(&host, cap);
                self.answer(ask.asker, &host, verdict);
            }
            self.forget(&host);
        }
        if self.standing == Standing::Settling && now >= self.settled_at {
            self.settle();
        }
        if now >= self.renew_at {
            self.renew_at = now + self.rules.renewal();
            self.renew(now);
        }
    }

    /// When [`Book::tick`] has something to do.
    pub(crate) fn next_deadline(&self) -> Instant {
        let patience = self
            .patience
            .front()
            .map_or(Instant::FAR, |(until, _)| *until);
        let settled = match self.standing {
            Standing::Settling => self.settled_at,
            Standing::Away | Standing::Joining | Standing::Shared => Instant::FAR,
        };
        patience.min(settled).min(self.renew_at)
    }

    /// Whether there is something to be written.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty() && self.standing != Standing::Away
    }

    /// The next answer to be given.
    pub(crate) fn poll_answer(&mut self) -> Option<Answer<A>> {
        self.answers.pop_front()
    }

    /// Whether somebody waits for an answer that only the policy gives, when the time has come.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting > 0
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Hosts that Redis may have a counter of ours for.
    pub(crate) fn told_hosts(&self) -> impl Iterator<Item = &HostKey> {
        let told = |(host, entry): (_, &Entry<A>)| (entry.told != Some(0)).then_some(host);
        self.hosts.iter().filter_map(told)
    }

    /// Connections of `host` in the whole fleet, as far as known: this proxy's, and what the others
    /// had when it last asked.
    pub(crate) fn active(&self, host: &HostKey) -> u32 {
        self.hosts
            .get(host)
            .map_or(0, |entry| entry.held.saturating_add(entry.others))
    }

    pub(crate) fn counters(&self) -> Counters {
        let foreign = self.fleet.iter().filter(|worker| !keys::is_ours(worker));
        let foreign = foreign.count();
        Counters {
            standing: self.standing,
            waiting: self.waiting,
            held: self.hosts.values().map(|entry| u64::from(entry.held)).sum(),
            fleet: self.fleet.len(),
            foreign,
            ..self.counters
        }
    }

    /// Whether something may be asked of Redis, or it is only told.
    fn may_want(&self) -> bool {
        match self.standing {
            Standing::Away | Standing::Joining => false,
            // Whoever is to be strict waits until all have told what they hold.
            Standing::Settling => self.rules.fail != RedisFail::Closed,
            Standing::Shared => true,
        }
    }

    /// Places that this proxy may have of `host`.
    fn most(&self, host: &HostKey) -> u32 {
        let cap = self.hosts.get(host).map_or(0, |entry| entry.cap);
        match (self.standing, self.rules.fail) {
            (Standing::Settling, RedisFail::Local) => self.share(cap),
            _ => cap,
        }
    }

    fn share(&self, cap: u32) -> u32 {
        let rank = self.fleet.range::<Box<str>, _>(..&self.me).count();
        share::of(cap, rank, self.fleet.len())
    }

    /// What holds without Redis' word.
    fn by_policy(&mut self, host: &HostKey, cap: u32) -> Verdict {
        let held = self.hosts.get(host).map_or(0, |entry| entry.held);
        let verdict = match self.rules.fail {
            RedisFail::Closed => Verdict::Refused,
            RedisFail::Open => Verdict::Granted,
            RedisFail::Local if held < self.share(cap) => Verdict::Granted,
            RedisFail::Local => Verdict::Full,
        };
        match verdict {
            Verdict::Granted => {
                self.counters.alone_granted += 1;
                self.take(host);
            }
            Verdict::Full => self.counters.alone_full += 1,
            Verdict::Refused => self.counters.refused += 1,
        }
        verdict
    }

    fn take(&mut self, host: &HostKey) {
        self.entry(host).held += 1;
        self.mark(host);
    }

    fn answer(&mut self, asker: A, host: &HostKey, verdict: Verdict) {
        let host = host.clone();
        self.answers.push_back(Answer {
            asker,
            host,
            verdict,
        });
    }

    /// The ask of `host` that came first, if `wanted`.
    fn next_waiting(
        &mut self,
        host: &HostKey,
        wanted: impl FnOnce(&Ask<A>) -> bool,
    ) -> Option<Ask<A>> {
        let entry = self.hosts.get_mut(host)?;
        let ask = pop_if(&mut entry.waiting, wanted)?;
        self.waiting -= 1;
        Some(ask)
    }

    fn entry(&mut self, host: &HostKey) -> &mut Entry<A> {
        self.hosts.entry(host.clone()).or_insert_with(|| Entry {
            held: 0,
            told: Some(0),
            told_at: Instant::ZERO,
            others: 0,
            cap: 0,
            waiting: VecDeque::new(),
            due: false,
            renew: false,
        })
    }

    /// Has Redis told of `host` if there is something to tell.
    fn mark(&mut self, host: &HostKey) {
        let may_want = self.may_want();
        if self.standing == Standing::Away {
            return;
        }
        if let Some(entry) = self.hosts.get_mut(host)
            && !entry.due
            && entry.needs(may_want)
        {
            entry.due = true;
            self.due.push_back(host.clone());
        }
    }

    fn mark_all(&mut self) {
        let may_want = self.may_want();
        for (host, entry) in &mut self.hosts {
            if !entry.due && entry.needs(may_want) {
                entry.due = true;
                self.due.push_back(host.clone());
            }
        }
    }

    /// Has all that is open written again, and forgets what Redis has forgotten by itself.
    fn renew(&mut self, now: Instant) {
        let life = self.rules.max_lifetime;
        let away = self.standing == Standing::Away;
        self.hosts.retain(|_, entry| {
            entry.renew |= entry.held > 0;
            let over = now.saturating_duration_since(entry.told_at) > life;
            !(away && over && entry.held == 0 && entry.waiting.is_empty())
        });
        if !away {
            self.mark_all();
        }
    }

    /// Drops what is kept of `host` if nothing is.
    fn forget(&mut self, host: &HostKey) {
        if self.hosts.get(host).is_some_and(Entry::is_idle) {
            self.hosts.remove(host);
        }
    }

    /// What always holds between two calls.
    #[cfg(test)]
    pub(crate) fn check_invariants(&self) {
        let waiting: usize = self.hosts.values().map(|entry| entry.waiting.len()).sum();
        assert_eq!(waiting, self.waiting);
        let due = self.hosts.values().filter(|entry| entry.due).count();
        assert_eq!(due, self.due.len());
        assert!(self.patience.iter().is_sorted_by_key(|(until, _)| *until));
        assert!(self.fleet.contains(&self.me));
        if self.standing == Standing::Away {
            assert_eq!((self.waiting, self.due.len()), (0, 0));
        }
        for entry in self.hosts.values() {
            let told_all = entry.told == Some(entry.held);
            let may_lie = self.standing == Standing::Away || entry.due || entry.told.is_none();
            assert!(told_all || may_lie, "Redis is not told");
        }
    }
}

impl<A> Entry<A> {
    /// Whether there is something to write, if places may be asked for at all.
    fn needs(&self, may_want: bool) -> bool {
        self.told != Some(self.held) || self.renew || may_want && !self.waiting.is_empty()
    }

    /// Whether there is nothing to be kept.
    fn is_idle(&self) -> bool {
        self.held == 0 && self.told == Some(0) && self.waiting.is_empty() && !self.due
    }
}

fn pop_if<T>(queue: &mut VecDeque<T>, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
    queue
        .front()
        .is_some_and(wanted)
        .then(|| queue.pop_front())?
}

#[cfg(test)]
mod tests;
