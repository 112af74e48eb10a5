//! The limiter's settings and caps. Those that a person can set have their numbers, and the reasons
//! for them, in [`bounds`].

use std::collections::HashMap;
use std::time::Duration;

use crate::config::bounds;

/// Requests that may wait in one bucket, wherever it lives.
pub const MAX_WAITING_PER_BUCKET: u32 = bounds::WAITING_PER_BUCKET as u32;
/// Requests that may wait in one shard. The default is the whole process's, as if there were no
/// other shard; where there are, each gets its part.
pub const MAX_WAITING: usize = bounds::WAITING;
/// Buckets tracked in one shard; the same holds for it.
pub const MAX_BUCKETS: usize = bounds::BUCKETS;
/// Identities tracked in one shard, at up to 4 KiB each: 64 MiB, and more bots than any fleet has.
pub const MAX_IDENTITIES: usize = 16_384;
/// Bearer tokens tracked in the process.
pub const MAX_BEARERS: usize = bounds::BEARERS;
/// Discord's global limit for a bot that is not large.
pub const GLOBAL_DEFAULT: u32 = 50;

/// What can be set. The defaults are Discord's rules and the caps of this file.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests per second of an identity of which nothing else is known.
    pub global_default: u32,
    /// Requests per second by bot user id (`BOT_RATELIMIT_OVERRIDES`).
    pub global_overrides: HashMap<u64, u32>,
    /// Requests of unknown routes that go together, per identity and major (`DEFAULT_BUCKET`).
    pub default_bucket: u16,
    /// By [`BucketKey::route`](super::BucketKey::route): requests of that route that go together
    /// before its first answer, per identity and major (`DEFAULT_BUCKETS`). Such a route is declared
    /// to have a bucket of its own: it neither waits for other unknown routes nor lets them wait.
    /// [`Keys::template_keys`](crate::route::Keys::template_keys) makes the keys.
    ///
    /// This takes the place of disgo's `RateLimitHashFuncs` as well, which say under what name a
    /// route is counted: names are learned from answers here, and a name that was declared wrongly
    /// would either hold back what may go, or draw the 429s that learning avoids.
    pub default_buckets: HashMap<u64, u16>,
    /// Requests that change something need not wait for each other (`ALLOW_CONCURRENT_REQUESTS`).
    pub allow_concurrent: bool,
    /// A 401 locks nobody (`DISABLE_401_LOCK`).
    pub disable_401_lock: bool,
    /// How long an identity stays locked before one request may try again.
    pub unauthorized_lock: Duration,
    /// See [`MAX_BEARERS`].
    pub max_bearers: usize,
    /// See [`MAX_WAITING_PER_BUCKET`].
    pub waiting_per_bucket_max: u32,
    /// See [`MAX_WAITING`].
    pub waiting_max: usize,
    /// See [`MAX_BUCKETS`].
    pub buckets_max: usize,
    /// See [`MAX_IDENTITIES`].
    pub identities_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            global_default: GLOBAL_DEFAULT,
            global_overrides: HashMap::new(),
            default_bucket: 1,
            default_buckets: HashMap::new(),
            allow_concurrent: false,
            disable_401_lock: false,
            unauthorized_lock: Duration::from_secs(300),
            max_bearers: MAX_BEARERS,
            waiting_per_bucket_max: MAX_WAITING_PER_BUCKET,
            waiting_max: MAX_WAITING,
            buckets_max: MAX_BUCKETS,
            identities_max: MAX_IDENTITIES,
        }
    }
}
