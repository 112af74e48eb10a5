//! Which hosts a forward proxy reaches, and how many connections each of them has.
//!
//! [`slots`] counts connections and keeps those in line that have to wait, [`reach`] says which
//! addresses may be dialled, [`credentials`] who may ask. Pure: sockets, locks and clocks are those
//! of the shells around it.

pub mod credentials;
pub mod reach;
pub mod slots;

pub use crate::destination::{Destination, Host, HostKey};
