//! Why something did not go its usual way: the labels of refusals, 429s and retries.

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
    /// `invalid_share`: its identity caused more than its share of the invalid requests.
    InvalidShare,
    /// `forbidden`: Discord answered its route with 403 again and again.
    Forbidden,
    /// `breaker`: Cloudflare blocks the egress IP.
    Breaker,
    /// `draining`: weir is shutting down.
    Draining,
    /// `malformed`: it is not HTTP as weir accepts it.
    Malformed,
    /// `loop`: it went through this weir before: the upstream leads back.
    Loop,
    /// `address`: a connection from outside `ALLOW_FROM`.
    Address,
}

impl Refusal {
    /// The `reason` label.
    pub const fn label(self) -> &'static str {
        Self::LABELS[self as usize].0
    }

    /// By the order of declaration: the label, and the status that the client is told; `none` if it is
    /// told nothing, `4xx` if it depends on what is wrong.
    pub(super) const LABELS: [(&'static str, &'static str); 16] = [
        ("bucket_full", "429"),
        ("waiting_full", "503"),
        ("buckets_full", "503"),
        ("connections_full", "503"),
        ("client_full", "503"),
        ("wait_too_long", "429"),
        ("token_locked", "401"),
        ("webhook_dead", "404"),
        ("invalid_budget", "429"),
        ("invalid_share", "429"),
        ("forbidden", "403"),
        ("breaker", "429"),
        ("draining", "503"),
        ("malformed", "4xx"),
        ("loop", "508"),
        ("address", "none"),
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
    pub(super) const LABELS: [&'static str; 5] = ["user", "global", "shared", "cloudflare", "none"];
}

/// Why a request was sent once more. Each variant is the `cause` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Retry {
    /// `429`: it drew one that was absorbed.
    Limited,
    /// `connection`: a pooled connection turned out dead under it.
    Stale,
}

impl Retry {
    pub(super) const LABELS: [&'static str; 2] = ["429", "connection"];
}

const _: () = {
    assert!(Refusal::Address as usize + 1 == Refusal::LABELS.len());
    assert!(Scope::None as usize + 1 == Scope::LABELS.len());
    assert!(Retry::Stale as usize + 1 == Retry::LABELS.len());
};
