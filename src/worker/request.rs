//! A request as it is kept while it waits and is exchanged: everything that must outlive the
//! buffer its head arrived in, and nothing else.

use crate::clock::Instant;
use crate::http1::{Framing, Method, RequestHead, Version};
use crate::io::Buf;
use crate::limit::ClientClass;
use crate::mesh;
use crate::route::identity::{Client, Kind};
use crate::route::{Identity, PathIdentity, RouteText, classify, identity, key};

use super::Worker;

/// A request between its head and its answer.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    /// What the limiter must know of it.
    pub(super) ask: mesh::Request,
    /// Head for the upstream, and behind it as much of the body as came along with the head.
    pub(super) flight: Buf,
    /// Whose it is, for the metrics.
    pub(super) sender: Client,
    /// Its route's label, for the metrics, and the label's key.
    pub(super) label: RouteText,
    pub(super) label_key: u64,
    /// When its head was complete.
    pub(super) began: Instant,
}

impl Request {
    /// Takes from `head` what the exchange needs.
    pub(super) fn new(worker: &Worker, head: &RequestHead<'_>, now: Instant) -> Self {
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
            max_wait: None,
        };
        let mut flight = Buf::new();
        head.encode(worker.upstream.authority(), flight.writable());
        Self {
            method: head.method,
            version: head.version,
            framing: head.framing,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            ask,
            flight,
            sender: sender.client(),
            label: text,
            label_key,
            began: now,
        }
    }

    /// Whether its answer has a head only.
    pub(super) fn wants_head_only(&self) -> bool {
        self.method == Method::Head
    }
}

fn client_class(path: &PathIdentity<'_>, sender: &Identity<'_>) -> ClientClass {
    match path {
        PathIdentity::Webhook { .. } => ClientClass::Webhook,
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
