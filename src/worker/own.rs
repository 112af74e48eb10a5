//! The few requests that weir makes itself, in the background, never in a request's way: whether a
//! token that drew a 401 is valid at all, and how large a bot's global limit is.
//!
//! Both use the `Authorization` of the request that gave rise to them and nothing else; it is
//! copied out of that request's head and gone with this one's.

use std::rc::Rc;

use super::Worker;
use crate::clock;
use crate::error::{Error, Kind};
use crate::http1::{BodyTracker, Method, Parse, parse_request, parse_response};
use crate::io::Buf;
use crate::io::socket::Half;
use crate::limit::ClientClass;
use crate::mesh::Asked;

use super::request::Request;

/// What Discord calls a client of weir's (Discord docs, reference: user agent).
const USER_AGENT: &str = concat!(
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
                if status == 401 {
                    tracing::warn!(
                        "Discord refuses a token; its requests get 401 from here until one is let through to try again"
                    );
                }
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
    let known = worker
        .process
        .config
        .bot_ratelimit_overrides
        .contains_key(&id);
    let identity = request.ask.key.identity;
    if known || !worker.first_sight(identity) {
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
    mut grant: Option<crate::mesh::Grant>,
) -> Result<(u16, Vec<u8>), Error> {
    let mut head = Vec::new();
    head.extend_from_slice(format!("GET {path} HTTP/1.1\r\nHost: ").as_bytes());
    head.extend_from_slice(worker.upstream.authority());
    head.extend_from_slice(format!("\r\nUser-Agent: {USER_AGENT}\r\nAuthorization: ").as_bytes());
    head.extend_from_slice(authorization);
    head.extend_from_slice(b"\r\n\r\n");

    let mut lease = match worker.upstream.at_hand().await {
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
        worker.upstream.give_back(lease);
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

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
