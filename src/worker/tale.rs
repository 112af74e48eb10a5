//! What is told of a request: in the access log, and in the log at `debug`.
//!
//! While it runs, a request notes the few things that nobody knows afterwards, in the memory that it has
//! anyway. Only when it has ended is it looked at whether anybody wants to hear it.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use tracing::Level;

use super::Worker;
use super::conn::Client;
use super::peers::Origin;
use super::proxy::Outcome;
use super::request::Request;
use crate::access::{By, Entry, RequestId};
use crate::clock::{self, Instant};
use crate::http1::{RequestHead, sane_request_id};

/// What becomes of a request, as far as it is told.
#[derive(Default)]
pub(super) struct Tale {
    /// `None` if nobody would be told it.
    id: Option<RequestId>,
    retries: Cell<u32>,
    /// weir's own answer.
    answered: Cell<Option<u16>>,
    why: Cell<&'static str>,
}

/// What is told of who had no answer for no other reason.
const GONE: &str = "client_gone";

impl Tale {
    /// Of a request that begins. It is called what its client calls it, or the node that it comes by;
    /// else it gets a name if it is sure to be told of.
    pub(super) fn new(worker: &Worker, head: &RequestHead<'_>, origin: Origin) -> Self {
        let given = head.request_id.and_then(sane_request_id).or_else(|| {
            let nodes = head.node_request_id.filter(|_| origin == Origin::Node);
            nodes.and_then(sane_request_id)
        });
        let id = match given {
            Some(id) => Some(RequestId::Given(id.into())),
            None => is_told(worker).then(|| worker.next_id()),
        };
        Self {
            id,
            ..Self::default()
        }
    }

    /// What weir's own answer calls the request.
    pub(super) fn id(&self) -> Option<String> {
        self.id.as_ref().map(ToString::to_string)
    }

    /// What another node is to call it, since its client gave it no name.
    pub(super) fn made_id(&self) -> Option<String> {
        match &self.id {
            Some(id @ RequestId::Made { .. }) => Some(id.to_string()),
            Some(RequestId::Given(_)) | None => None,
        }
    }

    /// It is sent again.
    pub(super) fn again(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    /// Why it is not answered by Discord.
    pub(super) fn because(&self, why: &'static str) {
        self.why.set(why);
    }

    /// weir answers it itself.
    pub(super) fn answered(&self, status: u16) {
        self.answered.set(Some(status));
    }
}

/// What it is called.
impl fmt::Display for Tale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => id.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Whether somebody hears of requests.
pub(super) fn is_told(worker: &Worker) -> bool {
    worker.process.access.is_some() || tracing::enabled!(Level::DEBUG)
}

/// A request begins: its client's address is asked for while it is there.
pub(super) fn begins(worker: &Worker, client: &mut Client, request: &Request) {
    client.written = 0;
    if is_told(worker) {
        // The stream remembers it.
        let _ = client.stream.peer_addr();
        tracing::trace!(
            id = %request.tale,
            method = request.method.as_str(),
            route = request.label.as_str(),
            bot = %request.sender,
            "a request has come"
        );
    }
}

/// A request has ended.
pub(super) fn ends(worker: &Worker, client: &Client, request: &Request, outcome: Outcome) {
    if is_told(worker) {
        tell(worker, client, request, outcome);
    }
}

#[cold]
fn tell(worker: &Worker, client: &Client, request: &Request, outcome: Outcome) {
    let tale = &request.tale;
    let now = clock::now();
    let (by, status, upstream) = match outcome {
        Outcome::Answered { status, took, .. } => (By::Discord, Some(status), Some(took)),
        Outcome::Relayed { status, took } => (By::Node, Some(status), Some(took)),
        Outcome::Unanswered => match tale.answered.get() {
            Some(status) => (By::Weir, Some(status), None),
            None => (By::Nobody, None, None),
        },
    };
    let why = match (by, tale.why.get()) {
        (By::Discord | By::Node, _) => "",
        (By::Nobody, "") => GONE,
        (By::Weir | By::Nobody, why) => why,
    };
    let entry = Entry {
        at_unix_ms: clock::unix_ms(),
        method: request.method,
        route: request.label.clone(),
        status,
        by,
        why,
        bot: request.sender,
        waited: Duration::from_nanos(request.waited_nanos.get()),
        upstream,
        total: now.saturating_duration_since(request.began),
        bytes: client.written,
        retries: tale.retries.get(),
        relayed: request.origin != Origin::Client,
        // Somebody has begun to listen in the middle of it.
        id: tale.id.clone().unwrap_or_else(|| worker.next_id()),
        from: client.stream.peer_addr().ok(),
    };
    tracing::debug!(
        id = %entry.id,
        method = entry.method.as_str(),
        route = entry.route.as_str(),
        status = entry.status,
        by = entry.by.as_str(),
        why = Some(entry.why).filter(|why| !why.is_empty()),
        bot = %entry.bot,
        wait_ms = ms(entry.waited),
        upstream_ms = entry.upstream.map(ms),
        total_ms = ms(entry.total),
        bytes = entry.bytes,
        retries = entry.retries,
        relayed = entry.relayed,
        from = entry.from.map(tracing::field::display),
        "request"
    );
    if let Some(access) = &worker.process.access {
        access.tell(worker.index, worker.next_lot(), entry);
    }
}

/// Milliseconds with three decimals.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// How long something has taken until now, for a line of the log.
pub(super) fn ms_since(began: Instant) -> f64 {
    ms(clock::now().saturating_duration_since(began))
}
