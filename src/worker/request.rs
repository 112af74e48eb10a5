//! A request as it is kept while it waits and is exchanged: everything that must outlive the
//! buffer its head arrived in, and nothing else.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Instant;
use crate::cluster::owner::{Course, RELAYS_MAX};
use crate::http1::{Framing, Hop, Method, RequestHead, Version};
use crate::io::Buf;
use crate::limit::ClientClass;
use crate::mesh;
use crate::route::identity::{Client, Kind};
use crate::route::{Identity, PathIdentity, RouteText, classify, identity, key};

use super::peers::{Origin, Peer};
use super::tale::Tale;
use super::{Worker, look};

/// A request between its head and its answer.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// What the limiter must know of it.
    pub(super) ask: mesh::Request,
    /// Whose it is, for the metrics.
    pub(super) sender: Client,
    /// Its route's label, for the metrics, and the label's key.
    pub(super) label: RouteText,
    pub(super) label_key: u64,
    /// Whether it speaks API v6 or v7, whose waits are in milliseconds (Discord docs, API versioning).
    pub(super) in_milliseconds: bool,
    /// When its head was complete.
    pub(super) began: Instant,
    /// What is told of it.
    pub(super) tale: Tale,
    /// Nanoseconds that it has waited for limits.
    pub(super) waited_nanos: Cell<u64>,
    /// Nanoseconds that attempts before the last took, of which another followed.
    pub(super) tried_nanos: Cell<u64>,
    /// Where it is from.
    pub(super) origin: Origin,
    /// How often nodes have relayed it.
    pub(super) relays: u8,
    /// The other node that owns its identity, unless it is to be served here all the same, or is counted for
    /// the address that it goes out from.
    pub(super) owner: Option<Rc<Peer>>,
}

impl Request {
    /// Takes from `head` what the exchange needs, and writes the head for the upstream into
    /// `flight`, which is empty.
    pub(super) fn new(
        worker: &Worker,
        head: &RequestHead<'_>,
        now: Instant,
        origin: Origin,
        flight: &mut Buf,
    ) -> Self {
        let mut text = RouteText::default();
        let unix_ms = worker.unix_ms(now);
        let route = classify(head.method_bytes, head.target, unix_ms, &mut text);
        let sender = identity::parse(head.authorization);
        let keys = &worker.process.keys;
        let bucket = keys.bucket_key(&route, &sender, head.method_bytes);
        let label_key = keys.label_key(route.label);
        let ask = mesh::Request {
            key: bucket,
            client: client_class(&route.identity, &sender),
            counts_globally: key::counts_globally(&route),
            serial: !head.method.is_safe(),
            max_wait: max_wait(worker.process.config.max_wait, head.abort_after),
        };
        if worker.watched.get() {
            look::note(worker, &route, head.method_bytes, &ask);
        }
        let relays = relays(head, origin);
        let owner = match &worker.peers {
            Some(peers) if !key::counts_for_address(&route.identity, &sender) => {
                match Course::of(peers.owner(bucket.identity), relays) {
                    Course::Here => None,
                    Course::HereWithCare => {
                        peers.serves_for_another(now, &bucket);
                        None
                    }
                    Course::There(owner) => Some(owner),
                }
            }
            Some(_) | None => None,
        };
        let tale = Tale::new(worker, head, origin);
        match &owner {
            None => worker.encode(head, flight.writable()),
            Some(peer) => {
                let id = tale.made_id();
                let hop = Hop {
                    node: &peer.name,
                    before: relays,
                    id: id.as_deref(),
                };
                head.encode_relayed(&hop, flight.writable());
            }
        }
        Self {
            method: head.method,
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            ask,
            sender: sender.client(),
            label: text,
            label_key,
            in_milliseconds: [&b"/api/v6/"[..], b"/api/v7/"]
                .iter()
                .any(|old| head.target.starts_with(old)),
            began: now,
            tale,
            waited_nanos: Cell::new(0),
            tried_nanos: Cell::new(0),
            origin,
            relays,
            owner,
        }
    }

    /// Whether it has a body that its method gives no meaning to (RFC 9110 9.3), so that an upstream
    /// may leave it unread and take it for the next request: none of ours must follow it then.
    pub(super) fn may_be_followed_by_its_body(&self) -> bool {
        let meaningless = match self.method {
            Method::Get | Method::Head | Method::Delete | Method::Options | Method::Trace => true,
            Method::Post | Method::Put | Method::Patch | Method::Connect | Method::Other => false,
        };
        meaningless && !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Whether its answer has a head only.
    pub(super) fn wants_head_only(&self) -> bool {
        self.method == Method::Head
    }
}

/// How often nodes have relayed a request: as often as they may, if it is to go no further.
#[inline]
fn relays(head: &RequestHead<'_>, origin: Origin) -> u8 {
    match origin {
        Origin::Client => 0,
        Origin::Node if head.has_room() => head.relays,
        // nirn-proxy's word, or no room to count it in.
        Origin::Node | Origin::Routed => RELAYS_MAX,
    }
}

/// The shorter of what the operator and the request itself allow; `X-RateLimit-Abort-After` is in
/// seconds, perhaps with a fraction. A value that is no number says nothing.
fn max_wait(configured: Option<Duration>, abort_after: Option<&[u8]>) -> Option<Duration> {
    let asked = abort_after
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<f64>().ok())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match (configured, asked) {
        (Some(configured), Some(asked)) => Some(configured.min(asked)),
        (one, other) => one.or(other),
    }
}

fn client_class(path: &PathIdentity<'_>, sender: &Identity<'_>) -> ClientClass {
    match path {
        PathIdentity::Webhook { id, .. } => ClientClass::Webhook {
            id: std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()),
        },
        PathIdentity::Interaction { .. } => ClientClass::Interaction,
        PathIdentity::Authorization => match sender.kind {
            Kind::Bot { user_id } => ClientClass::Bot { user_id },
            Kind::Bearer => ClientClass::Bearer,
            Kind::None => ClientClass::Anonymous,
            // As careful as with a bot whose id is not known.
            Kind::Other => ClientClass::Bot { user_id: None },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_wait_holds_and_nonsense_says_nothing() {
        let second = Some(Duration::from_secs(1));
        let half = Some(Duration::from_millis(500));
        assert_eq!(max_wait(None, None), None);
        assert_eq!(max_wait(second, None), second);
        assert_eq!(max_wait(None, Some(b"0.5")), half);
        assert_eq!(max_wait(second, Some(b"0.5")), half);
        assert_eq!(max_wait(half, Some(b" 1 ")), half);
        for nonsense in [&b"soon"[..], b"-1", b"NaN", b"1e300", b"", b"\xff"] {
            assert_eq!(max_wait(second, Some(nonsense)), second);
            assert_eq!(max_wait(None, Some(nonsense)), None);
        }
    }
}
