//! `CLUSTER_SECRET` at work: what envelopes are sealed with, and what identities are hashed with.
//!
//! Each purpose has a key of its own, made of the secret by HMAC-SHA256, so that none tells of another.

use ring::hmac;

use super::wire::{Mac, TAG_BYTES};
use crate::config::ClusterSecret;

/// Keys that are made of the secret.
pub struct Secret {
    envelope: hmac::Key,
    seeds: [u64; 4],
}

/// The seeds of a cluster without a secret: all its nodes must have the same, and there is nothing
/// that only they know. Whoever chooses paths could then choose some that collide in a table.
const OPEN_SEEDS: [u64; 4] = [
    0x452821e638d01377,
    0xbe5466cf34e90c6c,
    0xc0ac29b7c97c50dd,
    0x3f84d5b5b5470917,
];

impl Secret {
    /// The keys of this secret.
    pub fn new(secret: &ClusterSecret) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let derived = |purpose: &[u8]| hmac::sign(&root, purpose);
        let envelope = derived(b"weir cluster envelopes 1");
        let seeds = derived(b"weir cluster identities 1");
        let (words, _) = seeds.as_ref().as_chunks::<8>();
        let word = |n: usize| words.get(n).copied().map_or(0, u64::from_le_bytes);
        Self {
            envelope: hmac::Key::new(hmac::HMAC_SHA256, envelope.as_ref()),
            seeds: std::array::from_fn(word),
        }
    }
}

/// What the nodes of a cluster hash identities and routes with.
pub fn seeds(secret: Option<&Secret>) -> [u64; 4] {
    secret.map_or(OPEN_SEEDS, |secret| secret.seeds)
}

impl Mac for Secret {
    fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.envelope);
        parts.iter().for_each(|part| context.update(part));
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(&ClusterSecret::new(text).unwrap())
    }

    #[test]
    fn keys_follow_from_the_secret_and_tell_it_apart() {
        let (a, b) = (secret("0123456789abcdef"), secret("0123456789abcdeg"));
        assert_eq!(a.seeds, secret("0123456789abcdef").seeds);
        assert_ne!(a.seeds, b.seeds);
        assert_ne!(a.tag(&[b"x"]), b.tag(&[b"x"]));
        assert_eq!(a.tag(&[b"x", b"y"]), a.tag(&[b"xy"]));
        assert_eq!(seeds(None), OPEN_SEEDS);
        assert!(a.seeds.iter().all(|seed| *seed != 0));
    }
}
