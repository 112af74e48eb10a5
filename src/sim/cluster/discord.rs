//! What all nodes of a cluster send to: buckets of fixed windows and a global limit, for each token,
//! whoever sends.

use crate::clock::Instant;
use crate::limit::Answer;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Requests a second of one token. Few, so that it is met without many requests.
pub(super) const GLOBAL_LIMIT: usize = 12;
/// Requests of one bucket within [`WINDOW`].
const LIMIT: u16 = 5;
const WINDOW: Duration = Duration::from_secs(2);
const PERIOD: Duration = Duration::from_secs(1);

/// A refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Violation {
    pub(super) at: Instant,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Discord {
    buckets: HashMap<(u64, u64), (Instant, u16)>,
    globals: HashMap<u64, VecDeque<Instant>>,
    pub(super) violations: Vec<Violation>,
    pub(super) served: u64,
}

impl Discord {
    pub(super) fn request(&mut self, now: Instant, identity: u64, major: u64) -> Answer {
        let sent = self.globals.entry(identity).or_default();
        while sent.front().is_some_and(|at| *at + PERIOD <= now) {
            sent.pop_front();
        }
        if sent.len() >= GLOBAL_LIMIT {
            self.violations.push(Violation { at: now });
            let left = sent.front().map_or(PERIOD, |first| {
                (*first + PERIOD).saturating_duration_since(now)
            });
            let mut answer = status(429);
            answer.header(b"X-RateLimit-Global", b"true");
            answer.header(b"X-RateLimit-Scope", b"global");
            answer.header(b"Retry-After", b"1");
            let body = format!(
                r#"{{"message": "limited", "retry_after": {:.3}, "global": true}}"#,
                left.as_secs_f64()
            );
            answer.error_body(body.as_bytes());
            return answer;
        }
        sent.push_back(now);
        let (reset, used) = self.buckets.entry((identity, major)).or_insert((now, 0));
        if *reset <= now {
            (*reset, *used) = (now + WINDOW, 0);
        }
        let left = reset.saturating_duration_since(now);
        let limited = *used >= LIMIT;
        *used = (*used + 1).min(LIMIT);
        let (remaining, reset) = (LIMIT - *used, *reset);
        let mut answer = status(if limited { 429 } else { 200 });
        let epoch = reset.as_nanos() as f64 / 1e9;
        for (name, value) in [
            ("X-RateLimit-Bucket", "abcd".to_owned()),
            ("X-RateLimit-Limit", LIMIT.to_string()),
            ("X-RateLimit-Remaining", remaining.to_string()),
            ("X-RateLimit-Reset", format!("{epoch:.3}")),
            (
                "X-RateLimit-Reset-After",
                format!("{:.3}", left.as_secs_f64()),
            ),
        ] {
            answer.header(name.as_bytes(), value.as_bytes());
        }
        if limited {
            self.violations.push(Violation { at: now });
            answer.header(b"X-RateLimit-Scope", b"user");
            let whole = left.as_secs_f64().ceil();
            answer.header(b"Retry-After", format!("{whole}").as_bytes());
            let body = format!(
                r#"{{"message": "limited", "retry_after": {:.3}, "global": false}}"#,
                left.as_secs_f64()
            );
            answer.error_body(body.as_bytes());
        } else {
            self.served += 1;
        }
        answer
    }
}

fn status(status: u16) -> Answer {
    let mut answer = Answer::new(status);
    answer.header(b"Via", b"1.1 google");
    answer
}
