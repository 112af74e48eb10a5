//! One request as it is told of, and the two ways in which it is written.
//!
//! Every field stands in each line that it has a value for, in this order. Nothing here comes from a
//! body, a header or a path but the route's label and a request's id.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Utc;
use crate::http1::Method;
use crate::route::RouteText;
use crate::route::identity::Client;

/// What a request is called in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestId {
    /// What its client, or the node that it came by, calls it; it may be said.
    Given(Box<str>),
    /// What weir calls it.
    Made {
        /// Tells this process from others.
        process: u32,
        /// Tells the request from others of this process.
        number: u64,
    },
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(id) => f.write_str(id),
            Self::Made { process, number } => write!(f, "{process:08x}-{number:x}"),
        }
    }
}

/// Who answered a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Discord.
    Discord,
    /// Another node of the cluster: it has a line of its own, under the same id.
    Node,
    /// weir itself, in Discord's place.
    Weir,
    /// Nobody: its client did not stay, or its connection was cut.
    Nobody,
}

impl By {
    /// As it stands in a line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discord => "discord",
            Self::Node => "node",
            Self::Weir => "weir",
            Self::Nobody => "nobody",
        }
    }
}

/// One request that has ended.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it ended, in ms since 1970.
    pub at_unix_ms: u64,
    /// Its method.
    pub method: Method,
    /// Its route's label, as in the metrics: without ids and tokens.
    pub route: RouteText,
    /// What it was answered with, if anything.
    pub status: Option<u16>,
    /// By whom.
    pub by: By,
    /// Why not by Discord: the reason or kind that metrics count it under; empty if it was.
    pub why: &'static str,
    /// Whose it is.
    pub bot: Client,
    /// How long it waited for its limits.
    pub waited: Duration,
    /// From the sending of its last attempt to the head of its answer, if it was sent and answered.
    pub upstream: Option<Duration>,
    /// From the end of its head to the end of its answer.
    pub total: Duration,
    /// Bytes that were sent to its client, heads included.
    pub bytes: u64,
    /// How often it was sent again.
    pub retries: u32,
    /// Another node took it in and relayed it here.
    pub relayed: bool,
    /// What it is called.
    pub id: RequestId,
    /// Where its client is, if that is still known.
    pub from: Option<SocketAddr>,
}

impl Entry {
    /// Whether it ended without an answer, or with a status from 400 on.
    pub fn is_error(&self) -> bool {
        self.status.is_none_or(|status| status >= 400)
    }

    /// Writes it as `key=value`s, with the time in front if it is `timed`.
    pub fn write_text(&self, timed: bool, out: &mut String) {
        if timed {
            let _ = write!(out, "{}", Utc(self.at_unix_ms));
        }
        let _ = write!(
            out,
            " INFO access method={} route={}",
            self.method.as_str(),
            self.route.as_str()
        );
        if let Some(status) = self.status {
            let _ = write!(out, " status={status}");
        }
        let _ = write!(out, " by={}", self.by.as_str());
        if !self.why.is_empty() {
            let _ = write!(out, " why={}", self.why);
        }
        let _ = write!(out, " bot={} wait_ms={}", self.bot, Millis(self.waited));
        if let Some(upstream) = self.upstream {
            let _ = write!(out, " upstream_ms={}", Millis(upstream));
        }
        let _ = write!(
            out,
            " total_ms={} bytes={} retries={} relayed={} id={}",
            Millis(self.total),
            self.bytes,
            self.retries,
            self.relayed,
            self.id
        );
        if let Some(from) = self.from {
            let _ = write!(out, " from={}", Shown(from));
        }
        out.push('\n');
    }

    /// Writes it as one object of JSON.
    pub fn write_json(&self, out: &mut String) {
        let _ = write!(
            out,
            "{{\"timestamp\":\"{}\",\"level\":\"INFO\",\"message\":\"access\",\"method\":\"{}\",\"route\":",
            Utc(self.at_unix_ms),
            self.method.as_str()
        );
        push_json(out, self.route.as_str());
        if let Some(status) = self.status {
            let _ = write!(out, ",\"status\":{status}");
        }
        let _ = write!(out, ",\"by\":\"{}\"", self.by.as_str());
        if !self.why.is_empty() {
            let _ = write!(out, ",\"why\":\"{}\"", self.why);
        }
        let _ = write!(
            out,
            ",\"bot\":\"{}\",\"wait_ms\":{}",
            self.bot,
            Millis(self.waited)
        );
        if let Some(upstream) = self.upstream {
            let _ = write!(out, ",\"upstream_ms\":{}", Millis(upstream));
        }
        let _ = write!(
            out,
            ",\"total_ms\":{},\"bytes\":{},\"retries\":{},\"relayed\":{},\"id\":",
            Millis(self.total),
            self.bytes,
            self.retries,
            self.relayed
        );
        push_json(out, &self.id.to_string());
        if let Some(from) = self.from {
            let _ = write!(out, ",\"from\":\"{}\"", Shown(from));
        }
        out.push_str("}\n");
    }
}

fn push_json(out: &mut String, text: &str) {
    // A text can always be written.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// Milliseconds with three decimals.
struct Millis(Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

/// A client's address, an IPv4 one as such.
struct Shown(SocketAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.0.ip().to_canonical(), self.0.port()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::classify;

    fn entry() -> Entry {
        let mut route = RouteText::default();
        classify(
            b"GET",
            b"/api/v10/channels/203039963636301824/messages",
            0,
            &mut route,
        );
        Entry {
            at_unix_ms: 1_795_359_855_123,
            method: Method::Get,
            route,
            status: Some(200),
            by: By::Discord,
            why: "",
            bot: Client::Bot(392_827_169_497_284_619),
            waited: Duration::from_micros(1_500),
            upstream: Some(Duration::from_millis(42)),
            total: Duration::from_micros(43_751),
            bytes: 712,
            retries: 1,
            relayed: false,
            id: RequestId::Made {
                process: 0xc0ffee,
                number: 0x1f,
            },
            from: Some("[::ffff:10.0.0.7]:40000".parse().unwrap()),
        }
    }

    #[test]
    fn a_line_of_text_has_every_field_and_no_id_of_a_route() {
        let mut line = String::new();
        entry().write_text(true, &mut line);
        assert_eq!(
            line,
            "2026-11-22T15:04:15.123Z INFO access method=GET route=/channels/!/messages status=200 \
             by=discord bot=392827169497284619 wait_ms=1.500 upstream_ms=42.000 total_ms=43.751 \
             bytes=712 retries=1 relayed=false id=00c0ffee-1f from=10.0.0.7:40000\n"
        );
        let mut line = String::new();
        let none = Entry {
            status: None,
            by: By::Nobody,
            why: "client_gone",
            upstream: None,
            from: None,
            ..entry()
        };
        none.write_text(false, &mut line);
        assert!(
            line.starts_with(
                " INFO access method=GET route=/channels/!/messages by=nobody why=client_gone bot="
            ),
            "{line}"
        );
        assert!(line.ends_with("id=00c0ffee-1f\n"), "{line}");
        assert!(none.is_error() && !entry().is_error());
    }

    #[test]
    fn a_line_of_json_is_one_object_whatever_the_id_is() {
        let id = "a\"b\\c{}";
        let odd = Entry {
            id: RequestId::Given(id.into()),
            why: "bucket_full",
            by: By::Weir,
            ..entry()
        };
        let mut line = String::new();
        odd.write_json(&mut line);
        assert!(line.ends_with("}\n") && line.lines().count() == 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["id"], id);
        assert_eq!(read["bot"], "392827169497284619");
        assert_eq!(read["why"], "bucket_full");
        assert_eq!(read["status"], 200);
        assert_eq!(read["wait_ms"], 1.5);
        assert_eq!(read["timestamp"], "2026-11-22T15:04:15.123Z");
    }
}
