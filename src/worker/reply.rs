//! Sending the answers that weir makes itself.

use std::io;
use std::time::Duration;

use super::Worker;
use super::conn::Client;
use crate::error::{Error, Kind};
use crate::http1::{Reply, Scope};
use crate::limit::{Reason, Refusal};

/// Sends `reply` behind whatever waits in the client's buffer.
pub(super) async fn send(
    worker: &Worker,
    client: &mut Client,
    reply: &Reply<'_>,
    head_only: bool,
) -> io::Result<()> {
    reply.encode(head_only, client.outbuf.writable());
    client.flush(worker).await
}

/// What a client is told of a refusal.
pub(super) fn refused(refusal: Refusal) -> Reply<'static> {
    let wait = refusal.retry_after;
    let limited = |scope, message| Reply::rate_limited(message, wait, scope);
    match refusal.reason {
        Reason::QueueFull => limited(
            Scope::User,
            "too many requests wait for this rate limit (MAX_WAITING_PER_BUCKET)",
        ),
        Reason::TooLong => limited(
            Scope::User,
            "the wait for this rate limit would be longer than allowed",
        ),
        Reason::Moved => limited(Scope::User, "You are being rate limited."),
        Reason::TooManyWaiting => {
            Reply::error(503, "too many requests wait (MAX_WAITING)").retry_after(wait)
        }
        Reason::TooManyTracked => {
            Reply::error(503, "too many rate limits are in use (MAX_BUCKETS)").retry_after(wait)
        }
        Reason::Draining => Reply::error(503, Kind::Draining.as_str()).retry_after(wait),
        Reason::Unauthorized => Reply::error(
            401,
            "Discord refused this token; it is asked again when the lock expires",
        ),
        Reason::DeadWebhook => Reply::error(404, "Unknown Webhook").code(10015),
        Reason::Breaker => limited(
            Scope::Global,
            "Cloudflare blocks this egress address for now",
        ),
        Reason::Budget => limited(
            Scope::Global,
            "this egress address is close to the 10,000 invalid requests that ban it",
        ),
        Reason::Forbidden => Reply::error(
            403,
            "Discord answers this with 403 again and again; it is asked again at pauses",
        )
        .retry_after(wait),
        Reason::Share => limited(
            Scope::User,
            "too many of the invalid requests that could ban this egress address came from here",
        ),
    }
}

/// What a client is told when the upstream gave no answer.
pub(super) fn failed(error: &Error) -> Reply<'static> {
    let reply = Reply::error(error.status().unwrap_or(502), error.kind.as_str());
    match error.kind {
        Kind::Draining => reply.retry_after(RESTART),
        _ => reply,
    }
}

/// When to try again at a weir that ends: restarted, it serves within a second.
pub(super) const RESTART: Duration = Duration::from_secs(1);
