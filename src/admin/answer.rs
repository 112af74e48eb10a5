//! What a page answers, and the headers that every answer of the metrics port carries.
//!
//! A browser shows these pages beside whatever else it shows: it shall load nothing from anywhere else,
//! be framed by nobody, guess no type and keep nothing.

use std::borrow::Cow;
use std::time::Duration;

use crate::http1::reason;

/// No page loads anything, unless it says so.
const POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The headers of all answers, beside type, length and policy.
const STRICT: &str = "Cache-Control: no-store\r\n\
    Cross-Origin-Resource-Policy: same-origin\r\n\
    Referrer-Policy: no-referrer\r\n\
    X-Content-Type-Options: nosniff\r\n\
    X-Frame-Options: DENY\r\n\
    Connection: close\r\n";

/// An answer.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    /// What may be loaded, by whom: `Content-Security-Policy`.
    policy: Cow<'static, str>,
    /// Methods that a 405 names.
    allow: Option<String>,
    /// Seconds that a 429 asks to wait.
    retry_after: Option<u64>,
    /// A token is asked for.
    challenges: bool,
    body: Cow<'static, [u8]>,
}

impl Answer {
    /// A body of this type.
    pub(super) fn ok(content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            status: 200,
            content_type,
            policy: Cow::Borrowed(POLICY),
            allow: None,
            retry_after: None,
            challenges: false,
            body: body.into(),
        }
    }

    /// Text that is JSON.
    pub(super) fn json(body: String) -> Self {
        Self::ok("application/json", body.into_bytes())
    }

    /// A page for people, which may load what its policy says.
    pub(super) fn page(body: &'static [u8], policy: &'static str) -> Self {
        Self {
            policy: Cow::Borrowed(policy),
            ..Self::ok("text/html; charset=utf-8", body)
        }
    }

    /// Plain text.
    pub(super) fn text(body: impl Into<Cow<'static, [u8]>>) -> Self {
        Self::ok("text/plain; charset=utf-8", body)
    }

    /// `{"message": …, "code": 0}`, as everything that weir refuses.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "message": message, "code": 0 });
        Self {
            status,
            ..Self::json(body.to_string() + "\n")
        }
    }

    /// A 405 that names what is allowed.
    pub(super) fn not_allowed(allow: String) -> Self {
        let message = format!("only {allow} are served here");
        Self {
            allow: Some(allow),
            ..Self::error(405, &message)
        }
    }

    /// It is under way, and will be done (202).
    pub(super) fn accepted(self) -> Self {
        Self {
            status: 202,
            ..self
        }
    }

    /// When to try again.
    pub(super) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000);
        Self {
            retry_after: Some(u64::try_from(seconds).unwrap_or(u64::MAX)),
            ..self
        }
    }

    /// Asks for a bearer token (RFC 6750 3).
    pub(super) fn challenge(self) -> Self {
        Self {
            challenges: true,
            ..self
        }
    }

    /// Head and body; for HEAD the head alone.
    pub(super) fn encode(&self, head_only: bool) -> Vec<u8> {
        let (status, reason) = (self.status, reason(self.status));
        let (content_type, policy) = (self.content_type, &self.policy);
        let length = self.body.len();
        let allow = self.allow.as_ref();
        let allow = allow.map_or_else(String::new, |allow| format!("Allow: {allow}\r\n"));
        let wait = self.retry_after;
        let wait = wait.map_or_else(String::new, |wait| format!("Retry-After: {wait}\r\n"));
        let challenge = match self.challenges {
            true => "WWW-Authenticate: Bearer realm=\"weir\"\r\n",
            false => "",
        };
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\nContent-Security-Policy: {policy}\r\n{allow}{wait}{challenge}{STRICT}\r\n"
        );
        let mut out = head.into_bytes();
        if !head_only {
            out.extend_from_slice(&self.body);
        }
        out
    }
}
