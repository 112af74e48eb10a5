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
//! - [`change`]: what is due when owners change (pure);
//! - [`wire`]: what nodes send each other (pure);
//! - [`members`]: what workers read of it, for one load a request;
//! - [`passes`]: how relayed requests show where they are from;
//! - [`control`]: the thread that keeps it true; `finder` looks up names for it;
//! - `handover`: sends what is known of lost slots to their new owner, and takes in what others tell;
//! - [`told`]: what was told of lately, and is not doubted (pure).
//!
//! # When slots change hands
//! The control thread publishes the new owners, then
//! 1. workers send the requests that wait for limits in lost slots to the new owner;
//! 2. what is known of those slots is cut out of the limiter
//!    ([`snapshot::Cut`](crate::limit::snapshot::Cut)) and the identify queue, whose bots of them rest
//!    ([`Queues::lost`](crate::identify::Queues::lost)), sent ([`wire::HandOver`]) and added there to the
//!    stricter ([`Limiter::take_over`](crate::limit::Limiter::take_over),
//!    [`Queues::take_over`](crate::identify::Queues::take_over));
//! 3. with slots that it got, this node is careful
//!    ([`Limiter::be_careful`](crate::limit::Limiter::be_careful),
//!    [`Queues::gained`](crate::identify::Queues::gained)) until it is told of them: bots wait for that in
//!    the line for their window, webhooks in their buckets; interactions, whose first answer is due
//!    within three seconds and which nobody has anything to tell of, do not.
//!
//! Nodes hear of it one after the other, and one that has just started hears of one node after the other:
//! a request that comes to another than its owner is [relayed on](owner::RELAYS_MAX).
//!
//! A node that leaves does the first two with all of its slots. The simulation of a cluster (`sim`)
//! does the same in virtual time.

#[cfg(feature = "io")]
mod address;
pub mod change;
#[cfg(feature = "io")]
pub mod control;
#[cfg(feature = "io")]
mod finder;
#[cfg(feature = "io")]
mod handover;
pub mod member;
#[cfg(feature = "io")]
pub mod members;
pub mod owner;
#[cfg(feature = "io")]
pub mod passes;
#[cfg(feature = "io")]
pub mod secret;
#[cfg(feature = "io")]
mod sight;
pub mod told;
#[cfg(feature = "io")]
mod unreached;
pub mod wire;

#[cfg(feature = "io")]
pub use control::{Cluster, Parts, Tls};
#[cfg(feature = "io")]
pub use members::{Members, View};
#[cfg(feature = "io")]
pub use secret::Secret;
