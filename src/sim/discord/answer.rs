//! How the model answers: statuses, limit headers and the bodies of refusals.

use crate::limit::Answer;
use crate::sim::api::Route;
use crate::sim::counter::State;
use crate::sim::seed::Seed;

const SECOND_NS: u64 = 1_000_000_000;

/// Writes the answers of one route.
pub(super) struct Writer<'a> {
    pub(super) route: &'a Route,
    /// What the server's clock shows.
    pub(super) server_ns: u64,
}

impl Writer<'_> {
    pub(super) fn status(&self, status: u16) -> Answer {
        let mut answer = Answer::new(status).in_milliseconds(self.route.old_version);
        answer.header(b"Via", b"1.1 google");
        answer
    }

    /// The limit headers of a bucket.
    pub(super) fn limits(&self, state: &State, answer: &mut Answer) {
        let reset_ns = self.server_ns + state.reset_after_ns;
        let seconds = |ns: u64| {
            if self.route.whole_seconds {
                ns.div_ceil(SECOND_NS).to_string()
            } else {
                format!("{:.3}", ns as f64 / SECOND_NS as f64)
            }
        };
        let name = format!("{:016x}", self.route.name);
        for (header, value) in [
            ("X-RateLimit-Bucket", name),
            ("X-RateLimit-Limit", state.limit.to_string()),
            ("X-RateLimit-Remaining", state.remaining.to_string()),
            ("X-RateLimit-Reset", seconds(reset_ns)),
            ("X-RateLimit-Reset-After", seconds(state.reset_after_ns)),
        ] {
            answer.header(header.as_bytes(), value.as_bytes());
        }
    }

    /// Limit headers that make no sense, over the true ones.
    pub(super) fn nonsense(&self, state: &State, answer: &mut Answer, seed: &mut Seed) {
        self.limits(state, answer);
        let more = (state.limit + 3).to_string();
        let past = format!("{:.3}", (self.server_ns / SECOND_NS - 3_600) as f64);
        let (header, value) = *seed.pick(&[
            ("X-RateLimit-Remaining", more.as_str()),
            ("X-RateLimit-Limit", "0"),
            ("X-RateLimit-Limit", "99999999999999999999"),
            ("X-RateLimit-Remaining", "-1"),
            ("X-RateLimit-Reset", past.as_str()),
            ("X-RateLimit-Reset", "0"),
            ("X-RateLimit-Reset-After", "-3.5"),
            ("X-RateLimit-Reset-After", "0"),
            ("X-RateLimit-Reset-After", "9e9"),
        ]);
        answer.header(header.as_bytes(), value.as_bytes());
    }

    /// A 429 that asks for a wait.
    pub(super) fn limited(&self, state: Option<&State>, wait_ns: u64, scope: &str) -> Answer {
        let mut answer = self.status(429);
        if let Some(state) = state {
            self.limits(state, &mut answer);
        }
        let (unit, in_body) = if self.route.old_version {
            (1_000_000, wait_ns as f64 / 1_000_000.0)
        } else {
            (SECOND_NS, wait_ns as f64 / SECOND_NS as f64)
        };
        let whole = wait_ns.div_ceil(unit).to_string();
        answer.header(b"X-RateLimit-Scope", scope.as_bytes());
        answer.header(b"Retry-After", whole.as_bytes());
        let body = format!(
            r#"{{"message": "You are being rate limited.", "retry_after": {in_body:.3}, "global": false}}"#
        );
        answer.error_body(body.as_bytes());
        answer
    }

    pub(super) fn limited_globally(&self) -> Answer {
        let mut answer = self.status(429);
        let (header, body): (&[u8], &[u8]) = if self.route.old_version {
            (
                b"500",
                br#"{"message": "limited", "retry_after": 500, "global": true}"#,
            )
        } else {
            (
                b"1",
                br#"{"message": "limited", "retry_after": 0.5, "global": true}"#,
            )
        };
        answer.header(b"Retry-After", header);
        answer.header(b"X-RateLimit-Global", b"true");
        answer.header(b"X-RateLimit-Scope", b"global");
        answer.error_body(body);
        answer
    }
}
