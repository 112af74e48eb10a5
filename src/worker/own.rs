//! The few requests that weir makes itself, in the background, never in a request's way: whether a
//! token that drew a 401 is valid at all, and how large a bot's global limit is.
//!
//! Both use the `Authorization` of the request that gave rise to them and nothing else; it is
//! copied out of that request's head and gone with this one's.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::Worker;
use crate::clock;
use crate::error::{Error, Kind};
use crate::http1::{BodyTracker, Method, Parse, parse_request, parse_response};
use crate::identify::{Limits, PATIENCE};
use crate::io::Buf;
use crate::io::socket::Half;
use crate::limit::{ClientClass, Reason};
use crate::mesh::{self, Asked};
use crate::route;

use super::request::Request;

/// What Discord calls a client of weir's (Discord docs, reference: user agent).
pub(crate) const USER_AGENT: &str = concat!(
    "DiscordBot (https://crates.io/crates/weir, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// Largest body read of an answer here; `/gateway/bot` has 200 bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Asks `GET /users/@me` with the token of `flight`, the head of a request that drew a 401, and
/// tells the limiter whether it is valid. Without a clear answer nothing is told, and nothing
/// locked.
pub(super) fn confirm(worker: &Rc<Worker>, flight: &Buf, identity: u64) {
    let Some(authorization) = authorization(flight) else {
        return;
    };
    let worker = worker.clone();
    monoio::spawn(async move {
        match get(&worker, "/api/v10/users/@me", &authorization, None).await {
            Ok((status, _)) if status < 500 && status != 429 => {
                worker.local.confirmed(identity, status != 401);
            }
            Ok((status, _)) => tracing::debug!(status, "a token could not be confirmed"),
            Err(error) => tracing::debug!(%error, "a token could not be confirmed"),
        }
    });
}

/// Asks `GET /gateway/bot` for the bot of `request`, once: its `max_concurrency` tells how large the
/// bot is, and that its global limit.
pub(super) fn detect(worker: &Rc<Worker>, request: &Request, flight: &Buf) {
    if worker.process.config.disable_global_ratelimit_detection {
        return;
    }
    let ClientClass::Bot { user_id: Some(id) } = request.ask.client else {
        return;
    };
    let identity = request.ask.key.identity;
    if worker.is_overridden(id) || !worker.first_sight(identity) {
        return;
    }
    let Some(authorization) = authorization(flight) else {
        return;
    };
    let mut ask = request.ask;
    ask.key = worker.gateway_key(identity);
    ask.serial = false;
    ask.max_wait = None;
    let worker = worker.clone();
    monoio::spawn(async move {
        let grant = match worker.local.ask(clock::now(), ask) {
            Asked::Go(grant) => grant,
            Asked::Wait(mut waiting) => match waiting.verdict().await {
                Ok(grant) => grant,
                Err(_) => return,
            },
            Asked::Refuse(_) => return,
        };
        let answer = get(&worker, "/api/v10/gateway/bot", &authorization, Some(grant)).await;
        match answer {
            Ok((200, body)) => {
                if let Some(limit) = global_limit(&body) {
                    tracing::debug!(bot = id, limit, "global limit found out");
                    worker.local.set_global_limit(identity, limit);
                }
            }
            Ok((status, _)) => tracing::debug!(bot = id, status, "global limit not found out"),
            Err(error) => tracing::debug!(bot = id, %error, "global limit not found out"),
        }
    });
}

/// Why nothing is known of a bot.
pub(super) enum Unknown {
    /// There is no token to ask with.
    NoToken,
    /// Its limits do not let the question through.
    Limited(Reason),
    /// Discord answered something else.
    Status(u16),
    /// The answer is not what Discord documents.
    Answer,
    /// There was no answer.
    Failed(Error),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("there is no token to ask with"),
            Self::Limited(reason) => {
                write!(f, "its limits do not let the question through: {reason:?}")
            }
            Self::Status(status) => write!(f, "Discord answered {status}"),
            Self::Answer => f.write_str("Discord's answer is not what it documents"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Asks `GET /gateway/bot` how often a bot may IDENTIFY; by the way, how large its global limit is.
///
/// # Errors
/// See [`Unknown`].
pub(super) async fn session_start_limit(
    worker: &Rc<Worker>,
    identity: u64,
    authorization: &[u8],
) -> Result<Limits, Unknown> {
    let user_id = match route::identity::parse(Some(authorization)).kind {
        route::identity::Kind::Bot { user_id } => user_id,
        _ => None,
    };
    let ask = mesh::Request {
        key: worker.gateway_key(identity),
        client: ClientClass::Bot { user_id },
        counts_globally: true,
        serial: false,
        max_wait: Some(PATIENCE),
    };
    let grant = match worker.local.ask(clock::now(), ask) {
        Asked::Go(grant) => Ok(grant),
        Asked::Wait(mut waiting) => waiting.verdict().await,
        Asked::Refuse(refusal) => Err(refusal),
    };
    let grant = grant.map_err(|refusal| Unknown::Limited(refusal.reason))?;
    let answer = get(worker, "/api/v10/gateway/bot", authorization, Some(grant)).await;
    let (status, body) = answer.map_err(Unknown::Failed)?;
    if status != 200 {
        return Err(Unknown::Status(status));
    }
    let config = &worker.process.config;
    let overridden = user_id.is_none_or(|id| worker.is_overridden(id));
    if !config.disable_global_ratelimit_detection
        && !overridden
        && worker.first_sight(identity)
        && let Some(limit) = global_limit(&body)
    {
        worker.local.set_global_limit(identity, limit);
    }
    limits(&body).ok_or(Unknown::Answer)
}

/// The `session_start_limit` of a `/gateway/bot` (Discord docs, "Session Start Limit Object").
fn limits(body: &[u8]) -> Option<Limits> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let limit = body.get("session_start_limit")?;
    let number = |name| limit.get(name)?.as_u64();
    let small = |name| u32::try_from(number(name)?).ok();
    Some(Limits {
        max_concurrency: small("max_concurrency")?,
        total: small("total")?,
        remaining: small("remaining")?,
        reset_after: Duration::from_millis(number("reset_after")?),
    })
}

/// Requests a second that a bot of this `/gateway/bot` may send, unpublished and guessed as
/// nirn-proxy does: 50 with a `max_concurrency` of 1, else 25 for each, at least 500.
fn global_limit(body: &[u8]) -> Option<u32> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let concurrency = body
        .get("session_start_limit")?
        .get("max_concurrency")?
        .as_u64()?;
    match u32::try_from(concurrency).ok()? {
        0 => None,
        1 => Some(50),
        more => Some(
            more.saturating_mul(25)
                .clamp(500, crate::config::bounds::GLOBAL_LIMIT_MAX),
        ),
    }
}

/// The `Authorization` of an encoded head.
fn authorization(flight: &Buf) -> Option<Vec<u8>> {
    match parse_request(flight.as_slice()) {
        Parse::Complete(head) => head.authorization.map(<[u8]>::to_vec),
        Parse::Partial | Parse::Invalid(_) => None,
    }
}

/// One GET over a pooled connection. With a grant, the limiter is told the answer.
async fn get(
    worker: &Rc<Worker>,
    path: &str,
    authorization: &[u8],
    mut grant: Option<mesh::Grant>,
) -> Result<(u16, Vec<u8>), Error> {
    let mut head = Vec::new();
    head.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: ").as_bytes());
    head.extend_from_slice(worker.upstream.authority());
    head.extend_from_slice(format!("\r\nUser-Agent: {USER_AGENT}\r\nAuthorization: ").as_bytes());
    head.extend_from_slice(authorization);
    head.extend_from_slice(b"\r\n\r\n");

    let mut lease = match worker.upstream.at_hand(clock::now()).await {
        Some(lease) => lease,
        None => {
            if let Some(grant) = &mut grant {
                grant.delayed();
            }
            worker.upstream.lease(false, || ()).await?
        }
    };
    let timeout = worker.process.config.request_timeout;
    let armed = worker
        .deadlines
        .arm_after(&lease.connection, Half::Both, timeout);
    let (mut sender, mut receiver) = lease.connection.split();
    sender.queue(&head)?;
    if let Some(grant) = &mut grant {
        grant.departs(clock::now(), true);
    }
    sender.flush().await.map_err(Error::exchanging)?;
    let (status, len, framing, keep_alive) = loop {
        if let Parse::Complete(head) = parse_response(receiver.plain().as_slice(), Method::Get) {
            if !head.is_interim() {
                if let Some(grant) = grant.take() {
                    let mut answer = crate::limit::Answer::new(head.status);
                    head.headers()
                        .for_each(|(name, value)| answer.header(name, value));
                    grant.report(&answer);
                }
                break (head.status, head.len, head.framing, head.keep_alive);
            }
            let len = head.len;
            receiver.plain().consume(len);
            continue;
        }
        if receiver.receive().await? == 0 {
            return Err(Error::new(Kind::ClosedBeforeAnswer));
        }
    };
    receiver.plain().consume(len);
    let mut tracker = BodyTracker::new(framing);
    let mut body = Vec::new();
    while !tracker.done() {
        let plain = receiver.plain();
        let bytes = plain.as_slice();
        let progress = tracker
            .decode(bytes, |range| body.extend_from_slice(&bytes[range]))
            .map_err(|_| Error::new(Kind::GarbageAnswer))?;
        plain.consume(progress.consumed);
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::new(Kind::GarbageAnswer));
        }
        if !tracker.done() && receiver.receive().await? == 0 {
            return Err(Error::new(Kind::BodyTruncated));
        }
    }
    drop(armed);
    if keep_alive {
        worker.upstream.give_back(lease, clock::now());
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_start_limit_is_read_whole_or_not_at_all() {
        let body = br#"{"url":"wss://a","shards":9,"session_start_limit":{"total":1000,"remaining":999,"reset_after":14400000,"max_concurrency":16}}"#;
        let expected = Limits {
            max_concurrency: 16,
            total: 1_000,
            remaining: 999,
            reset_after: Duration::from_secs(14_400),
        };
        assert_eq!(limits(body), Some(expected));
        for (from, to) in [
            ("\"total\"", "\"some\""),
            ("999", "-1"),
            ("16", "4294967296"),
            ("14400000", "1.5"),
            ("session_start_limit", "limit"),
            ("{", "["),
        ] {
            let odd = String::from_utf8_lossy(body).replacen(from, to, 1);
            assert_eq!(limits(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn the_global_limit_follows_from_max_concurrency() {
        let body = |concurrency: &str| {
            format!(r#"{{"session_start_limit":{{"max_concurrency":{concurrency}}}}}"#)
        };
        assert_eq!(global_limit(body("1").as_bytes()), Some(50));
        assert_eq!(global_limit(body("16").as_bytes()), Some(500));
        assert_eq!(global_limit(body("64").as_bytes()), Some(1600));
        for odd in ["0", "-1", "null", "\"x\"", "99999999999"] {
            assert_eq!(global_limit(body(odd).as_bytes()), None, "{odd}");
        }
        assert_eq!(global_limit(b"not JSON"), None);
    }
}
