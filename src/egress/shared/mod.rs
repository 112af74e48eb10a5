//! Caps that a fleet of proxies shares through Redis.
//!
//! A [`Fleet`] says of each connection whether it may be opened, so that all proxies together, weir's
//! and dprl's, have no more of them to a host than its cap. dprl's keys are used as they are
//! (`proxy_rate_limiter:<host>:<worker>`, one counter for each proxy and host), so that both see each
//! other.
//!
//! # How
//! `book` is the pure half: what is open here, what Redis was told, who waits. `driver` is a thread
//! that carries the book's writes to Redis over a `link` and its answers back; `script` is what Redis
//! does. Workers only ever touch the book, behind a lock that is never held over IO. `line` has those
//! who wait for a place that is taken.
//!
//! dprl asks `KEYS` for its pattern at each connection, and Redis then walks through all its keys. Here
//! an index (`weir:forward:workers`) names the fleet's workers, and only their counters are read. A
//! worker of dprl does not enter itself, so somebody of the fleet looks for such by `SCAN` every
//! `REDIS_SCAN_INTERVAL`; one that is new, or had no connection for an hour, is not counted until then.
//! In the other direction nothing is late: dprl sees weir's counters at once.
//!
//! # Bounds
//! While Redis answers: never above the cap, but for a dprl that was not seen yet. While it does not,
//! `REDIS_FAIL` says what holds. With `local`, a proxy opens new connections as long as it has fewer
//! than its even part of the cap: all together have at most what was open before plus the parts of
//! those that had less, below twice the cap, and no more than the cap once what was open before has
//! closed. A proxy that alone is cut off is counted by the others for `REDIS_MAX_LIFETIME`.
//!
//! # Costs
//! A thread; for a connection one or two round trips, which all that come meanwhile share; in Redis
//! some microseconds for each write and worker of the fleet.

#![cfg_attr(
    not(feature = "io"),
    allow(dead_code, reason = "the pure half is used by the thread alone")
)]

mod book;
#[cfg(feature = "io")]
mod driver;
#[cfg(feature = "io")]
mod fleet;
mod keys;
pub(super) mod line;
#[cfg(feature = "io")]
mod link;
#[cfg(feature = "io")]
mod script;
mod share;

pub use book::Verdict;
#[cfg(feature = "io")]
pub use fleet::{Fleet, FleetError};
#[cfg(feature = "io")]
pub use link::LinkError;

/// Connects as a proxy does that starts, and leaves again. Nothing stays in Redis but its cache of scripts.
///
/// # Errors
/// Redis cannot be reached, or does not let weir in, or cannot do what is needed.
#[cfg(feature = "io")]
pub fn try_out(settings: &crate::config::RedisSettings) -> Result<(), LinkError> {
    link::Link::open(settings, driver::times(settings), "weir-check", 0).map(drop)
}

pub use crate::metrics::{FleetCounters as Counters, Standing};
