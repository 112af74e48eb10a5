//! Which hosts a forward proxy reaches, and how many connections each of them has.
//!
//! Pure: sockets, locks and clocks are those of the shells around it.

pub use crate::destination::{Destination, Host, HostKey};
