//! The metrics port: what weir tells those who run it, on threads of its own, never in a worker's
//! way.
//!
//! ```text
//! server      accepts; a newcomer pushes out who holds a seat and is silent
//!   └ connection   one request, its body, its answer, within five seconds
//!       └ pages    the table: method and path → what answers, and who may ask
//!           ├ gate        who may change what runs
//!           └ forward, control …   what is behind the pages
//! ```
//! A handful of connections at a time from people and scrapers: plain blocking sockets serve them
//! best.

mod answer;
mod connection;
mod control;
mod forward;
mod gate;
pub mod log;
mod page;
mod pages;
mod seats;
mod server;
mod status;

use std::net::{SocketAddr, TcpListener};

pub use server::AdminServer;

use crate::config::Config;
use crate::error::StartError;

/// Binds `METRICS_PORT`.
///
/// # Errors
/// The port is in use or not ours.
pub fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let address = SocketAddr::new(config.bind_ip, config.metrics_port);
    TcpListener::bind(address)
        .map_err(|source| StartError::listening("METRICS_PORT", address, source))
}
