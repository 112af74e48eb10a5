//! What goes wrong again and again, said now and then: once for all workers, with what to do about it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::AHashMap;

use crate::clock;
use crate::cluster::member::NODES_MAX;
use crate::io::SharedSeldom;
use crate::limit::Reason;
use crate::places::Full;
use crate::route::identity::Client;
use crate::upstream::outage::{Outage, Whom};

/// The troubles of one process.
#[derive(Default)]
pub struct Troubles {
    bucket_full: SharedSeldom,
    waiting_full: SharedSeldom,
    buckets_full: SharedSeldom,
    connections_full: SharedSeldom,
    client_full: SharedSeldom,
    upstream_full: SharedSeldom,
    /// Connections refused for their address.
    pub strangers: SharedSeldom,
    /// Handshakes that came to nothing.
    pub unshaken: SharedSeldom,
    /// Connections that claim to be other nodes' and cannot show it.
    pub impostors: SharedSeldom,
    /// Requests that went through this weir before.
    pub loops: SharedSeldom,
    /// Connections that cannot be accepted.
    pub accepting: SharedSeldom,
    /// Nodes that cannot be reached. Invariant: at most [`NODES_MAX`].
    nodes: Mutex<AHashMap<SocketAddr, Arc<Outage>>>,
}

impl Troubles {
    /// A request was refused for a bound of weir's; other refusals are told of when what they are for
    /// begins.
    pub fn refused(&self, reason: Reason, bot: Client, route: &str) {
        let now = clock::now();
        match reason {
            Reason::QueueFull => {
                if let Some(unsaid) = self.bucket_full.happened(now) {
                    tracing::warn!(
                        %bot,
                        route,
                        unsaid,
                        "requests are refused with 429: MAX_WAITING_PER_BUCKET wait for one rate limit \
                         already; this bot asks for more than Discord allows it there, and a longer \
                         queue would only make it wait longer"
                    );
                }
            }
            Reason::TooManyWaiting => {
                if let Some(unsaid) = self.waiting_full.happened(now) {
                    tracing::warn!(
                        %bot,
                        route,
                        unsaid,
                        "requests are refused with 503: MAX_WAITING wait already (each worker has its \
                         part); raise it if there is memory, some 3 KiB for each, or find out who asks for more than \
                         Discord allows"
                    );
                }
            }
            Reason::TooManyTracked => {
                if let Some(unsaid) = self.buckets_full.happened(now) {
                    tracing::warn!(
                        %bot,
                        route,
                        unsaid,
                        "requests are refused with 503: MAX_BUCKETS are in use (each worker has its \
                         part); raise it if there is memory, some 200 bytes for each"
                    );
                }
            }
            Reason::TooLong
            | Reason::Unauthorized
            | Reason::DeadWebhook
            | Reason::Breaker
            | Reason::Budget
            | Reason::Forbidden
            | Reason::Share
            | Reason::Draining
            | Reason::Moved => {}
        }
    }

    /// A client finds no place.
    pub fn no_place(&self, full: Full, from: Option<IpAddr>) {
        let now = clock::now();
        let from = from.map(|from| tracing::field::display(from.to_canonical()));
        match full {
            Full::All => {
                if let Some(unsaid) = self.connections_full.happened(now) {
                    tracing::warn!(
                        from,
                        unsaid,
                        "clients are turned away with 503: weir has as many connections as it may; raise \
                         MAX_CONNECTIONS, and LimitNOFILE or ulimit -n with it, or see who keeps so many \
                         open"
                    );
                }
            }
            Full::Client => {
                if let Some(unsaid) = self.client_full.happened(now) {
                    tracing::warn!(
                        from,
                        unsaid,
                        "a client is turned away with 503: it has MAX_CONNECTIONS_PER_CLIENT connections"
                    );
                }
            }
        }
    }

    /// No connection to the upstream came free in time.
    pub fn upstream_full(&self) {
        if let Some(unsaid) = self.upstream_full.happened(clock::now()) {
            tracing::warn!(
                unsaid,
                "requests are refused with 503: all connections of a worker to the upstream are in use, \
                 and none came free in time; raise UPSTREAM_MAX_CONNECTIONS, and LimitNOFILE or ulimit -n \
                 with it, if the upstream is not just slow (weir_upstream_seconds, REQUEST_TIMEOUT)"
            );
        }
    }

    /// The same trouble with a node for all workers.
    pub fn outage_of(&self, node: SocketAddr) -> Arc<Outage> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= NODES_MAX && !nodes.contains_key(&node) {
            nodes.clear();
        }
        let new = || Arc::new(Outage::of(Whom::Node));
        nodes.entry(node).or_insert_with(new).clone()
    }
}
