//! A mock Discord with an oracle, and the load that drives weir against it.
//!
//! - [`mock`]: Discord's side of the rules over real TLS and HTTP/1.1, with faults on demand and an
//!   oracle that counts every violation. In process by [`mock::start`], as a program by
//!   `loadtest mock`.
//! - [`load`]: an open- and closed-loop generator (`loadtest load`).
//! - [`client`]: a blocking client that shows what happened on the wire, for tests.
//! - [`compare`]: weir beside nginx, haproxy and a bare byte relay (`loadtest compare`).
//!   What a request costs as something grows: [`compare::scale`] (`loadtest scale`).
//! - [`handoff`]: deciding in place against messages between two workers (`loadtest handoff`).
//! - [`pictures`]: a run as SVG (`loadtest pictures`).
//! - [`soak`]: hours of faults, churn and load in minutes (`loadtest soak`).
//! - [`tunnel`]: the forward proxy's tunnels beside a bare relay (`loadtest tunnel`).
//! - [`demo`]: bots, weir and the mock at work (`loadtest demo`).
//!
//! The rules are written from Discord's side and share no code with weir's limiter.

pub mod client;
pub mod compare;
pub mod demo;
pub mod handoff;
pub mod load;
pub mod mock;
pub mod pictures;
pub mod runtime;
pub mod soak;
pub mod tunnel;
