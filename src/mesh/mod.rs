//! How a request reaches a bucket that lives on another worker.
//!
//! Each shard of the limiter sits behind its own lock, and any worker decides in place: an
//! uncontended lock costs 13 to 29 ns, a message to a sleeping core 20 µs of CPU, more than the
//! whole request. So a request that can go now never leaves its core. One that must wait is queued
//! in the shard, whose worker (the one of the same number) keeps its timer and sends the
//! `Permit` to the worker whose request it is. Permits cross cores; sockets and bodies never do.
//!
//! ```text
//! worker 0                      shard 1 (lock)                   worker 1
//! ask ────────────────────────▶ go / wait / refuse
//! report ─────────────────────▶ frees slots ──▶ Permit ────────▶ mailbox ─▶ wakes one request
//!                               earlier deadline ──────────────▶ mailbox ─▶ re-arms its sleep
//! mailbox ◀──────────────────── Permit ◀── tick when due ◀────── its one sleeping task
//! ```
//!
//! This module is the only place that knows of locks and mailboxes; [`Local`] is what a worker
//! sees of it.

#[cfg(feature = "io")]
pub mod local;
#[cfg(feature = "io")]
pub mod mailbox;
pub mod owner;
#[cfg(feature = "io")]
pub mod shards;
#[cfg(feature = "io")]
pub mod waiting;

#[cfg(feature = "io")]
pub use local::{Asked, Grant, Local, Request, Waiting};
#[cfg(feature = "io")]
pub use shards::Mesh;

#[cfg(all(test, feature = "io"))]
mod tests;
