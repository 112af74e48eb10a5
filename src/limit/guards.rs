//! What protects the egress address and spares Discord hopeless requests: the Cloudflare breaker, the
//! budget of invalid requests, and the memory of dead webhooks. One per process.

use super::ask::{Ask, ClientClass, Outputs, Permit, Reason, Refusal};
use super::breaker::{Breaker, Passage};
use super::guarded::Guarded;
use super::headers::{Answer, Limited};
use super::invalid::{BUDGET, Invalid};
use super::learn::KeyMap;
use super::locks::{self, Block, DeadWebhook, Which};
use super::notice::Notice;
use super::offenders::{Level, Offenders};
use super::snapshot::{Record, Times, left};
use crate::clock::Instant;
use std::time::Duration;

/// Dead webhooks remembered; beyond, the ones that die later are not.
const DEAD_WEBHOOKS_MAX: usize = 16_384;
/// A webhook stays dead for so long: its id never comes back, but a proxy must not be wrong for ever.
const DEAD_FOR: Duration = Duration::from_secs(3_600);
/// JSON error code "Unknown Webhook".
const UNKNOWN_WEBHOOK: u32 = 10_015;

/// See the module's documentation.
pub(super) struct Guards {
    breaker: Breaker,
    invalid: Invalid,
    dead: KeyMap<Dead>,
    /// Webhooks that were found dead.
    died: u64,
    offenders: Offenders,
    /// How much of the budget people were told to be spent, and whether it was all.
    told: Level,
    told_spent: bool,
}

/// What is known of a webhook that is gone.
#[derive(Clone, Copy)]
struct Dead {
    until: Instant,
    /// Its id, 0 if unknown.
    id: u64,
}

impl Guards {
    pub(super) fn new() -> Self {
        Self {
            breaker: Breaker::new(),
            invalid: Invalid::new(Instant::ZERO),
            dead: KeyMap::default(),
            died: 0,
            offenders: Offenders::new(),
            told: Level::Calm,
            told_spent: false,
        }
    }

    /// Whether an answer to a permit that is no probe is of interest here.
    pub(super) fn concerns(permit: &Permit, answer: &Answer) -> bool {
        let dead =
            answer.status == 404 && answer.code == UNKNOWN_WEBHOOK && permit.is(Permit::WEBHOOK);
        dead || matches!(answer.status, 401 | 403 | 429)
    }

    /// Takes in an answer; `true`: requests must ask from now on.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        permit: &Permit,
        answer: &Answer,
        out: &mut Outputs,
    ) -> bool {
        let probe = permit.is(Permit::PROBE);
        if answer.limited() == Limited::Cloudflare {
            if let Some(wait) = self.breaker.blocked(now, answer.retry_after(), probe) {
                let again = self.breaker.blocks() > 1;
                out.notices.push(Notice::Blocked { wait, again });
            }
        } else if probe && !self.breaker.is_open() {
            self.breaker.answered();
            out.notices.push(Notice::Unblocked);
        }
        if answer.is_invalid() {
            self.invalid.count(now);
        }
        self.tell_of_budget(now, out);
        let offence = matches!(answer.status, 401 | 403).then_some(answer.status);
        // A 429 says nothing of whether the route is allowed, nor does a failing server.
        if offence.is_some() || !matches!(answer.status, 429 | 500..) {
            let level = self.level(now);
            self.offenders.answered(now, level, &permit.key, offence);
        }
        let webhook = permit.is(Permit::WEBHOOK) && answer.status == 404;
        if webhook && answer.code == UNKNOWN_WEBHOOK {
            if self.dead.len() >= DEAD_WEBHOOKS_MAX {
                self.dead.retain(|_, dead| dead.until > now);
            }
            if self.dead.len() < DEAD_WEBHOOKS_MAX {
                let (id, until) = (permit.user_id, now + DEAD_FOR);
                let known = self.dead.insert(permit.key.identity, Dead { until, id });
                if known.is_none_or(|known| known.until <= now) {
                    self.died += 1;
                    out.notices.push(Notice::WebhookDead {
                        id: (id != 0).then_some(id),
                        wait: DEAD_FOR,
                    });
                }
            }
        }
        self.have_a_say(now)
    }

    /// Tells people when a further threshold of the budget is reached, and when it is calm again; what
    /// goes up and down between is no news.
    fn tell_of_budget(&mut self, now: Instant, out: &mut Outputs) {
        let invalid = self.invalid.total(now);
        let level = Level::of(invalid);
        let percent = match level {
            Level::Calm => {
                if self.told > Level::Calm {
                    (self.told, self.told_spent) = (Level::Calm, false);
                    out.notices.push(Notice::BudgetCalm);
                }
                return;
            }
            Level::Wary => 10,
            Level::Strict => 50,
            Level::Last => 80,
        };
        if level > self.told {
            self.told = level;
            out.notices.push(Notice::Budget { percent, invalid });
        }
        if invalid >= BUDGET && !self.told_spent {
            self.told_spent = true;
            let percent = 100;
            out.notices.push(Notice::Budget { percent, invalid });
        }
    }

    /// The webhooks that are known to be gone.
    pub(super) fn dead_webhooks(&self, now: Instant) -> Vec<DeadWebhook> {
        let dead = self.dead.iter().filter(|(_, dead)| dead.until > now);
        let shown = dead.map(|(&key, dead)| DeadWebhook {
            key,
            id: (dead.id != 0).then_some(dead.id),
            left: dead.until.saturating_duration_since(now),
        });
        shown.collect()
    }

    /// Forgets that these webhooks are gone; how many were.
    pub(super) fn forget_webhooks(&mut self, now: Instant, which: Which) -> usize {
        let mut forgotten = 0;
        self.dead.retain(|&key, dead| {
            let is_it = dead.until > now && which.is(key, (dead.id != 0).then_some(dead.id));
            forgotten += usize::from(is_it);
            !is_it
        });
        forgotten
    }

    /// Cloudflare's block, if there is one.
    pub(super) fn block(&self, now: Instant) -> Option<Block> {
        (!self.breaker.is_open()).then(|| Block {
            left: locks::left(self.breaker.peek(now)),
            times: self.breaker.blocks(),
        })
    }

    /// Forgets Cloudflare's block; whether there was one.
    pub(super) fn forget_block(&mut self) -> bool {
        let blocked = !self.breaker.is_open();
        if blocked {
            self.breaker.answered();
        }
        blocked
    }

    /// Whether requests must ask.
    pub(super) fn have_a_say(&mut self, now: Instant) -> bool {
        !self.breaker.is_open() || !self.dead.is_empty() || self.level(now) > Level::Calm
    }

    /// Writes down what they know, from the `from`-th of both tables on, `batch` of each; and where to
    /// go on. What changes between two bites may be left out, or come twice.
    pub(super) fn keep(
        &mut self,
        base: Instant,
        from: u32,
        batch: u32,
        into: &mut Vec<Record>,
    ) -> Option<u32> {
        if from == 0 {
            into.extend(self.breaker.keep(base));
            self.invalid.keep(base, into);
        }
        let (skipped, taken) = (from as usize, batch as usize);
        let dead = self.dead.iter().skip(skipped).take(taken);
        into.extend(dead.map(|(&identity, dead)| {
            let left_us = left(base, dead.until);
            Record::DeadWebhook { identity, left_us }
        }));
        let offences = self.offenders.keep(base);
        into.extend(offences.skip(skipped).take(taken));
        let end = self.dead.len().max(self.offenders.len());
        (skipped + taken < end).then_some(from + batch)
    }

    /// Takes in what was written down; `true`: requests must ask from now on.
    pub(super) fn revive(&mut self, now: Instant, record: &Record, times: Times) -> bool {
        match *record {
            Record::Breaker { left_us, blocks } => self.breaker.revive(left_us, blocks, times),
            Record::Invalid { ago_us, count } => self.invalid.revive(now, ago_us, count, times),
            Record::DeadWebhook { identity, left_us } => {
                let until = times.until(left_us).min(now + DEAD_FOR);
                if until > now && self.dead.len() < DEAD_WEBHOOKS_MAX {
                    self.dead.insert(identity, Dead { until, id: 0 });
                }
            }
            Record::Offence(ref record) => self.offenders.revive(now, record, times),
            Record::Hint(_)
            | Record::Limit { .. }
            | Record::Identity(_)
            | Record::Bucket(_)
            | Record::Starts { .. }
            | Record::Started { .. }
            | Record::End { .. } => {}
        }
        self.have_a_say(now)
    }

    /// How careful one has to be.
    pub(super) fn level(&mut self, now: Instant) -> Level {
        Level::of(self.invalid.total(now))
    }

    /// A request outside of the limiter was answered with a 401.
    pub(super) fn count_invalid(&mut self, now: Instant) {
        self.invalid.count(now);
    }

    /// Whether a request need not even queue.
    pub(super) fn refuses(&mut self, now: Instant, ask: &Ask) -> Option<Refusal> {
        if let ClientClass::Webhook { id } = ask.client
            && let Some(refusal) = self.buried(now, ask.key.identity, id.unwrap_or(0))
        {
            return Some(refusal);
        }
        let level = self.level(now);
        self.budget(now)
            .or_else(|| match self.breaker.peek(now) {
                Passage::Open | Passage::Probe => None,
                Passage::Closed(retry_after) => Some(Refusal {
                    reason: Reason::Breaker,
                    retry_after,
                }),
            })
            .or_else(|| self.offenders.refuses(now, level, &ask.key))
    }

    /// If the webhook is known to be gone. `id`: its id, 0 if unknown.
    fn buried(&mut self, now: Instant, webhook: u64, id: u64) -> Option<Refusal> {
        let dead = self.dead.get_mut(&webhook)?;
        // It may have been restored, which has only its key.
        if id != 0 {
            dead.id = id;
        }
        let until = dead.until;
        if until <= now {
            self.dead.remove(&webhook);
            return None;
        }
        Some(Refusal {
            reason: Reason::DeadWebhook,
            retry_after: until.saturating_duration_since(now),
        })
    }

    /// A request is about to be sent.
    pub(super) fn pass(&mut self, now: Instant, permit: &mut Permit) -> Option<Refusal> {
        // Found out, or told of, while it waited.
        if permit.is(Permit::WEBHOOK)
            && let Some(refusal) = self.buried(now, permit.key.identity, permit.user_id)
        {
            return Some(refusal);
        }
        if let Some(refusal) = self.budget(now) {
            return Some(refusal);
        }
        let level = self.level(now);
        if let Some(refusal) = self.offenders.refuses(now, level, &permit.key) {
            return Some(refusal);
        }
        match self.breaker.pass(now) {
            Passage::Open => {}
            Passage::Probe => permit.flags |= Permit::PROBE,
            Passage::Closed(retry_after) => {
                return Some(Refusal {
                    reason: Reason::Breaker,
                    retry_after,
                });
            }
        }
        self.offenders.goes(now, level, &permit.key);
        None
    }

    /// How they stand, but for what the identities know.
    pub(super) fn stand(&mut self, now: Instant) -> Guarded {
        Guarded {
            invalid: self.invalid.total(now),
            invalid_max: BUDGET,
            blocked_for: self.breaker.blocked_for(now),
            webhooks_dead: self.dead.values().filter(|dead| dead.until > now).count(),
            webhooks_died: self.died,
            blocks: self.breaker.seen(),
            ..Guarded::default()
        }
    }

    pub(super) fn probe_lost(&mut self) {
        self.breaker.probe_lost();
    }

    pub(super) fn invalid(&mut self, now: Instant) -> u32 {
        self.invalid.total(now)
    }

    fn budget(&mut self, now: Instant) -> Option<Refusal> {
        let retry_after = self.invalid.spent(now)?;
        Some(Refusal {
            reason: Reason::Budget,
            retry_after,
        })
    }
}
