//! Discord's side of the rate limits: what a request is counted against and what it is told.
//!
//! Everything here is pure: time is an argument, in nanoseconds since the mock started. The rules
//! are written from what Discord documents and what its users observed, and share no code with
//! weir's limiter: an error made once must not be made twice, or the oracle would agree with it.
//!
//! Order of judgement: the global limit of the identity, the bucket, the limit that all identities
//! share, the limits that no header tells. What an earlier one granted stays spent when a later one
//! refuses, as a server that counts in stages would do it.

mod counter;
mod invalid;
mod rules;

pub use counter::{Quota, Take, View, Window};
pub use invalid::{Invalid, InvalidSettings};
pub use rules::{GlobalQuota, GlobalWindow, Hidden, LimitSettings, OpRule, Rule};

use std::collections::VecDeque;

use ahash::AHashMap;
use counter::Counter;
use serde::{Deserialize, Serialize};

/// Counters kept before idle ones are swept: 200,000 are about 10 MB and more than any scenario's
/// buckets in use within one window.
const COUNTERS_MAX: usize = 200_000;

/// Identities whose sends are remembered before idle ones are swept: more tokens than any scenario
/// uses, and each holds up to its limit in timestamps.
const IDENTITIES_MAX: usize = 20_000;

/// Why a request was refused with 429.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The identity sent more than its global limit allows.
    Global,
    /// The bucket of route and major parameter was exhausted.
    Bucket,
    /// A limit over all identities; no header foretold it.
    Shared,
    /// A limit on certain body fields; no header foretold it.
    Hidden,
    /// The address is banned for too many invalid requests.
    Cloudflare,
}

impl Cause {
    /// The value of `X-RateLimit-Scope`.
    pub fn scope(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Shared => "shared",
            Self::Bucket | Self::Hidden | Self::Cloudflare => "user",
        }
    }
}

/// What the limits need to know of one request.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Who sends: a hash of the token, or of the address without one.
    pub identity: u64,
    /// A hash of the major parameter, zero without one.
    pub major: u64,
    /// The global limit that binds the identity; `None` for interactions and webhooks.
    pub global: Option<GlobalQuota>,
    /// The rule of method and template.
    pub rule: &'a OpRule,
    /// Bit `i` is set when `rule.hidden[i]` concerns this body.
    pub hidden: u32,
}

/// What Discord decides about one request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Decision {
    /// The bucket as the headers show it; `None` when the global limit refused before.
    pub view: Option<View>,
    /// The refusal and the time until a retry can succeed, in nanoseconds.
    pub refused: Option<(Cause, u64)>,
}

/// All counters of one mock.
#[derive(Debug, Default)]
pub struct Limits {
    counters: AHashMap<(u64, u64, u64), Counter>,
    globals: AHashMap<u64, VecDeque<u64>>,
}

impl Limits {
    /// Counts one request that arrives at `now_ns`.
    pub fn decide(&mut self, now_ns: u64, demand: &Demand<'_>) -> Decision {
        if let Some(quota) = demand.global
            && let Err(wait) = self.take_global(now_ns, demand.identity, quota)
        {
            return Decision {
                view: None,
                refused: Some((Cause::Global, wait)),
            };
        }
        let rule = demand.rule;
        let key = (rule.counter, demand.identity, demand.major);
        let own = self.counter(now_ns, key).take(&rule.quota, now_ns);
        let refused = if own.granted {
            self.unannounced(now_ns, demand)
        } else {
            Some((Cause::Bucket, own.retry_after_ns))
        };
        Decision {
            view: Some(own.view),
            refused,
        }
    }

    /// Forgets everything, as after a pause longer than any window.
    pub fn clear(&mut self) {
        self.counters.clear();
        self.globals.clear();
    }

    /// How many counters are held; for tests of bounds.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether nothing is counted at present.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    fn unannounced(&mut self, now_ns: u64, demand: &Demand<'_>) -> Option<(Cause, u64)> {
        let rule = demand.rule;
        if let Some(quota) = &rule.shared {
            let key = (rule.counter ^ SHARED_SALT, 0, demand.major);
            let take = self.counter(now_ns, key).take(quota, now_ns);
            if !take.granted {
                return Some((Cause::Shared, take.retry_after_ns));
            }
        }
        for (i, hidden) in rule.hidden.iter().enumerate().take(32) {
            if demand.hidden & (1 << i) == 0 {
                continue;
            }
            let key = (
                rule.counter ^ (HIDDEN_SALT + i as u64),
                demand.identity,
                demand.major,
            );
            let take = self.counter(now_ns, key).take(&hidden.quota, now_ns);
            if !take.granted {
                return Some((Cause::Hidden, take.retry_after_ns));
            }
        }
        None
    }

    fn counter(&mut self, now_ns: u64, key: (u64, u64, u64)) -> &mut Counter {
        if self.counters.len() >= COUNTERS_MAX && !self.counters.contains_key(&key) {
            // A counter that is full again is the same as one never made.
            self.counters.retain(|_, c| !c.is_idle(now_ns));
            if self.counters.len() >= COUNTERS_MAX {
                self.counters.clear();
            }
        }
        self.counters.entry(key).or_default()
    }

    fn take_global(&mut self, now_ns: u64, identity: u64, quota: GlobalQuota) -> Result<(), u64> {
        let per_ns = quota.per_ms.saturating_mul(1_000_000);
        if self.globals.len() >= IDENTITIES_MAX {
            self.globals
                .retain(|_, sent| sent.back().is_some_and(|&t| t + per_ns > now_ns));
        }
        let sent = self.globals.entry(identity).or_default();
        match quota.window {
            // Any period of this length holds at most `limit` requests: the strictest reading.
            GlobalWindow::Sliding => {
                while sent.front().is_some_and(|&t| t + per_ns <= now_ns) {
                    sent.pop_front();
                }
            }
            // The first request opens a window; at its end all slots are free.
            GlobalWindow::Fixed => {
                if sent.front().is_some_and(|&t| t + per_ns <= now_ns) {
                    sent.clear();
                }
            }
        }
        if sent.len() >= quota.limit as usize {
            return Err(sent
                .front()
                .map_or(per_ns, |&t| (t + per_ns).saturating_sub(now_ns)));
        }
        sent.push_back(now_ns);
        Ok(())
    }
}

/// Tells the shared counter of a rule from its own.
const SHARED_SALT: u64 = 0x5348_4152_4544_0000;
/// Tells the hidden counters of a rule from its own.
const HIDDEN_SALT: u64 = 0x4849_4444_454e_0000;

#[cfg(test)]
mod tests;
