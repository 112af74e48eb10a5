//! Many nodes, one set of limits.
//!
//! All nodes take all requests. Each identity (a bot, a bearer, a webhook) belongs to one of them, so
//! that its limits need no agreement; the others hand its requests on. Nodes come and go: then some
//! identities change hands, and what their node knew of them goes along.
//!
//! ```text
//! names ── finder: DNS ──▶ seeds ─┐
//! UDP ── wire: opened, checked ───┴▶ control thread: member ──▶ members: ownership, an epoch ──▶ workers
//!                                        └ moves ──▶ limiter: careful with what it got
//! ```
//!
//! - [`member`]: who is there (pure);
//! - [`owner`]: whose an identity is (pure);
//! - [`wire`]: what nodes send each other (pure);
//! - [`members`]: what workers read of it, for one load a request;
//! - [`passes`]: how relayed requests show where they are from;
//! - [`control`]: the thread that keeps it true; `finder` looks up names for it.
//!
//! # Where state changes hands
//! The control thread knows what moves ([`owner::Moves`]); it makes the limiter careful with what this
//! node got. What it lost is to be cut out of the limiter
//! ([`snapshot::Cut`](crate::limit::snapshot::Cut)), sent ([`wire::HandOver`]) and added there
//! ([`Limiter::take_over`](crate::limit::Limiter::take_over)).

#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
mod finder;
pub mod member;
#[cfg(feature = "io")]
pub mod members;
pub mod owner;
#[cfg(feature = "io")]
pub mod passes;
#[cfg(feature = "io")]
pub mod secret;
pub mod wire;

#[cfg(feature = "io")]
pub use control::Cluster;
#[cfg(feature = "io")]
pub use members::{Members, View};
#[cfg(feature = "io")]
pub use secret::Secret;
