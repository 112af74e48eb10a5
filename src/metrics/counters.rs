//! Weir's own numbers: what waited, what was refused, what went wrong.

use crate::error::{self, Side};

use super::relay::Relay;
use super::text::{Family, Kind, Seconds};
use super::tls::Tls;

/// Why weir refused a request instead of sending it. Each variant is the `reason` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `bucket_full`: `MAX_WAITING_PER_BUCKET` wait for its bucket.
    BucketFull,
    /// `waiting_full`: `MAX_WAITING` wait in all.
    WaitingFull,
    /// `buckets_full`: `MAX_BUCKETS` are kept and none could go.
    BucketsFull,
    /// `connections_full`: `MAX_CONNECTIONS` are open.
    ConnectionsFull,
    /// `client_full`: `MAX_CONNECTIONS_PER_CLIENT` of this client are open.
    ClientFull,
    /// `wait_too_long`: it would have waited longer than it was given.
    WaitTooLong,
    /// `token_locked`: Discord refused its token.
    TokenLocked,
    /// `webhook_dead`: Discord knows no such webhook any more.
    WebhookDead,
    /// `invalid_budget`: the egress IP is close to a ban for invalid requests.
    InvalidBudget,
    /// `breaker`: Cloudflare blocks the egress IP.
    Breaker,
    /// `draining`: weir is shutting down.
    Draining,
    /// `malformed`: it is not HTTP as weir accepts it.
    Malformed,
    /// `address`: a connection from outside `ALLOW_FROM`.
    Address,
}

impl Refusal {
    /// The `reason` label.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize]
    }

    /// All, by their labels in the order of declaration.
    const LABELS: [&'static str; 13] = [
        "bucket_full",
        "waiting_full",
        "buckets_full",
        "connections_full",
        "client_full",
        "wait_too_long",
        "token_locked",
        "webhook_dead",
        "invalid_budget",
        "breaker",
        "draining",
        "malformed",
        "address",
    ];
}

/// Whose limit a 429 of the upstream was. Each variant is the `scope` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `user`: this bucket's.
    User,
    /// `global`: the identity's.
    Global,
    /// `shared`: the resource's, whoever asked.
    Shared,
    /// `cloudflare`: the egress IP's, before Discord.
    Cloudflare,
    /// `none`: it did not say.
    None,
}

impl Scope {
    const LABELS: [&'static str; 5] = ["user", "global", "shared", "cloudflare", "none"];
}

const _: () = {
    assert!(Refusal::Address as usize + 1 == Refusal::LABELS.len());
    assert!(Scope::None as usize + 1 == Scope::LABELS.len());
};

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
    /// Microseconds that requests have waited.
    pub waited_micros: u64,
    /// Requests that were held back because a bucket or the global window was used up: sent at
    /// once, each would have drawn a 429. An estimate of 429s avoided.
    pub held_back: u64,
    /// Client connections that are open.
    pub clients: i64,
    /// Client connections that were accepted.
    pub clients_accepted: u64,
    /// Upstream connections that were opened.
    pub upstream_opened: u64,
    /// Of those, TLS sessions that were resumed: a handshake without certificates.
    pub upstream_resumed: u64,
    /// Requests that went out on a connection that was open already.
    pub upstream_reused: u64,
    /// Pooled connections that were found dead when they were to be used again.
    pub upstream_stale: u64,
    /// Upstream connections that were closed, by either side.
    pub upstream_closed: u64,
    /// Permits that the owner of a bucket sent to another worker.
    pub permits_handed: u64,
    /// Bytes that the program holds, of one process: the last one that was merged; `None`: not known.
    pub memory_held: Option<u64>,
    /// Bytes that are resident, likewise.
    pub memory_resident: Option<u64>,
    /// TLS on the listening side.
    pub tls: Tls,
    /// Requests that nodes of a cluster hand each other.
    pub relay: Relay,
    pub(super) refused: [u64; Refusal::LABELS.len()],
    pub(super) upstream_429: [u64; Scope::LABELS.len()],
    pub(super) invalid: [u64; INVALID.len()],
    pub(super) errors: [u64; error::Kind::ALL.len()],
}

impl Counters {
    /// Counts a request that weir refused.
    pub fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }

    /// Counts a 429 of the upstream, also as an invalid request unless it is shared.
    pub fn receive_429(&mut self, scope: Scope) {
        self.upstream_429[scope as usize] += 1;
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
            waited_micros,
            held_back,
            clients,
            clients_accepted,
            upstream_opened,
            upstream_resumed,
            upstream_reused,
            upstream_stale,
            upstream_closed,
            permits_handed,
            memory_held,
            memory_resident,
            tls,
            relay,
            refused,
            upstream_429,
            invalid,
            errors,
        } = self;
        *waiting += other.waiting;
        *memory_held = other.memory_held.or(*memory_held);
        *memory_resident = other.memory_resident.or(*memory_resident);
        *clients += other.clients;
        for (ours, theirs) in [
            (waited, other.waited),
            (waited_micros, other.waited_micros),
            (held_back, other.held_back),
            (clients_accepted, other.clients_accepted),
            (upstream_opened, other.upstream_opened),
            (upstream_resumed, other.upstream_resumed),
            (upstream_reused, other.upstream_reused),
            (upstream_stale, other.upstream_stale),
            (upstream_closed, other.upstream_closed),
            (permits_handed, other.permits_handed),
        ] {
            *ours += theirs;
        }
        tls.merge(&other.tls);
        relay.merge(&other.relay);
        add(refused, &other.refused);
        add(upstream_429, &other.upstream_429);
        add(invalid, &other.invalid);
        add(errors, &other.errors);
    }

    /// Appends everything to `out` in the text format 0.0.4.
    pub fn encode(&self, out: &mut String) {
        let gauges = [
            (
                "weir_requests_waiting",
                "Requests that wait for a limit",
                self.waiting,
            ),
            (
                "weir_client_connections",
                "Client connections that are open",
                self.clients,
            ),
        ];
        for (name, help, value) in gauges {
            let family = Family {
                name,
                help,
                kind: Kind::Gauge,
            };
            family.head(out);
            family.sample(out, "", &[], value.max(0));
        }
        let memory = [
            (
                "weir_memory_held_bytes",
                "Memory that the program holds: what grows here for ever is a leak",
                self.memory_held,
            ),
            (
                "weir_memory_resident_bytes",
                "Memory that is resident, the allocator's reserve included",
                self.memory_resident,
            ),
        ];
        for (name, help, value) in memory {
            if let Some(value) = value {
                let kind = Kind::Gauge;
                let family = Family { name, help, kind };
                family.head(out);
                family.sample(out, "", &[], value);
            }
        }
        self.encode_plain(out);
        self.tls.encode(out);
        self.relay.encode(out);
        by(
            out,
            (
                "weir_refused_total",
                "Requests that were refused instead of sent",
            ),
            Refusal::LABELS
                .iter()
                .map(|label| [("reason", *label)])
                .zip(self.refused),
        );
        by(
            out,
            ("weir_upstream_429_total", "429s of the upstream"),
            Scope::LABELS
                .iter()
                .map(|label| [("scope", *label)])
                .zip(self.upstream_429),
        );
        by(
            out,
            (
                "weir_invalid_requests_total",
                "Answers that Discord counts as invalid requests of the egress IP",
            ),
            INVALID
                .iter()
                .map(|(_, label)| [("status", *label)])
                .zip(self.invalid),
        );
        by(
            out,
            ("weir_errors_total", "Exchanges that went wrong"),
            error::Kind::ALL
                .iter()
                .zip(self.errors)
                .map(|(kind, count)| {
                    let side = match kind.side() {
                        Side::Client => "client",
                        Side::Upstream => "upstream",
                        Side::Us => "us",
                    };
                    ([("kind", kind.label()), ("side", side)], count)
                }),
        );
    }

    fn encode_plain(&self, out: &mut String) {
        let waited = Family {
            name: "weir_wait_seconds_total",
            help: "Seconds that requests have waited for limits",
            kind: Kind::Counter,
        };
        waited.head(out);
        waited.sample(out, "", &[], Seconds(self.waited_micros));
        for (name, help, value) in [
            (
                "weir_requests_waited_total",
                "Requests that had to wait for a limit",
                self.waited,
            ),
            (
                "weir_429s_avoided_total",
                "Requests held back from a limit that was used up, an estimate of 429s avoided",
                self.held_back,
            ),
            (
                "weir_client_connections_accepted_total",
                "Client connections that were accepted",
                self.clients_accepted,
            ),
            (
                "weir_upstream_connections_opened_total",
                "Upstream connections that were opened",
                self.upstream_opened,
            ),
            (
                "weir_upstream_sessions_resumed_total",
                "Upstream connections whose TLS session was resumed",
                self.upstream_resumed,
            ),
            (
                "weir_upstream_connections_reused_total",
                "Requests sent on an upstream connection that was open already",
                self.upstream_reused,
            ),
            (
                "weir_upstream_connections_stale_total",
                "Pooled upstream connections found dead when needed",
                self.upstream_stale,
            ),
            (
                "weir_upstream_connections_closed_total",
                "Upstream connections that were closed",
                self.upstream_closed,
            ),
            (
                "weir_permits_handed_total",
                "Permits that the owner of a bucket sent to another worker",
                self.permits_handed,
            ),
        ] {
            let family = Family {
                name,
                help,
                kind: Kind::Counter,
            };
            family.head(out);
            family.sample(out, "", &[], value);
        }
    }
}

fn add<const N: usize>(ours: &mut [u64; N], theirs: &[u64; N]) {
    for (count, more) in ours.iter_mut().zip(theirs) {
        *count += more;
    }
}

/// Writes a counter with a sample for each set of labels.
fn by<'l, const N: usize>(
    out: &mut String,
    (name, help): (&'static str, &'static str),
    samples: impl Iterator<Item = ([(&'l str, &'l str); N], u64)>,
) {
    let family = Family {
        name,
        help,
        kind: Kind::Counter,
    };
    family.head(out);
    for (labels, value) in samples {
        family.sample(out, "", &labels, value);
    }
}
