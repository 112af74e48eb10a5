//! The ban of an address that sends too many invalid requests.
//!
//! 10,000 answers of 401, 403 or 429 (scope `shared` does not count) within ten minutes close the
//! door for about an hour; the door is Cloudflare's, so its answers are not Discord's.

use std::collections::VecDeque;
use std::net::IpAddr;

use ahash::AHashMap;
use serde::{Deserialize, Serialize};

/// How the ban is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InvalidSettings {
    /// Invalid requests within the window that cause a ban.
    pub threshold: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// How long the ban lasts, in milliseconds.
    pub ban_ms: u64,
    /// Whether a banned answer carries `Retry-After` (it does not always).
    pub retry_after: bool,
    /// Whether a banned answer is a page of HTML, instead of one line of text.
    pub html: bool,
}

impl Default for InvalidSettings {
    fn default() -> Self {
        Self {
            threshold: 10_000,
            window_ms: 600_000,
            ban_ms: 3_600_000,
            retry_after: true,
            html: false,
        }
    }
}

/// Invalid requests of every address.
#[derive(Debug, Default)]
pub struct Invalid {
    sources: AHashMap<IpAddr, Source>,
}

#[derive(Debug, Default)]
struct Source {
    times_ns: VecDeque<u64>,
    banned_until_ns: u64,
}

impl Invalid {
    /// How long `source` is still banned at `now_ns`, in nanoseconds.
    pub fn banned_for(&self, source: IpAddr, now_ns: u64) -> Option<u64> {
        let until = self.sources.get(&source)?.banned_until_ns;
        (until > now_ns).then(|| until - now_ns)
    }

    /// Counts one invalid answer; true when it is the one that causes a ban.
    pub fn record(&mut self, settings: &InvalidSettings, source: IpAddr, now_ns: u64) -> bool {
        let window_ns = settings.window_ms.saturating_mul(1_000_000);
        let source = self.sources.entry(source).or_default();
        while source
            .times_ns
            .front()
            .is_some_and(|&t| t + window_ns <= now_ns)
        {
            source.times_ns.pop_front();
        }
        source.times_ns.push_back(now_ns);
        let banned = source.times_ns.len() >= settings.threshold.max(1) as usize;
        if banned {
            source.banned_until_ns = now_ns + settings.ban_ms.saturating_mul(1_000_000);
            source.times_ns.clear();
        }
        banned
    }

    /// The most invalid requests that any address has in its window.
    pub fn most(&self) -> usize {
        self.sources
            .values()
            .map(|s| s.times_ns.len())
            .max()
            .unwrap_or(0)
    }

    /// Lifts every ban and forgets every count.
    pub fn clear(&mut self) {
        self.sources.clear();
    }
}
