//! Answers as Discord's front sends them: one buffer, one write.
//!
//! ```text
//! HTTP/1.1 200 OK ─ Date ─ Content-Type ─ x-ratelimit-* ─ Via, CF-RAY, … ─ length ─ blank ─ body
//! ```

use std::io::Write;

use super::body::Body;
use super::clock::http_date;
use super::coding::Coding;
use super::endpoint::Endpoint;
use super::http::Head;
use super::limits::Cause;
use super::objects::{self, MessageParts, Snowflakes, put};
use super::route::{Method, REQUEST_PARAM, is_id};
use super::world::{Outcome, Reply};

/// A body chosen with `/echo?bytes=N` is built in memory up to this size; `Download` streams.
const ECHO_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is left to do after the buffered part of an answer was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// So many bytes of the pattern follow, chunked or not.
    Pattern {
        /// How many.
        bytes: u64,
        /// Whether in chunks.
        chunked: bool,
    },
}

/// Writes answers; one a thread, so its buffers and its date are used again.
#[derive(Debug)]
pub struct Writer {
    body: Vec<u8>,
    date: String,
    date_s: u64,
    rays: u64,
    ids: Snowflakes,
}

/// What the form of one answer depends on.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The request's head.
    pub head: &'a Head,
    /// The request's body.
    pub body: &'a Body,
    /// The server's wall clock, in nanoseconds.
    pub unix_ns: u64,
    /// Whether `Connection: close` is announced.
    pub close: bool,
    /// Whether an error is compressed if the request allows it.
    pub compress_errors: bool,
}

impl Writer {
    /// A writer for thread number `worker`.
    pub fn new(worker: u64) -> Self {
        Self {
            body: Vec::with_capacity(4096),
            date: String::new(),
            date_s: 0,
            rays: 0x8f3a_0000_0000_0000 + (worker << 32),
            ids: Snowflakes::new(worker),
        }
    }

    /// Appends the answer to `out`.
    pub fn write(&mut self, out: &mut Vec<u8>, cx: Context<'_>, outcome: &Outcome) -> Rest {
        if outcome.answers.early_hints {
            out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n");
        }
        self.body.clear();
        let status = match &outcome.reply {
            Reply::Limited(Cause::Cloudflare, wait) => {
                self.write_ban(out, cx, outcome, *wait);
                return Rest::Nothing;
            }
            Reply::Limited(cause, wait) => {
                limited_body(&mut self.body, cx, *cause, *wait);
                429
            }
            Reply::Error(status, code, message) => {
                put!(self.body, r#"{{"message": "{message}", "code": {code}}}"#);
                *status
            }
            Reply::Serve(endpoint) => {
                self.endpoint_body(cx, *endpoint, outcome);
                endpoint.status(cx.head.target())
            }
        };
        self.start(out, cx, status);
        if let Some((view, bucket)) = &outcome.limit {
            put!(
                out,
                "x-ratelimit-bucket: {bucket}\r\nx-ratelimit-limit: {}\r\n\
                 x-ratelimit-remaining: {}\r\nx-ratelimit-reset: ",
                view.limit,
                view.remaining
            );
            put_seconds(out, cx.unix_ns + view.reset_after_ns + 500_000);
            out.extend_from_slice(b"\r\nx-ratelimit-reset-after: ");
            put_seconds(out, view.reset_after_ns + 500_000);
            out.extend_from_slice(b"\r\n");
        }
        if let Reply::Limited(cause, wait) = &outcome.reply {
            put!(out, "x-ratelimit-scope: {}\r\n", cause.scope());
            if *cause == Cause::Global {
                out.extend_from_slice(b"x-ratelimit-global: true\r\n");
            }
            let wait = if is_old_version(cx.head.target()) {
                wait / 1_000_000
            } else {
                seconds(*wait)
            };
            put!(out, "retry-after: {wait}\r\n");
        }
        self.marks(out);
        if outcome.reply == Reply::Serve(Endpoint::Download) {
            return download(out, cx);
        }
        let echo = outcome.reply == Reply::Serve(Endpoint::Echo);
        self.finish(out, cx, status, JSON, outcome.answers.chunked && !echo);
        Rest::Nothing
    }

    /// Appends an answer that a fault gives.
    pub fn write_injected(
        &mut self,
        out: &mut Vec<u8>,
        cx: Context<'_>,
        (status, headers, body, bare): (u16, &[(String, String)], &str, bool),
    ) {
        self.body.clear();
        self.body.extend_from_slice(body.as_bytes());
        self.start(out, cx, status);
        let typed = |name: &str| name.eq_ignore_ascii_case("content-type");
        for (name, value) in headers.iter().filter(|(name, _)| !typed(name)) {
            put!(out, "{name}: {value}\r\n");
        }
        if !bare {
            self.marks(out);
        }
        let kind = headers.iter().find(|(name, _)| typed(name));
        self.finish(
            out,
            cx,
            status,
            kind.map_or(JSON, |(_, value)| value),
            false,
        );
    }

    /// Appends JSON for a control request.
    pub fn write_control(&mut self, out: &mut Vec<u8>, cx: Context<'_>, status: u16, json: &[u8]) {
        self.body.clear();
        self.body.extend_from_slice(json);
        self.start(out, cx, status);
        self.finish(out, cx, status, JSON, false);
    }

    fn start(&mut self, out: &mut Vec<u8>, cx: Context<'_>, status: u16) {
        let unix_ns = cx.unix_ns;
        let now_s = unix_ns / 1_000_000_000;
        if now_s != self.date_s {
            (self.date, self.date_s) = (http_date(now_s), now_s);
        }
        put!(
            out,
            "HTTP/1.1 {status} {}\r\nDate: {}\r\n",
            reason(status),
            self.date
        );
        if let Some(number) = request_number(cx.head.target()) {
            put!(out, "{REQUEST_HEADER}: {number}\r\n");
        }
    }

    /// What shows that Discord answered, and not only its front.
    fn marks(&mut self, out: &mut Vec<u8>) {
        self.rays += 1;
        put!(
            out,
            "via: 1.1 google\r\nalt-svc: h3=\":443\"; ma=86400\r\nCF-Cache-Status: DYNAMIC\r\n\
             strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n\
             x-content-type-options: nosniff\r\n\
             set-cookie: __cfruid=mock; path=/; domain=.discord.com; HttpOnly; Secure\r\n\
             Server: cloudflare\r\nCF-RAY: {:x}-MCK\r\n",
            self.rays
        );
    }

    fn finish(
        &mut self,
        out: &mut Vec<u8>,
        cx: Context<'_>,
        status: u16,
        content_type: &str,
        chunked: bool,
    ) {
        if cx.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        if matches!(status, 204 | 304) {
            out.extend_from_slice(b"\r\n");
            return;
        }
        put!(out, "Content-Type: {content_type}\r\n");
        let accepted = Coding::accepted(cx.head.accept_encoding());
        if let Some(coding) = accepted.filter(|_| cx.compress_errors && status >= 400) {
            self.body = coding.encode(&self.body);
            put!(out, "Content-Encoding: {}\r\n", coding.name());
        }
        let has_body = cx.head.method != Method::Head;
        if chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            if has_body && !self.body.is_empty() {
                put!(out, "{:x}\r\n", self.body.len());
                out.extend_from_slice(&self.body);
                out.extend_from_slice(b"\r\n");
            }
            if has_body {
                out.extend_from_slice(b"0\r\n\r\n");
            }
            return;
        }
        put!(out, "Content-Length: {}\r\n\r\n", self.body.len());
        if has_body {
            out.extend_from_slice(&self.body);
        }
    }

    /// The ban's answer: Cloudflare's alone, so without `Via`.
    fn write_ban(&mut self, out: &mut Vec<u8>, cx: Context<'_>, outcome: &Outcome, wait_ns: u64) {
        self.start(out, cx, 429);
        let ban = outcome.ban;
        if ban.retry_after {
            put!(out, "retry-after: {}\r\n", seconds(wait_ns));
        }
        let page: &[u8] = if ban.html {
            b"<!DOCTYPE html><html><head><title>Access denied | discord.com used Cloudflare to \
              restrict access</title></head><body>You are being blocked. Error 1015</body></html>"
        } else {
            b"error code: 1015"
        };
        self.body.extend_from_slice(page);
        let kind = if ban.html {
            "text/html; charset=UTF-8"
        } else {
            "text/plain; charset=UTF-8"
        };
        out.extend_from_slice(b"Server: cloudflare\r\n");
        self.finish(out, cx, 429, kind, false);
    }

    fn endpoint_body(&mut self, cx: Context<'_>, endpoint: Endpoint, outcome: &Outcome) {
        let out = &mut self.body;
        let target = cx.head.target();
        let unix_ms = cx.unix_ns / 1_000_000;
        let nth = |n| nth_id(target, n);
        match endpoint {
            Endpoint::User => objects::user(out, or(nth(0), outcome.bot_id)),
            Endpoint::Application => objects::application(out, outcome.bot_id),
            Endpoint::Gateway => objects::gateway(out),
            Endpoint::GatewayBot => objects::gateway_bot(out, &outcome.gateway),
            Endpoint::Channel => objects::channel(out, nth(0)),
            Endpoint::Message | Endpoint::Execute => {
                let hook = target.contains("/webhooks/");
                let parts = MessageParts {
                    id: or(nth(1), self.ids.next(unix_ms)),
                    channel_id: if hook { 0 } else { nth(0) },
                    author_id: outcome.bot_id,
                    webhook_id: if hook { nth(0) } else { 0 },
                };
                objects::message(out, parts, cx.body);
            }
            Endpoint::Callback => {
                let parts = MessageParts {
                    id: self.ids.next(unix_ms),
                    channel_id: 0,
                    author_id: outcome.bot_id,
                    webhook_id: 0,
                };
                put!(
                    out,
                    r#"{{"interaction":{{"id":"{}","type":2,"response_message_id":"{}","response_message_loading":false,"response_message_ephemeral":false}},"resource":{{"type":4,"message":"#,
                    nth(0),
                    parts.id
                );
                objects::message(out, parts, cx.body);
                out.extend_from_slice(b"}}");
            }
            Endpoint::Messages => {
                out.push(b'[');
                let (channel_id, author_id) = (nth(0), outcome.bot_id);
                let id = self.ids.next(unix_ms);
                let parts = MessageParts {
                    id,
                    channel_id,
                    author_id,
                    webhook_id: 0,
                };
                objects::message(out, parts, cx.body);
                out.push(b']');
            }
            Endpoint::Users => {
                out.push(b'[');
                objects::user(out, outcome.bot_id);
                out.push(b']');
            }
            Endpoint::Guild => objects::guild(out, nth(0)),
            Endpoint::Member => objects::member(out, or(nth(1), outcome.bot_id)),
            Endpoint::Members => {
                out.push(b'[');
                objects::member(out, outcome.bot_id);
                out.push(b']');
            }
            Endpoint::Webhook => {
                let token = target.split(['/', '?']).skip_while(|s| !is_id(s)).nth(1);
                objects::webhook(out, nth(0), token.unwrap_or("mock-token"));
            }
            Endpoint::List => out.extend_from_slice(b"[]"),
            Endpoint::Object => put!(out, r#"{{"id":"{}"}}"#, self.ids.next(unix_ms)),
            Endpoint::Echo => echo(out, cx),
            Endpoint::NoContent | Endpoint::Download => {}
        }
    }
}

/// Says again what the sender called its request.
pub const REQUEST_HEADER: &str = "x-mock-request";

/// What a sender calls its request, in digits.
fn request_number(target: &str) -> Option<&str> {
    let query = target.split_once('?')?.1;
    let mut pairs = query.split('&');
    let number = pairs.find_map(|pair| pair.strip_prefix(REQUEST_PARAM)?.strip_prefix('='))?;
    number.bytes().all(|b| b.is_ascii_digit()).then_some(number)
}

/// What Discord's own answers are.
const JSON: &str = "application/json";

fn or(id: u64, default: u64) -> u64 {
    if id == 0 { default } else { id }
}

/// The `n`-th id of a target, zero without.
fn nth_id(target: &str, n: usize) -> u64 {
    target
        .split(['/', '?'])
        .filter(|s| is_id(s))
        .nth(n)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0)
}

fn is_old_version(target: &str) -> bool {
    target.starts_with("/api/v6/") || target.starts_with("/api/v7/")
}

fn limited_body(out: &mut Vec<u8>, cx: Context<'_>, cause: Cause, wait_ns: u64) {
    let shared = cause == Cause::Shared;
    let whose = if shared { "The resource is" } else { "You are" };
    put!(
        out,
        r#"{{"message": "{whose} being rate limited.", "retry_after": "#
    );
    if is_old_version(cx.head.target()) {
        put!(out, "{}", wait_ns.div_ceil(1_000_000));
    } else {
        put_seconds(out, wait_ns + 999_999);
    }
    put!(out, r#", "global": {}"#, cause == Cause::Global);
    if shared {
        out.extend_from_slice(br#", "code": 40062"#);
    }
    out.push(b'}');
}

fn echo(out: &mut Vec<u8>, cx: Context<'_>) {
    let query = cx.head.target().split_once('?').map_or("", |(_, q)| q);
    if let Some(n) = query
        .split('&')
        .find_map(|p| p.strip_prefix("bytes=")?.parse::<u64>().ok())
    {
        out.resize(usize::try_from(n.min(ECHO_BYTES_MAX)).unwrap_or(0), b'x');
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(cx.head.raw()).is_ok();
    let headers: Vec<(&str, String)> = request
        .headers
        .iter()
        .filter(|_| parsed)
        .map(|h| (h.name, String::from_utf8_lossy(h.value).into_owned()))
        .collect();
    let echo = serde_json::json!({
        "method": cx.head.method.as_str(),
        "target": cx.head.target(),
        "headers": headers,
        "body_bytes": cx.body.bytes,
        "body_sha256": cx.body.sha256(),
        "body": String::from_utf8_lossy(&cx.body.json[..cx.body.json.len().min(4096)]),
    });
    out.extend_from_slice(echo.to_string().as_bytes());
}

fn download(out: &mut Vec<u8>, cx: Context<'_>) -> Rest {
    let query = cx.head.target().split_once('?').map_or("", |(_, q)| q);
    let number = |name: &str| {
        query
            .split('&')
            .find_map(|p| p.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let bytes = number("bytes").unwrap_or(0);
    let chunked = number("chunked") == Some(1);
    if cx.close {
        out.extend_from_slice(b"Connection: close\r\n");
    }
    out.extend_from_slice(b"Content-Type: application/octet-stream\r\n");
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    } else {
        put!(out, "Content-Length: {bytes}\r\n\r\n");
    }
    if cx.head.method == Method::Head {
        return Rest::Nothing;
    }
    Rest::Pattern { bytes, chunked }
}

fn seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

/// Seconds with three decimals, cut after them.
fn put_seconds(out: &mut Vec<u8>, ns: u64) {
    put!(out, "{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1000);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests;
