//! The forward proxy: `CONNECT` tunnels and absolute-form requests, with a cap on connections for
//! each host.
//!
//! ```text
//! client ─▶ accept ─▶ head: who (credentials) and where to (destination)
//!        ─▶ lookup: addresses, away from the workers; hosts::reach: may they be dialled?
//!        ─▶ limits: a slot of the host: now | wait in line | refuse
//!        ─▶ common: a place in the fleet, if caps are shared: now | wait in line | refuse
//!        ─▶ dial: the addresses side by side (RFC 8305)
//!        ─▶ tunnel: bytes both ways until both sides have ended │ exchange: one request, its answer
//!        ─▶ the slot goes back, whatever ended it
//! ```
//!
//! It has threads of its own, as many as there are workers, each with its ring and its listener: a
//! tunnel that moves gigabytes shares no loop with a bot's request, only the cores, which the kernel
//! divides fairly. Without `FORWARD_PORT` nothing of it exists.
//!
//! What is counted for all threads together sits behind one lock ([`limits`]), taken when a slot is
//! asked for, when its connection stands, when it is given back, and once a second for the bytes of
//! those that moved any.
//!
//! [`hosts`] is the pure part: the count and the line, the rules for addresses, the credentials.
//! [`shared`] is what a fleet of proxies knows of each other through Redis.

pub mod hosts;

#[cfg(feature = "io")]
mod accept;
#[cfg(feature = "io")]
mod client;
#[cfg(feature = "io")]
mod common;
#[cfg(feature = "io")]
mod connect;
#[cfg(feature = "io")]
mod dial;
#[cfg(feature = "io")]
mod exchange;
#[cfg(feature = "io")]
mod hub;
#[cfg(feature = "io")]
pub mod limits;
#[cfg(feature = "io")]
mod lookup;
#[cfg(feature = "io")]
mod post;
#[cfg(feature = "io")]
pub mod proxy;
#[cfg(feature = "io")]
mod registry;
#[cfg(feature = "io")]
mod tunnel;
#[cfg(feature = "io")]
mod upstream;
#[cfg(feature = "io")]
mod waits;
#[cfg(feature = "io")]
mod watch;
#[cfg(feature = "io")]
mod worker;

#[cfg(feature = "io")]
pub use limits::Limits;
#[cfg(feature = "io")]
pub use proxy::{ForwardProxy, Options};
pub mod shared;
