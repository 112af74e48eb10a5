//! What the model counted in a run.

use crate::clock::Instant;
use crate::sim::api::Refusal;
use std::collections::BTreeMap;

/// What the model counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// 429s by kind.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Requests that were counted.
    pub accepted: u64,
    /// When the first of them was.
    pub accepted_first: Option<Instant>,
    /// When the last of them was.
    pub accepted_last: Instant,
    /// Answers from Cloudflare.
    pub blocked: u64,
    /// 401s.
    pub unauthorized: u64,
    /// 403s.
    pub forbidden: u64,
    /// 5xx without headers.
    pub failed: u64,
    /// 401s to tokens that work.
    pub hiccups: u64,
    /// 404s of webhooks that do not exist.
    pub dead_webhooks: u64,
    /// The most invalid requests in any ten minutes.
    pub invalid_max: usize,
}

impl Tally {
    /// 429s of one kind.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(&why).copied().unwrap_or(0)
    }

    pub(in crate::sim) fn add(&mut self, other: &Self) {
        for (&why, n) in &other.refusals {
            *self.refusals.entry(why).or_default() += n;
        }
        self.accepted += other.accepted;
        self.blocked += other.blocked;
        self.unauthorized += other.unauthorized;
        self.forbidden += other.forbidden;
        self.failed += other.failed;
        self.hiccups += other.hiccups;
        self.dead_webhooks += other.dead_webhooks;
        self.invalid_max = self.invalid_max.max(other.invalid_max);
    }

    /// 429s of all kinds.
    pub fn limited(&self) -> u64 {
        self.refusals.values().sum()
    }

    /// 429s that should not have been.
    pub fn avoidable(&self) -> u64 {
        self.refused(Refusal::Avoidable) + self.refused(Refusal::Global)
    }
}
