//! Keys: what a shard, a table or a queue knows a request by.
//!
//! A key is a keyed 64-bit hash, so that a sender can neither choose colliding paths nor be found
//! by guessing tokens in a memory dump. The seeds are injected once per process and shared by all
//! workers; keys mean nothing to another process, unless it has the same: the nodes of a cluster do.
//! The identity part is hashed in a way of our own (`stable`), so that they agree on it whatever
//! they were built with, and tells the identity's slot ([`slot`](super::slot)); the others are not.
//! Two of a million live keys collide with a probability of 3 in 100 million per part, and then
//! merely share a limit.
//!
//! Cost: one hash over the label (about 40 bytes), one over the major id, one over the header.

use std::hash::{BuildHasher, Hasher};

use ahash::RandomState;

use super::{Class, Identity, Major, PathIdentity, Route, stable};

/// What names one bucket of limits before Discord has said which it is.
///
/// Routes that Discord may put into one bucket always share `identity` and `major`, so a worker is
/// chosen by those two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BucketKey {
    /// Who is counted: the global window, the 401 lock.
    pub identity: u64,
    /// The major parameter: kind and id, or that there is none.
    pub major: u64,
    /// Route text, class and method. The same for every identity and major, so that what is
    /// learned of a route holds for all.
    pub route: u64,
}

/// Makes keys from one set of seeds.
#[derive(Clone)]
pub struct Keys {
    state: RandomState,
    seeds: [u64; 4],
}

// The seeds are what keeps the keys secret.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// What a hash is of, so that equal bytes in different places have different keys.
#[derive(Clone, Copy)]
enum Domain {
    Egress,
    Authorization,
    Webhook,
    WebhookAlone,
    Interaction,
    Channel,
    Guild,
    NoMajor,
    Route,
    Label,
}

impl Keys {
    /// Keys under these seeds; the same seeds give the same keys within one build on one machine.
    pub fn with_seeds(seeds: [u64; 4]) -> Self {
        let [a, b, c, d] = seeds;
        Self {
            state: RandomState::with_seeds(a, b, c, d),
            seeds,
        }
    }

    /// All three parts of a request's key. `method` is the method's name as sent.
    pub fn bucket_key(&self, route: &Route<'_>, sender: &Identity<'_>, method: &[u8]) -> BucketKey {
        BucketKey {
            identity: self.identity_key(&route.identity, sender),
            major: self.major_key(&route.major),
            route: self.route_key(route, method),
        }
    }

    /// The identity part: of the token in the path if there is one, else of the header's bytes,
    /// else one fixed key for all that goes out from this IP without `Authorization`.
    pub fn identity_key(&self, path: &PathIdentity<'_>, sender: &Identity<'_>) -> u64 {
        match *path {
            PathIdentity::Webhook { id, token } => self.identity(Domain::Webhook, [id, token]),
            PathIdentity::Interaction { id } => {
                self.identity(Domain::Interaction, [&id.to_le_bytes()])
            }
            PathIdentity::Authorization if sender.secret.is_empty() => {
                self.identity(Domain::Egress, [])
            }
            PathIdentity::Authorization => self.identity(Domain::Authorization, [sender.secret]),
        }
    }

    fn identity<const N: usize>(&self, domain: Domain, parts: [&[u8]; N]) -> u64 {
        stable::hash(&self.seeds, domain as u64, parts)
    }

    /// What these keys make of something known. Keys that were made elsewhere mean something here only
    /// if this is the same there.
    pub fn probe(&self) -> u64 {
        self.of(Domain::Label, [b"weir keeps its state", b"\x02"])
    }

    /// The key of a route's label alone, whatever its class and method: for metrics.
    pub fn label_key(&self, label: &str) -> u64 {
        self.of(Domain::Label, [label.as_bytes()])
    }

    fn major_key(&self, major: &Major<'_>) -> u64 {
        match *major {
            Major::None => self.of_number(Domain::NoMajor, 0),
            Major::Channel(id) => self.of(Domain::Channel, [id]),
            Major::Guild(id) => self.of(Domain::Guild, [id]),
            Major::Webhook {
                id,
                token: Some(token),
            } => self.of(Domain::Webhook, [id, token]),
            Major::Webhook { id, token: None } => self.of(Domain::WebhookAlone, [id]),
            Major::Interaction(id) => self.of_number(Domain::Interaction, id),
        }
    }

    pub(super) fn route_key(&self, route: &Route<'_>, method: &[u8]) -> u64 {
        let (class, method): (u8, &[u8]) = match route.class {
            Class::Plain => (0, method),
            Class::DeletesYoung => (1, method),
            Class::DeletesOld => (2, method),
            // PUT and DELETE are one limit.
            Class::ModifiesReaction => (3, b""),
        };
        self.of(Domain::Route, [route.label.as_bytes(), method, &[class]])
    }

    fn of<const N: usize>(&self, domain: Domain, parts: [&[u8]; N]) -> u64 {
        let mut hasher = self.state.build_hasher();
        // The lengths separate the parts: ("ab", "c") is not ("a", "bc").
        let lengths = parts
            .iter()
            .fold(0_u64, |all, part| (all << 20) ^ part.len() as u64);
        hasher.write_u64((lengths << 4) | domain as u64);
        for part in parts {
            hasher.write(part);
        }
        hasher.finish()
    }

    fn of_number(&self, domain: Domain, number: u64) -> u64 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u64(domain as u64);
        hasher.write_u64(number);
        hasher.finish()
    }
}

/// Whether Discord's global limit counts the request: what a token in the path stands for is never
/// counted (Discord docs, interactions/receiving-and-responding).
pub fn counts_globally(route: &Route<'_>) -> bool {
    match route.identity {
        PathIdentity::Authorization => true,
        PathIdentity::Webhook { .. } | PathIdentity::Interaction { .. } => false,
    }
}

/// Whether a request is counted for the address that it is sent from, and not for who sends it. Each
/// node of a cluster has an address of its own, so such a request belongs to the node that took it.
pub fn counts_for_address(path: &PathIdentity<'_>, sender: &Identity<'_>) -> bool {
    match path {
        PathIdentity::Authorization => sender.secret.is_empty(),
        PathIdentity::Webhook { .. } | PathIdentity::Interaction { .. } => false,
    }
}
