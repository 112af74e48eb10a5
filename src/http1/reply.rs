//! The answers weir makes itself, in the form that Discord's clients expect.
//!
//! discord.py and JDA take a 429 without `Via` for a ban by Cloudflare, others read
//! `retry_after` only from a body of type `application/json` exactly, and an integer
//! `Retry-After` only. `generated-by-proxy: true` tells these answers from Discord's.

use std::time::Duration;

use smallvec::SmallVec;

use super::encode::{ClientSide, Decimal, push_connection, push_line};
use super::{BadRequest, Version};

/// The answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Body bytes built on the stack; weir's own messages are a sentence.
const BODY_INLINE: usize = 512;

/// Room for the head of a reply: the longest is below 400 bytes, and 144 more with a request's id.
const HEAD_ROOM: usize = 512;

/// Whose limit a 429 speaks of (`X-RateLimit-Scope`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// This identity's bucket.
    User,
    /// This identity's requests in all.
    Global,
    /// A resource that others use up as well.
    Shared,
}

impl Scope {
    /// The header's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Global => "global",
            Self::Shared => "shared",
        }
    }
}

/// What a reply says.
#[derive(Clone, Copy, Debug)]
enum Body<'a> {
    /// An object as Discord's errors: message and code, or message and wait in a 429.
    Error { message: &'a str, code: u32 },
    /// JSON that is written already.
    Json(&'a [u8]),
    /// Plain UTF-8 text.
    Text(&'a str),
}

/// An answer of weir's own.
///
/// Built by [`Reply::error`], [`Reply::rate_limited`], [`Reply::json`] or [`Reply::text`]; it
/// closes the connection unless [`Reply::keep_alive`] says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    status: u16,
    body: Body<'a>,
    retry_after: Option<Duration>,
    scope: Option<Scope>,
    /// The realm that a proxy's client has to name itself for.
    realm: Option<&'a str>,
    /// What the request is called.
    request_id: Option<&'a str>,
    to: ClientSide,
}

impl<'a> Reply<'a> {
    /// `{"message": …, "code": 0}`
    pub const fn error(status: u16, message: &'a str) -> Self {
        Self::new(status, Body::Error { message, code: 0 })
    }

    /// A 429: `{"message": …, "retry_after": …, "global": …}` with all its headers.
    pub const fn rate_limited(message: &'a str, retry_after: Duration, scope: Scope) -> Self {
        let mut reply = Self::error(429, message);
        reply.retry_after = Some(retry_after);
        reply.scope = Some(scope);
        reply
    }

    /// The refusal of a request that could not be understood; closes the connection.
    pub const fn bad_request(bad: BadRequest) -> Reply<'static> {
        Reply::error(bad.status(), bad.message())
    }

    /// A body of JSON that is written already.
    pub const fn json(status: u16, body: &'a [u8]) -> Self {
        Self::new(status, Body::Json(body))
    }

    /// A body of plain text.
    pub const fn text(status: u16, body: &'a str) -> Self {
        Self::new(status, Body::Text(body))
    }

    const fn new(status: u16, body: Body<'a>) -> Self {
        let to = ClientSide {
            version: Version::Http11,
            keep_alive: false,
        };
        Self {
            status,
            body,
            retry_after: None,
            scope: None,
            realm: None,
            request_id: None,
            to,
        }
    }

    /// Discord's number for the error, instead of 0; only in a body built from a message.
    #[must_use]
    pub const fn code(mut self, number: u32) -> Self {
        if let Body::Error { message, .. } = self.body {
            self.body = Body::Error {
                message,
                code: number,
            };
        }
        self
    }

    /// When to try again: `Retry-After` in whole seconds, rounded up, at least 1.
    #[must_use]
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Whose limit it is; [`Scope::Global`] also sets the global marks of header and body.
    #[must_use]
    pub const fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Asks for name and password (RFC 7617), with a 407. `realm` has neither quotes nor backslashes.
    #[must_use]
    pub const fn challenge(mut self, realm: &'a str) -> Self {
        self.realm = Some(realm);
        self
    }

    /// What the request is called, if it has a name that [may be said](super::sane_request_id):
    /// `X-Request-Id`.
    #[must_use]
    pub const fn request_id(mut self, id: Option<&'a str>) -> Self {
        self.request_id = id;
        self
    }

    /// The version of the request; HTTP/1.1 if it could not be read.
    #[must_use]
    pub const fn version(mut self, version: Version) -> Self {
        self.to.version = version;
        self
    }

    /// Whether the connection stays open.
    #[must_use]
    pub const fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.to.keep_alive = keep_alive;
        self
    }

    /// The status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// Writes head and body; with `head_only`, for HEAD, the head that would precede the body.
    pub fn encode(&self, head_only: bool, out: &mut Vec<u8>) {
        let mut built = SmallVec::<[u8; BODY_INLINE]>::new();
        let (body, content_type): (&[u8], &[u8]) = match self.body {
            Body::Error { message, code } => {
                self.build_error(message, code, &mut built);
                (&built, b"application/json")
            }
            Body::Json(body) => (body, b"application/json"),
            Body::Text(text) => (text.as_bytes(), b"text/plain; charset=utf-8"),
        };
        out.reserve(HEAD_ROOM + body.len());
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(Decimal::new(self.status.into()).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(self.status).as_bytes());
        out.extend_from_slice(b"\r\n");
        push_line(out, b"Content-Type", content_type);
        push_line(
            out,
            b"Content-Length",
            Decimal::new(body.len() as u64).as_bytes(),
        );
        self.push_limit(out);
        if let Some(realm) = self.realm {
            out.extend_from_slice(b"Proxy-Authenticate: Basic realm=\"");
            out.extend_from_slice(realm.as_bytes());
            out.extend_from_slice(b"\", charset=\"UTF-8\"\r\n");
        }
        push_line(out, b"Via", b"1.1 weir");
        push_line(out, b"generated-by-proxy", b"true");
        if let Some(id) = self.request_id {
            push_line(out, b"X-Request-Id", id.as_bytes());
        }
        push_connection(out, self.to);
        out.extend_from_slice(b"\r\n");
        if !head_only {
            out.extend_from_slice(body);
        }
    }

    /// The headers about waiting.
    fn push_limit(&self, out: &mut Vec<u8>) {
        if let Some(wait) = self.retry_after {
            let rounded_up = wait
                .as_secs()
                .saturating_add(u64::from(wait.subsec_nanos() > 0));
            push_line(
                out,
                b"Retry-After",
                Decimal::new(rounded_up.max(1)).as_bytes(),
            );
            if self.status == 429 {
                push_line(out, b"X-RateLimit-Reset-After", &seconds(wait));
            }
        }
        if let Some(scope) = self.scope {
            push_line(out, b"X-RateLimit-Scope", scope.as_str().as_bytes());
            if scope == Scope::Global {
                push_line(out, b"X-RateLimit-Global", b"true");
            }
        }
    }

    fn build_error(&self, message: &str, code: u32, body: &mut SmallVec<[u8; BODY_INLINE]>) {
        body.extend_from_slice(b"{\"message\": ");
        push_json_string(body, message);
        match self.retry_after {
            Some(wait) if self.status == 429 => {
                body.extend_from_slice(b", \"retry_after\": ");
                body.extend_from_slice(&seconds(wait));
                let global = self.scope == Some(Scope::Global);
                body.extend_from_slice(b", \"global\": ");
                body.extend_from_slice(if global { &b"true"[..] } else { b"false" });
            }
            _ => {
                body.extend_from_slice(b", \"code\": ");
                body.extend_from_slice(Decimal::new(code.into()).as_bytes());
            }
        }
        body.push(b'}');
    }
}

/// Seconds with three decimals, rounded up: who waits that long is not too early.
fn seconds(wait: Duration) -> SmallVec<[u8; 32]> {
    let millis = wait.as_nanos().div_ceil(1_000_000);
    let whole = u64::try_from(millis / 1000).unwrap_or(u64::MAX);
    let fraction = (millis % 1000) as u16;
    let mut text = SmallVec::new();
    text.extend_from_slice(Decimal::new(whole).as_bytes());
    text.push(b'.');
    for digit in [fraction / 100, fraction / 10 % 10, fraction % 10] {
        text.push(b'0' + digit as u8);
    }
    text
}

/// Writes a JSON string (RFC 8259 7).
fn push_json_string(out: &mut SmallVec<[u8; BODY_INLINE]>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0..b' ' => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The reason phrase of a status that weir answers with; clients ignore it.
pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        429 => "Too Many Requests",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests;
