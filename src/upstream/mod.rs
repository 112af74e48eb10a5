//! The way to Discord: pooled connections of one worker, opened, checked, lent and taken back.
//!
//! A worker never uses another's connection. [`Upstream::at_hand`] and [`Upstream::lease`] give one
//! exchange a connection: an idle one that still lives, or a new one. The number of exchanges under way is capped, so the
//! number of connections is; those beyond the cap wait in line.

#[cfg(feature = "io")]
pub mod connection;
#[cfg(feature = "io")]
pub mod dial;
#[cfg(feature = "io")]
pub mod lease;
#[cfg(feature = "io")]
pub mod outage;
pub mod pool;
#[cfg(feature = "io")]
pub mod resolve;
#[cfg(feature = "io")]
mod sessions;
#[cfg(feature = "io")]
pub mod slots;
#[cfg(feature = "io")]
pub mod trust;

#[cfg(feature = "io")]
pub use lease::{Bounds, Lease, Target, Upstream};
