//! Our limiter as the simulation drives it: called exactly as the workers call it, with one armed
//! deadline per shard.

use super::api::{Request, Token};
use super::subject::{Action, Asked, Fate, Restart, Subject};
use crate::clock::Instant;
use crate::limit::snapshot::{Copying, Seal, Snapshot};
use crate::limit::{
    Answer, Ask, BucketKey, Census, ClientClass, Decision, Limiter, Output, Outputs, Permit,
    Reason, Refusal, Settings, Ticket, Unlocked, Verdict,
};
use std::collections::HashMap;
use std::time::Duration;

/// See the module's documentation.
pub(super) struct Weir {
    limiter: Limiter<Unlocked>,
    out: Outputs,
    /// What is on the wire.
    permits: HashMap<u64, Permit>,
    armed: Vec<Instant>,
    /// 429s that are absorbed per request.
    retries_max: u32,
    /// Makes keys differ from run to run.
    salt: u64,
    settings: Settings,
    /// What the process's clock shows beyond the world's, nanoseconds: each process has its own.
    ahead: i64,
}

impl Weir {
    pub(super) fn new(settings: &Settings, shards: usize, salt: u64) -> Self {
        Self {
            limiter: Limiter::new(settings, shards),
            out: Outputs::new(),
            permits: HashMap::new(),
            armed: vec![Instant::FAR; shards],
            retries_max: 1,
            salt,
            settings: settings.clone(),
            ahead: 0,
        }
    }

    /// The time by the process's clock.
    const fn ours(&self, now: Instant) -> Instant {
        Instant::from_nanos(now.as_nanos().saturating_add_signed(self.ahead))
    }

    /// The time by the world's.
    const fn theirs(&self, at: Instant) -> Instant {
        Instant::from_nanos(at.as_nanos().saturating_add_signed(-self.ahead))
    }

    /// What was learned, written down.
    fn saved(&mut self, now: Instant) -> Vec<u8> {
        let seal = Seal {
            seeds: [self.salt; 4],
            probe: self.salt,
            saved_unix_ms: now.as_nanos() / 1_000_000,
            complete: true,
        };
        let mut bytes = Vec::new();
        let mut copying = Copying::begin(self.ours(now), &seal, &mut bytes);
        while copying.next(&self.limiter, &mut bytes) {}
        bytes
    }

    fn ask_of(&self, asked: &Asked) -> Ask {
        let Asked { request, route, .. } = asked;
        let of_path = self.salt ^ (request.bot << 32 | request.major).wrapping_mul(0x9e37_79b9);
        let (identity, client) = match route.token {
            Token::Bot => {
                let user_id = Some(request.bot);
                (self.salt ^ request.bot, ClientClass::Bot { user_id })
            }
            Token::Webhook => (of_path, ClientClass::Webhook { id: None }),
            Token::Interaction => (of_path, ClientClass::Interaction),
        };
        Ask {
            ticket: Ticket {
                worker: 0,
                slot: request.id as u32,
                generation: (request.id >> 32) as u32,
            },
            key: BucketKey {
                identity,
                major: request.major,
                route: self.salt.wrapping_add(request.route as u64),
            },
            client,
            counts_globally: route.token == Token::Bot,
            serial: route.serial,
            max_wait: request.max_wait,
        }
    }

    fn give_back(&mut self, id: u64) -> Permit {
        let permit = self.permits.remove(&id);
        permit.unwrap_or_else(|| panic!("one answer a permit: {id}"))
    }

    fn send(&mut self, id: u64, permit: Permit, actions: &mut Vec<Action>) {
        assert!(
            self.permits.insert(id, permit).is_none(),
            "one permit a request: {id}"
        );
        actions.push(Action::Send(id));
    }

    fn drain(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let id = |ticket: Ticket| u64::from(ticket.slot) | u64::from(ticket.generation) << 32;
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => self.send(id(ticket), permit, actions),
                Output::Refuse { ticket, refusal } => {
                    actions.push(Action::Refuse(id(ticket), told(&refusal)));
                }
                Output::Deadline { shard, at } => {
                    let at = self.theirs(at);
                    self.armed[shard] = self.armed[shard].min(at.max(now));
                }
                Output::Confirm { identity, key } => {
                    assert_eq!(identity, key.identity);
                    actions.push(Action::Confirm(identity ^ self.salt));
                }
            }
        }
    }
}

/// The wait that a refusal tells, unless it is for good.
fn told(refusal: &Refusal) -> Option<Duration> {
    let hopeless = matches!(refusal.reason, Reason::Unauthorized | Reason::DeadWebhook);
    (!hopeless).then_some(refusal.retry_after)
}

impl Subject for Weir {
    fn ask(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let Request { id, .. } = asked.request;
        match self
            .limiter
            .acquire(self.ours(now), &self.ask_of(asked), &mut self.out)
        {
            Decision::Go(permit) => self.send(id, permit, actions),
            Decision::Wait => {}
            Decision::Refuse(refusal) => actions.push(Action::Refuse(id, told(&refusal))),
        }
        self.drain(now, actions);
    }

    fn answered(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) -> Fate {
        let permit = self.give_back(asked.request.id);
        let absorbed = match answer.verdict() {
            Verdict::Pass => false,
            Verdict::Retry | Verdict::RetryShared => asked.sends <= self.retries_max,
        };
        if absorbed {
            let ask = self.ask_of(asked);
            self.limiter
                .requeue(self.ours(now), permit, answer, &ask, &mut self.out);
        } else {
            self.limiter
                .report(self.ours(now), permit, answer, &mut self.out);
        }
        self.drain(now, actions);
        if absorbed { Fate::Again } else { Fate::Client }
    }

    fn lost(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let permit = self.give_back(asked.request.id);
        self.limiter
            .no_answer(self.ours(now), permit, true, &mut self.out);
        self.drain(now, actions);
    }

    fn leaves(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let ask = self.ask_of(asked);
        self.limiter
            .cancel(self.ours(now), &ask.key, ask.ticket, &mut self.out);
        self.drain(now, actions);
    }

    fn confirmed(&mut self, now: Instant, bot: u64, valid: bool) {
        self.limiter
            .confirmed(self.ours(now), self.salt ^ bot, valid);
    }

    fn restart(&mut self, now: Instant, restart: &Restart) {
        const HOUR_NS: i64 = 3_600_000_000_000;
        assert!(self.permits.is_empty(), "nothing is under way");
        let saved = self.saved(now);
        // Another number of workers, another clock.
        let shards = self.armed.len() + 1;
        self.limiter = Limiter::new(&self.settings, shards);
        self.armed = vec![Instant::FAR; shards];
        self.out = Outputs::new();
        let then = now + restart.down;
        self.ahead = HOUR_NS - then.as_nanos() as i64;
        if restart.kept {
            let snapshot = Snapshot::open(&saved, |[salt, ..]| salt).expect("what was written");
            let unix_ms = then.as_nanos() / 1_000_000;
            snapshot.restore(&self.limiter, self.ours(then), unix_ms);
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for shard in 0..self.armed.len() {
            if self.armed[shard] <= now {
                self.limiter.tick(self.ours(now), shard, &mut self.out);
                let next = self.limiter.next_deadline(shard).map(|at| self.theirs(at));
                assert!(
                    next.is_none_or(|at| at > now),
                    "after a tick the next deadline lies ahead"
                );
                self.armed[shard] = next.unwrap_or(Instant::FAR);
                self.drain(now, actions);
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let next = self.armed.iter().min().copied();
        next.filter(|&at| at < Instant::FAR)
    }

    fn census(&self, now: Instant) -> Option<Census> {
        Some(self.limiter.census(self.ours(now)))
    }
}
