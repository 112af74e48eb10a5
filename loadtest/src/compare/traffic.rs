//! What is sent and answered in a comparison.
//!
//! Requests are `GET /api/v10/channels/{id}` of many bots over many channels: each takes the whole
//! way through weir, bucket and global window included. The answer is what Discord sends: 300 bytes
//! of JSON behind its rate-limit headers. The limits are so large that none holds anything back.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::demo::Bot;
use crate::load::{Plan, Recipe};
use crate::mock::clock::http_date;
use crate::mock::route::bot_id;

/// Bytes of an answer's body.
pub(super) const BODY_BYTES: usize = 300;

/// Bytes that TLS 1.3 adds to a record: its head, the type of its content, the tag.
pub(super) const RECORD_BYTES: usize = 5 + 1 + 16;

/// A global limit that no bot of a comparison reaches.
const GLOBAL_LIMIT: u32 = 50_000;

/// Bots of which one is chosen, where not all will do.
const CANDIDATES: u64 = 4;

/// Bots, and channels that each of them asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fleet {
    /// Bots.
    pub bots: u64,
    /// Channels of each.
    pub channels: u64,
}

impl Fleet {
    /// The usual fleet: 1024 buckets.
    pub(super) const USUAL: Self = Self {
        bots: 64,
        channels: 16,
    };
    /// A fleet of 10,000 buckets.
    pub(super) const LARGE: Self = Self {
        bots: 100,
        channels: 100,
    };

    /// Buckets that its requests fall into.
    pub(super) fn buckets(self) -> u64 {
        self.bots * self.channels
    }

    /// Its requests: bot after bot, so that neighbours share nothing.
    pub(super) fn plan(self) -> Plan {
        self.plan_of(|recipe| recipe)
    }

    /// Its requests, of so many bots whose `Authorization` is one that is `wanted`.
    pub(super) fn plan_for(self, wanted: impl Fn(&str) -> bool) -> Plan {
        let all = Bot::first(self.bots * CANDIDATES).into_iter();
        let wanted = all.filter(|bot| wanted(&bot.authorization()));
        self.plan_with(
            &wanted.take(self.bots as usize).collect::<Vec<_>>(),
            |recipe| recipe,
        )
    }

    /// Its requests, each changed by `change`.
    pub(super) fn plan_of(self, change: impl Fn(Recipe) -> Recipe) -> Plan {
        self.plan_with(&Bot::first(self.bots), change)
    }

    fn plan_with(self, bots: &[Bot], change: impl Fn(Recipe) -> Recipe) -> Plan {
        let mut recipes = Vec::new();
        for channel in 0..self.channels {
            recipes.extend(bots.iter().map(|bot| {
                change(Recipe {
                    path: format!("/api/v10/channels/{}", bot.channel(channel)),
                    authorization: bot.authorization(),
                    ..Recipe::default()
                })
            }));
        }
        Plan::mixed(recipes)
    }

    /// `BOT_RATELIMIT_OVERRIDES` that lets every bot send as much as it likes.
    pub(super) fn overrides(self) -> String {
        let mut text = String::new();
        for id in Bot::first(self.bots * CANDIDATES)
            .iter()
            .filter_map(|bot| bot_id(&bot.authorization()))
        {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{id}:{GLOBAL_LIMIT}");
        }
        text
    }
}

/// How the upstream answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Requests that a TLS connection lives for, half more or less; 0 for any number.
    pub life: u64,
    /// Bytes of an answer's body.
    pub body_bytes: usize,
    /// `X-RateLimit-Limit`.
    pub limit: u32,
    /// `X-RateLimit-Reset-After`.
    pub reset_after_ms: u64,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            life: 0,
            body_bytes: BODY_BYTES,
            limit: 10_000,
            reset_after_ms: 1000,
        }
    }
}

/// The body of an answer: JSON, if there is room for it.
pub(super) fn body(bytes: usize) -> String {
    let head = r#"{"id":"203039963636301824","type":0,"topic":""#;
    let tail = r#"","nsfw":false}"#;
    match bytes.checked_sub(head.len() + tail.len()) {
        Some(filler) => format!("{head}{}{tail}", "x".repeat(filler)),
        None => "1".repeat(bytes),
    }
}

/// The name of the bucket that every answer reports.
pub(super) const BUCKET: &str = "80c17d2f203122d936070c88c8d10f33";

/// The head of an answer at this time; as long at any time.
pub(super) fn head(unix_ms: u64, orders: &Orders) -> Vec<u8> {
    let Orders {
        body_bytes,
        limit,
        reset_after_ms,
        ..
    } = orders;
    let reset_ms = unix_ms + reset_after_ms;
    let date = http_date(unix_ms / 1000);
    format!(
        "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\n\
         Content-Length: {body_bytes}\r\nConnection: keep-alive\r\nVia: 1.1 google\r\n\
         X-RateLimit-Bucket: {BUCKET}\r\nX-RateLimit-Limit: {limit}\r\n\
         X-RateLimit-Remaining: {}\r\nX-RateLimit-Reset: {}.{:03}\r\n\
         X-RateLimit-Reset-After: {}.{:03}\r\n\r\n",
        limit.saturating_sub(10),
        reset_ms / 1000,
        reset_ms % 1000,
        reset_after_ms / 1000,
        reset_after_ms % 1000,
    )
    .into_bytes()
}

/// A whole answer at this time.
pub(super) fn answer(unix_ms: u64, orders: &Orders) -> Vec<u8> {
    let mut answer = head(unix_ms, orders);
    answer.extend_from_slice(body(orders.body_bytes).as_bytes());
    answer
}

/// The same answer, as the last of its connection.
pub(super) fn closing(answer: &[u8]) -> Vec<u8> {
    const STAYS: &[u8] = b"Connection: keep-alive";
    let Some(at) = memchr::memmem::find(answer, STAYS) else {
        return answer.to_vec();
    };
    let (before, after) = (&answer[..at], &answer[at + STAYS.len()..]);
    [before, b"Connection: close", after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_at_any_time() {
        let orders = Orders::default();
        let (now, later) = (1_763_791_234_005, 1_763_791_999_999);
        let (now, later) = (answer(now, &orders), answer(later, &orders));
        assert_eq!(now.len(), later.len());
        let body = || body(BODY_BYTES);
        assert!(now.ends_with(body().as_bytes()));
        assert_eq!(body().len(), BODY_BYTES);
        assert_eq!(super::body(7).len(), 7);
        let last = String::from_utf8(closing(&now)).unwrap();
        assert!(last.contains("\r\nConnection: close\r\nVia:") && last.ends_with(&body()));
        assert!(serde_json::from_str::<serde_json::Value>(&body()).is_ok());
    }

    #[test]
    fn every_bot_of_a_fleet_is_exempt_from_its_global_limit() {
        let overrides = Fleet::USUAL.overrides();
        assert_eq!(overrides.split(',').count(), 64 * CANDIDATES as usize);
        assert!(overrides.split(',').all(|one| one.ends_with(":50000")));
        assert_eq!(Fleet::LARGE.buckets(), 10_000);
    }
}
