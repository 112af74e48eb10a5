//! What an answer says about limits: its `X-RateLimit-*` headers, `Retry-After`, `Via`, and the
//! JSON body of an error.
//!
//! Every header of every answer passes through [`Answer::header`], so it rejects by length before it
//! compares. Values come from the network: what does not parse counts as absent, what
//! is absurd is clamped ([`PAUSE_MAX`], [`LIMIT_MAX`]). Nothing here can panic.

use crate::caseless::{begins, is};
use std::time::Duration;

/// No pause or window is believed to be longer. `/gateway/bot` once asked for 82,721 s
/// (discord-api-docs #8570), which a day covers.
pub const PAUSE_MAX: Duration = Duration::from_secs(86_400);
/// No limit is believed to be higher; Discord's known ones lie below 1,000.
pub const LIMIT_MAX: u16 = 30_000;
/// A 429 whose wait exceeds its bucket's `Reset-After` by more than this is not that bucket's: a
/// hidden limit spoke (discord-api-docs #1900, 2 per 10 min on a channel's name).
const SUB_LIMIT_EXCESS: Duration = Duration::from_secs(2);

/// Who a 429 is for (`X-RateLimit-Scope`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// Not said.
    #[default]
    None,
    /// This identity's bucket.
    User,
    /// This identity, all routes.
    Global,
    /// The resource, for everybody; does not count as invalid.
    Shared,
}

/// The limit headers of one answer, as far as they were present and made sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RateLimitHeaders {
    /// `X-RateLimit-Limit`, at least 1.
    pub limit: Option<u16>,
    /// `X-RateLimit-Remaining`.
    pub remaining: Option<u16>,
    /// `X-RateLimit-Reset`: Unix milliseconds by the server's clock.
    pub reset_ms: Option<u64>,
    /// `X-RateLimit-Reset-After`; more than [`PAUSE_MAX`] is not believed at all.
    pub reset_after: Option<Duration>,
    /// `X-RateLimit-Reset` is in whole seconds, as API v6 and v7 give them unless they are asked for
    /// milliseconds: it and `Reset-After` are rounded up, and their difference may be off by one.
    pub whole_seconds: bool,
    /// `X-RateLimit-Bucket`, hashed by [`bucket_hash`].
    pub bucket: Option<u64>,
    /// `X-RateLimit-Global: true`.
    pub global: bool,
    /// `X-RateLimit-Scope`.
    pub scope: Scope,
    /// `Retry-After`, as delta-seconds (milliseconds for API v6 and v7).
    pub retry_after: Option<Duration>,
    /// A `Via` header was present: the answer came from Discord, not from Cloudflare's edge.
    pub via: bool,
}

/// What a 429 means (DISCORD's table of 429s).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limited {
    /// Not a 429.
    No,
    /// The bucket is empty.
    User,
    /// A hidden limit of this one request's content; the bucket is not empty.
    SubLimit,
    /// The resource is limited for everybody.
    Shared,
    /// The identity's global limit.
    Global,
    /// Cloudflare blocks this egress address.
    Cloudflare,
    /// A 429 that names no wait (code 30046 and alike).
    Unexplained,
}

/// Whether a 429 may be absorbed and its request sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Hand the answer to the client.
    Pass,
    /// The limiter knows when the request may go again: give it to `Limiter::requeue`.
    Retry,
    /// As [`Verdict::Retry`], but others caused it (scope `shared`): only if `RETRY_SHARED`.
    RetryShared,
}

/// All that the limiter wants to know of one answer of the upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The limit headers.
    pub headers: RateLimitHeaders,
    /// `code` of the JSON error body, 0 if there is none.
    pub code: u32,
    /// `retry_after` of the JSON error body.
    pub body_retry_after: Option<Duration>,
    /// `global: true` in the JSON error body.
    pub body_global: bool,
    /// The error body was a JSON object, as Discord's own are.
    pub body_json: bool,
    /// Waits are in milliseconds (API v6 and v7).
    milliseconds: bool,
}

impl Answer {
    /// An answer of which only the status is known yet.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Says that the request used API v6 or v7, whose `Retry-After` and `retry_after` are in
    /// milliseconds. Call it before the headers.
    #[must_use]
    pub fn in_milliseconds(mut self, yes: bool) -> Self {
        self.milliseconds = yes;
        self
    }

    /// Takes in one response header; most are none of ours and are rejected by their length.
    #[inline]
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            3 if is(name, b"via") => self.headers.via = true,
            11 if is(name, b"retry-after") => {
                self.headers.retry_after = self.wait(decimal_micros(value));
            }
            17..=23 if begins(name, b"x-ratelimit-") => self.limit_header(&name[12..], value),
            _ => {}
        }
    }

    fn limit_header(&mut self, name: &[u8], value: &[u8]) {
        let headers = &mut self.headers;
        match name.len() {
            5 if is(name, b"limit") => headers.limit = count(value).filter(|&limit| limit > 0),
            5 if is(name, b"reset") => {
                headers.reset_ms = decimal_micros(value).map(|us| us / 1000);
                headers.whole_seconds = !value.contains(&b'.');
            }
            5 if is(name, b"scope") => {
                headers.scope = match value {
                    b"user" => Scope::User,
                    b"global" => Scope::Global,
                    b"shared" => Scope::Shared,
                    _ => Scope::None,
                };
            }
            6 if is(name, b"bucket") => {
                headers.bucket = (!value.is_empty()).then(|| bucket_hash(value));
            }
            6 if is(name, b"global") => headers.global = value.eq_ignore_ascii_case(b"true"),
            9 if is(name, b"remaining") => headers.remaining = count(value),
            11 if is(name, b"reset-after") => {
                let after = decimal_micros(value).map(Duration::from_micros);
                headers.reset_after = after.filter(|&after| after <= PAUSE_MAX);
            }
            _ => {}
        }
    }

    /// Takes in the body of an error answer (4xx), if it is small and complete.
    pub fn error_body(&mut self, body: &[u8]) {
        let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(body) else {
            return;
        };
        self.body_json = true;
        self.code = object
            .get("code")
            .and_then(serde_json::Value::as_u64)
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(0);
        self.body_global = object
            .get("global")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        let seconds = object
            .get("retry_after")
            .and_then(serde_json::Value::as_f64);
        let micros = seconds
            .filter(|s| *s >= 0.0)
            .map(|s| (s * 1e6).ceil() as u64);
        self.body_retry_after = self.wait(micros);
    }

    /// The wait that the answer asks for; the body's is finer than the header's.
    pub fn retry_after(&self) -> Option<Duration> {
        self.body_retry_after.or(self.headers.retry_after)
    }

    /// What kind of 429 this is.
    pub fn limited(&self) -> Limited {
        let headers = &self.headers;
        if self.status != 429 {
            return Limited::No;
        }
        let ours = headers.via
            || self.body_json
            || headers.limit.is_some()
            || headers.scope != Scope::None;
        if !ours {
            return Limited::Cloudflare;
        }
        if headers.global || self.body_global || headers.scope == Scope::Global {
            return Limited::Global;
        }
        let Some(wait) = self.retry_after() else {
            return Limited::Unexplained;
        };
        if headers.scope == Scope::Shared || matches!(self.code, 40062 | 20028) {
            return Limited::Shared;
        }
        let own_reset = headers.reset_after.unwrap_or(PAUSE_MAX);
        if headers.remaining.is_some_and(|n| n > 0) || wait > own_reset + SUB_LIMIT_EXCESS {
            return Limited::SubLimit;
        }
        Limited::User
    }

    /// Whether the request may be sent again instead of showing this answer to the client.
    pub fn verdict(&self) -> Verdict {
        match self.limited() {
            Limited::User | Limited::Global => Verdict::Retry,
            Limited::Shared => Verdict::RetryShared,
            Limited::No | Limited::SubLimit | Limited::Cloudflare | Limited::Unexplained => {
                Verdict::Pass
            }
        }
    }

    /// Whether Discord counts the answer towards the 10,000 invalid requests per 10 minutes.
    pub fn is_invalid(&self) -> bool {
        match self.status {
            401 | 403 => true,
            429 => self.limited() != Limited::Shared,
            _ => false,
        }
    }

    fn wait(&self, micros: Option<u64>) -> Option<Duration> {
        let micros = if self.milliseconds {
            micros.map(|us| us / 1000)
        } else {
            micros
        };
        micros.map(|us| Duration::from_micros(us).min(PAUSE_MAX))
    }
}

/// The number by which a bucket's name is known here: FNV-1a, so that what was learned can be
/// stored and read by another process.
pub fn bucket_hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn count(value: &[u8]) -> Option<u16> {
    let whole = decimal_micros(value)? / 1_000_000;
    Some(u16::try_from(whole).map_or(LIMIT_MAX, |n| n.min(LIMIT_MAX)))
}

/// Parses an unsigned decimal number into millionths, saturating; digits beyond the sixth round up,
/// so that a wait never gets shorter.
fn decimal_micros(value: &[u8]) -> Option<u64> {
    /// So many digits in front of the point are a number that cannot overflow as millionths.
    const SAFE_DIGITS: usize = 13;
    let value = value.trim_ascii();
    let mut number = 0u64;
    let mut whole = 0;
    while let Some(digit) = value.get(whole).copied().and_then(digit) {
        number = if whole < SAFE_DIGITS {
            number * 10 + digit
        } else {
            number.saturating_mul(10).saturating_add(digit)
        };
        whole += 1;
    }
    let millions = number.saturating_mul(1_000_000);
    let fraction = match &value[whole..] {
        [] if whole > 0 => return Some(millions),
        [b'.', fraction @ ..] if whole > 0 || !fraction.is_empty() => fraction,
        _ => return None,
    };
    let (fine, beyond) = fraction.split_at(fraction.len().min(6));
    let mut micros = 0;
    for &byte in fine {
        micros = micros * 10 + digit(byte)?;
    }
    for _ in fine.len()..6 {
        micros *= 10;
    }
    let mut rest = 0;
    for &byte in beyond {
        rest |= digit(byte)?;
    }
    let micros = micros + u64::from(rest > 0);
    Some(millions.saturating_add(micros))
}

fn digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(u64::from(digit))
}

#[cfg(test)]
mod tests;
