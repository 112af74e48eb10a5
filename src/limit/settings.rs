//! The limiter's settings and caps.

use std::collections::HashMap;
use std::time::Duration;

/// Requests that may wait in one bucket: at Discord's usual slot a second, the last would wait over
/// an hour, far longer than any client does.
pub const MAX_WAITING_PER_BUCKET: u32 = 4_096;
/// Requests that may wait in one shard; at about 130 bytes each, 13 MiB.
pub const MAX_WAITING: usize = 100_000;
/// Buckets tracked in one shard; at 160 bytes each, 320 MiB, if somebody asks for two million
/// channels within ten minutes.
pub const MAX_BUCKETS: usize = 2_000_000;
/// Identities tracked in one shard, at up to 4 KiB each.
pub const MAX_IDENTITIES: usize = 16_384;
/// Bearer tokens tracked in the process (nirn's `MAX_BEARER_COUNT`).
pub const MAX_BEARERS: usize = 1_024;
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
