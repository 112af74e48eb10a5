//! Which bucket a route belongs to: the index of a shard, and what the whole process has learned.
//!
//! A bucket is found under two kinds of keys, in one map: by (identity, major, route) for every
//! request, and by (identity, major, name) when an answer names it. Keys are 64-bit mixes of hashes;
//! two that collide (one in 10^7 for a million buckets of many identities, 2 in 10^4 if all are one's)
//! would share a limit, which is safe. All keys of an identity have its slot in them
//! ([`slot`](crate::route::slot)).
//!
//! Route → name is the same for every bot and channel, so it is learned once per process
//! ([`Hints`]): the next channel's first request asks in its own bucket and need not go through
//! the lane of unknown routes.

use super::ask::BucketKey;
use super::bucket::Kind;
use super::snapshot::{Code, HintRecord, Record};
use crate::route::slot::with_slot_of;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Parts of the index. A map that grows moves all it holds; a 64th of a million entries moves in a
/// fraction of a millisecond.
const PARTS: usize = 64;
/// Route hints kept. Discord has a few hundred routes; the rest is for paths that are none.
pub const HINTS_MAX: usize = 8_192;

/// Hasher for keys that are hashes already.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|&byte| self.0 = fold(self.0 ^ u64::from(byte), 0x9e37_79b9_7f4a_7c15));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// A map from mixed keys.
pub(super) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// Mixes two words: the halves of their product.
pub(super) const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

const fn mix(identity: u64, major: u64, tail: u64, domain: u64) -> u64 {
    let scope = fold(
        identity ^ 0x2d35_8dcc_aa6c_78a5,
        major ^ 0x8bb8_4b93_962e_acc9,
    );
    let key = fold(
        scope ^ tail ^ 0x4b33_a62e_d433_d4a3,
        scope.rotate_left(32) ^ domain,
    );
    // Zero says that there is no key.
    let key = with_slot_of(identity, key & !LANE);
    if key == 0 { 2 } else { key }
}

/// Tells the keys of lanes from all others, so that what a state file says can be judged.
const LANE: u64 = 1;

/// Whether this is the key of a lane.
pub(super) const fn is_lane_key(key: u64) -> bool {
    key & LANE != 0
}

/// Where a request looks for its bucket: a number of the identity's slot.
pub const fn route_key(key: &BucketKey) -> u64 {
    mix(key.identity, key.major, key.route, 0x4cf5_ad43_2745_937f)
}

/// Where an answer that names its bucket looks for it.
pub(super) const fn name_key(key: &BucketKey, name: u64) -> u64 {
    mix(key.identity, key.major, name, 0xda94_2042_e4dd_58b5)
}

/// The lane of unknown routes of an identity and major parameter.
pub(super) const fn lane_key(key: &BucketKey) -> u64 {
    mix(key.identity, key.major, 0, 0xa407_6a07_0d1a_f3e9) | LANE
}

/// Spreads keys over shards. Route and bucket name take no part: what may turn out to be one bucket
/// is in one shard.
pub(super) fn shard_of(key: &BucketKey, shards: usize) -> usize {
    scaled(
        fold(
            key.identity ^ 0x2d35_8dcc_aa6c_78a5,
            key.major ^ 0x8bb8_4b93_962e_acc9,
        ),
        shards,
    )
}

/// Under which key an identity is found. Identities are hashes already, but not all of their bits
/// need be good.
pub(super) const fn identity_key(identity: u64) -> u64 {
    let key = fold(identity ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db);
    with_slot_of(identity, key)
}

/// The shard of an identity.
pub(super) fn shard_of_identity(identity: u64, shards: usize) -> usize {
    shard_of_identity_key(identity_key(identity), shards)
}

/// The shard of an identity of which only the key is known.
pub(super) fn shard_of_identity_key(key: u64, shards: usize) -> usize {
    scaled(key, shards)
}

fn scaled(hash: u64, n: usize) -> usize {
    ((u128::from(hash) * n as u128) >> 64) as usize
}

/// A key in two halves: an entry of the index takes 12 bytes instead of 16.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Halves(u32, u32);

impl Halves {
    const fn of(key: u64) -> Self {
        Self(key as u32, (key >> 32) as u32)
    }
}

impl Hash for Halves {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.0) | u64::from(self.1) << 32);
    }
}

/// Keys to bucket numbers.
pub(super) struct Index {
    parts: Vec<HashMap<Halves, u32, BuildHasherDefault<Hashed>>>,
    /// Routes beyond the first of buckets that have more than one.
    more_routes: HashMap<u32, Vec<u64>>,
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            parts: (0..PARTS).map(|_| HashMap::default()).collect(),
            more_routes: HashMap::new(),
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<u32> {
        self.parts[Self::part(key)].get(&Halves::of(key)).copied()
    }

    pub(super) fn insert(&mut self, key: u64, bucket: u32) -> Option<u32> {
        self.parts[Self::part(key)].insert(Halves::of(key), bucket)
    }

    pub(super) fn remove(&mut self, key: u64) {
        self.parts[Self::part(key)].remove(&Halves::of(key));
    }

    /// Remembers a further route of `bucket`.
    pub(super) fn add_route(&mut self, bucket: u32, key: u64) {
        self.more_routes.entry(bucket).or_default().push(key);
    }

    /// The further routes of `bucket`.
    pub(super) fn more_routes(&self, bucket: u32) -> &[u64] {
        self.more_routes.get(&bucket).map_or(&[], Vec::as_slice)
    }

    /// Forgets one further route of `bucket`.
    pub(super) fn drop_route(&mut self, bucket: u32, key: u64) {
        if let Some(keys) = self.more_routes.get_mut(&bucket) {
            keys.retain(|&k| k != key);
        }
    }

    /// Forgets all further routes of a bucket that goes.
    pub(super) fn drop_routes(&mut self, bucket: u32) {
        for key in self.more_routes.remove(&bucket).unwrap_or_default() {
            self.remove(key);
        }
    }

    const fn part(key: u64) -> usize {
        // The map itself uses the lowest and the seven highest bits.
        (key >> 48) as usize % PARTS
    }
}

/// What is known of a route, whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hint {
    /// Its bucket's name; `None`: answers name no bucket.
    pub(super) name: Option<u64>,
    pub(super) kind: Kind,
    /// The route shares the name with others, but not the counter.
    pub(super) alone: bool,
}

/// Route → hint, for the whole process.
#[derive(Default)]
pub(super) struct Hints {
    routes: KeyMap<Hint>,
}

impl Hints {
    pub(super) fn get(&self, route: u64) -> Option<Hint> {
        self.routes
            .get(&fold(route ^ 0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9))
            .copied()
    }

    /// All of them, to be written down.
    pub(super) fn keep(&self, from: u32, batch: u32, into: &mut Vec<Record>) -> Option<u32> {
        let bite = self.routes.iter().skip(from as usize).take(batch as usize);
        into.extend(bite.map(|(&key, hint)| {
            Record::Hint(HintRecord {
                key,
                name: hint.name,
                kind: Code(hint.kind),
                alone: hint.alone,
            })
        }));
        (((from + batch) as usize) < self.routes.len()).then_some(from + batch)
    }

    /// Takes in one that was written down.
    pub(super) fn revive(&mut self, record: &HintRecord) {
        if self.routes.len() < HINTS_MAX {
            self.routes.entry(record.key).or_insert(Hint {
                name: record.name,
                kind: record.kind.0,
                alone: record.alone,
            });
        }
    }

    pub(super) fn learn(&mut self, route: u64, hint: Hint) {
        let key = fold(route ^ 0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9);
        if self.routes.len() < HINTS_MAX || self.routes.contains_key(&key) {
            self.routes.insert(key, hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_one_identity_and_major_share_a_shard_and_shards_fill_evenly() {
        let mut counts = [0; 8];
        for n in 0..8_000 {
            let key = |route| BucketKey {
                identity: n % 10,
                major: n,
                route,
            };
            assert_eq!(shard_of(&key(1), 8), shard_of(&key(2), 8));
            counts[shard_of(&key(1), 8)] += 1;
        }
        assert!(counts.iter().all(|n| (800..1200).contains(n)), "{counts:?}");
    }

    #[test]
    fn keys_of_different_meaning_differ() {
        let key = BucketKey {
            identity: 1,
            major: 2,
            route: 3,
        };
        let keys = [route_key(&key), name_key(&key, 3), lane_key(&key)];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
    }

    #[test]
    fn hints_are_bounded() {
        let hint = Hint {
            name: Some(1),
            kind: Kind::Fixed,
            alone: false,
        };
        let mut hints = Hints::default();
        (0..HINTS_MAX as u64 + 100).for_each(|route| hints.learn(route, hint));
        assert_eq!(hints.routes.len(), HINTS_MAX);
        hints.learn(
            0,
            Hint {
                alone: true,
                ..hint
            },
        );
        assert!(hints.get(0).unwrap().alone);
    }
}
