//! Weir's own numbers: what waited, what was refused, what went wrong.

mod text;

use crate::error;

use super::causes::{Refusal, Retry, Scope};
use super::histogram::Histogram;
use super::pool::Pool;
use super::relay::Relay;
use super::tls::Tls;

/// Statuses that Discord counts as invalid requests (Discord docs, topics/rate-limits).
const INVALID: [(u16, &str); 3] = [(401, "401"), (403, "403"), (429, "429")];

/// Weir's own numbers of one worker, or of all once merged. The fields are to be counted up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests that wait now. What waits may be taken up on another worker, so that only the sum
    /// of all workers is sure not to be negative.
    pub waiting: i64,
    /// Requests that had to wait, for whatever reason.
    pub waited: u64,
    /// How long requests waited for limits before they were sent, those that did not wait as 0; and those
    /// that waited in vain.
    pub queue_wait: Histogram,
    /// From a request's head to its first byte to Discord, without the wait for limits: what weir, a
    /// connection that had to be opened and a body that was slow to come have added.
    pub added: Histogram,
    /// From a request's first byte to Discord to the head of the answer, each attempt by itself.
    pub upstream: Histogram,
    /// Requests that were held back because a bucket or the global window was used up: sent at
    /// once, each would have drawn a 429. An estimate of 429s avoided.
    pub held_back: u64,
    /// Client connections that are open.
    pub clients: i64,
    /// Client connections that were accepted.
    pub clients_accepted: u64,
    /// Connections to the upstream.
    pub pool: Pool,
    /// TLS on the listening side.
    pub tls: Tls,
    /// Requests that nodes of a cluster hand each other.
    pub relay: Relay,
    pub(super) refused: [u64; Refusal::LABELS.len()],
    /// By scope: handed to the client, and absorbed.
    pub(super) upstream_429: [[u64; 2]; Scope::LABELS.len()],
    pub(super) retried: [u64; Retry::LABELS.len()],
    pub(super) invalid: [u64; INVALID.len()],
    pub(super) errors: [u64; error::Kind::ALL.len()],
}

impl Counters {
    /// Counts a request that weir refused.
    pub fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }

    /// Counts a 429 of the upstream, also as an invalid request unless it is shared; if it is `absorbed`,
    /// its client does not see it, and the request is sent once more.
    pub fn receive_429(&mut self, scope: Scope, absorbed: bool) {
        self.upstream_429[scope as usize][usize::from(absorbed)] += 1;
        if absorbed {
            self.retry(Retry::Limited);
        }
        match scope {
            Scope::Shared => {}
            Scope::User | Scope::Global | Scope::Cloudflare | Scope::None => self.invalid(429),
        }
    }

    /// Counts an answer of the upstream as an invalid request if its status is 401 or 403; a 429
    /// is counted by [`Counters::receive_429`].
    pub fn receive(&mut self, status: u16) {
        if status != 429 {
            self.invalid(status);
        }
    }

    /// Counts a request that is sent once more.
    pub fn retry(&mut self, cause: Retry) {
        self.retried[cause as usize] += 1;
    }

    /// Counts an exchange that went wrong.
    pub fn fail(&mut self, kind: error::Kind) {
        self.errors[kind as usize] += 1;
    }

    fn invalid(&mut self, status: u16) {
        if let Some(at) = INVALID.iter().position(|(code, _)| *code == status) {
            self.invalid[at] += 1;
        }
    }

    /// Adds the numbers of `other`.
    pub fn merge(&mut self, other: &Self) {
        // Named in full, so that a new field cannot be forgotten here.
        let Self {
            waiting,
            waited,
            queue_wait,
            added,
            upstream,
            held_back,
            clients,
            clients_accepted,
            pool,
            tls,
            relay,
            refused,
            upstream_429,
            retried,
            invalid,
            errors,
        } = self;
        *waiting += other.waiting;
        *clients += other.clients;
        for (ours, theirs) in [
            (waited, other.waited),
            (held_back, other.held_back),
            (clients_accepted, other.clients_accepted),
        ] {
            *ours += theirs;
        }
        queue_wait.merge(&other.queue_wait);
        added.merge(&other.added);
        upstream.merge(&other.upstream);
        pool.merge(&other.pool);
        tls.merge(&other.tls);
        relay.merge(&other.relay);
        add(refused, &other.refused);
        for (ours, theirs) in upstream_429.iter_mut().zip(&other.upstream_429) {
            add(ours, theirs);
        }
        add(retried, &other.retried);
        add(invalid, &other.invalid);
        add(errors, &other.errors);
    }
}

fn add<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (count, more) in ours.iter_mut().zip(theirs) {
        *count += more;
    }
}
