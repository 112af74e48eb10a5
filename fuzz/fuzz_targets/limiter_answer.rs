//! Answers that a few digits choose, with headers as they come from the network.

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::Answer;

/// Waits and windows, milliseconds. Longer ones only make the end of a run longer.
const TIMES_MS: [u64; 8] = [0, 1, 250, 1_000, 5_000, 60_000, 600_000, 333];
/// Unix time at the limiter's origin, by the server's clock.
const SERVER_MS: u64 = 1_700_000_000_000;

/// Choices by letters and digits. Blanks may separate them.
pub(crate) trait Digits {
    /// The next byte that is no blank.
    fn letter(&mut self) -> arbitrary::Result<u8>;
    /// A choice below `choices`: of a number that divides 48, each digit chooses itself.
    fn digit(&mut self, choices: u8) -> arbitrary::Result<usize>;
}

impl Digits for Unstructured<'_> {
    fn letter(&mut self) -> arbitrary::Result<u8> {
        loop {
            let byte = u8::arbitrary(self)?;
            if byte != b' ' || self.is_empty() {
                return Ok(byte);
            }
        }
    }

    fn digit(&mut self, choices: u8) -> arbitrary::Result<usize> {
        Ok(usize::from(self.letter()? % choices))
    }
}

/// What kind of answer it is: [`Reply::answer`] has the list.
#[derive(Debug)]
pub(crate) struct Reply {
    kind: usize,
    bucket: usize,
    limit: usize,
    remaining: usize,
    reset_after: usize,
    retry_after: usize,
}

impl Arbitrary<'_> for Reply {
    fn arbitrary(u: &mut Unstructured<'_>) -> arbitrary::Result<Self> {
        Ok(Self {
            kind: u.digit(8)?,
            bucket: u.digit(4)?,
            limit: u.digit(6)?,
            remaining: u.digit(6)?,
            reset_after: u.digit(8)?,
            retry_after: u.digit(8)?,
        })
    }
}

impl Reply {
    /// The answer, had it been counted at `now`.
    pub(crate) fn answer(&self, now: Instant) -> Answer {
        let (status, scope, body) = match self.kind {
            0 => (200, "", ""),
            1 => (429, "user", "{}"),
            2 => (429, "shared", r#"{"code":40062}"#),
            3 => (429, "global", r#"{"global":true}"#),
            // Nothing of Discord in it: Cloudflare's.
            4 => (429, "", "error code: 1015"),
            5 => (401, "", r#"{"code":0}"#),
            6 => (404, "", r#"{"code":10015}"#),
            _ => (502, "", ""),
        };
        let mut answer = Answer::new(status);
        if status == 429 {
            let wait = Duration::from_millis(TIMES_MS[self.retry_after]);
            answer.header(b"Retry-After", seconds(wait).as_bytes());
        }
        if self.kind != 4 {
            answer.header(b"Via", b"1.1 google");
            answer.header(b"X-RateLimit-Scope", scope.as_bytes());
            self.limits(now, &mut answer);
        }
        answer.error_body(body.as_bytes());
        answer
    }

    fn limits(&self, now: Instant, answer: &mut Answer) {
        if self.bucket == 0 {
            return;
        }
        let reset_after = Duration::from_millis(TIMES_MS[self.reset_after]);
        let server = Duration::from_millis(SERVER_MS) + Duration::from_nanos(now.as_nanos());
        let limit = [0, 1, 2, 5, 30, 30_000][self.limit];
        let remaining = [0, 1, 2, 4, 29, 30_000][self.remaining];
        for (name, value) in [
            ("Bucket", self.bucket.to_string()),
            ("Limit", limit.to_string()),
            ("Remaining", remaining.to_string()),
            ("Reset-After", seconds(reset_after)),
            ("Reset", seconds(server + reset_after)),
        ] {
            answer.header(format!("X-RateLimit-{name}").as_bytes(), value.as_bytes());
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}
