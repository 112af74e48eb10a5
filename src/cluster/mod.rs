//! Many nodes, one set of limits.
//!
//! All nodes take all requests. Each identity (a bot, a bearer, a webhook) belongs to one of them, so
//! that its limits need no agreement; the others hand its requests on. Nodes come and go: then some
//! identities change hands, and what their node knew of them goes along.
//!
//! - [`member`]: who is there (pure);
//! - [`owner`]: whose an identity is (pure);
//! - [`wire`]: what nodes send each other (pure);
//! - `members`: what the workers read of it; `passes`: how relayed requests show where they are from.

pub mod member;
#[cfg(feature = "io")]
pub mod members;
pub mod owner;
#[cfg(feature = "io")]
pub mod passes;
pub mod wire;

/// What the workers of a node share of its cluster.
#[cfg(feature = "io")]
pub struct Cluster {
    /// Who owns what.
    pub members: std::sync::Arc<members::Members>,
    /// How relayed requests show where they are from.
    pub passes: passes::Passes,
    /// What all nodes hash identities with, so that they mean the same one by the same key.
    pub key_seeds: [u64; 4],
}

#[cfg(feature = "io")]
impl Cluster {
    /// A node of the cluster that knows this secret, or none: then who knows weir's source knows the
    /// keys as well, and can have identities of its choice share a limit. `first` numbers this node's
    /// passes, as [`passes::Passes::new`] says.
    pub fn new(
        members: std::sync::Arc<members::Members>,
        secret: Option<&[u8]>,
        first: u64,
    ) -> Self {
        let key = passes::Secret::new(secret.unwrap_or(b"weir, without a secret"));
        let half = |part: &[u8]| {
            let tag = u128::from_le_bytes(wire::Mac::tag(&key, &[b"weir identity keys", part]));
            [tag as u64, (tag >> 64) as u64]
        };
        let [a, b] = half(b"1");
        let [c, d] = half(b"2");
        Self {
            members,
            passes: passes::Passes::new(secret.is_some().then_some(key), first),
            key_seeds: [a, b, c, d],
        }
    }
}
