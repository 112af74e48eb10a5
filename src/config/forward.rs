//! What can be decided about the forward proxy.

mod patterns;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::bounds;
use crate::destination::HostKey;

pub use patterns::{HostPatterns, NotAPattern};
pub(super) use settings::FORWARD;

/// Everything that can be decided about the forward proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// `FORWARD_PORT`, or `DPRL_PORT`: the port; 0 takes a free one, `None` is no forward proxy.
    pub port: Option<u16>,
    /// `FORWARD_BIND_IP`: the address that it is served on.
    pub bind_ip: IpAddr,
    /// `FORWARD_MAX_CONNECTIONS`, or `DPRL_MAX_CONNECTIONS`: connections to each host that has no
    /// limit of its own; 0 for no limit.
    pub max_connections: u32,
    /// `FORWARD_HOST_LIMITS`: the limits of single hosts; 0 for no limit, whatever that of all is.
    pub host_limits: BTreeMap<HostKey, u32>,
    /// `FORWARD_REJECT_STATUS`: what a client beyond the limit is told.
    pub reject_status: RejectStatus,
    /// `FORWARD_QUEUE_TIMEOUT`: how long it may wait for a connection first; `None` for not at all.
    pub queue_timeout: Option<Duration>,
    /// `FORWARD_ALLOW`: the only hosts and addresses that are reached; `None` for all public ones.
    pub allow: Option<HostPatterns>,
    /// `FORWARD_DENY`: hosts and addresses that are never reached.
    pub deny: HostPatterns,
    /// `FORWARD_CREDENTIALS_FILE`: who may use it, a `user:password` on each line; `None` for
    /// everybody who may connect.
    pub credentials_file: Option<PathBuf>,
    /// `FORWARD_CONNECT_TIMEOUT`: from looking a host up to its accepting.
    pub connect_timeout: Duration,
    /// `FORWARD_IDLE_TIMEOUT`: how long a connection may be silent both ways.
    pub idle_timeout: Duration,
    /// `FORWARD_MAX_CLIENTS`: client connections of the forward proxy; fewer where the limit of open
    /// files leaves no room for as many.
    pub max_clients: usize,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            port: None,
            bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            max_connections: 0,
            host_limits: BTreeMap::new(),
            reject_status: RejectStatus::InternalServerError,
            queue_timeout: None,
            allow: None,
            deny: HostPatterns::default(),
            credentials_file: None,
            connect_timeout: bounds::FORWARD_CONNECT_TIMEOUT,
            idle_timeout: bounds::FORWARD_IDLE_TIMEOUT,
            max_clients: bounds::FORWARD_CLIENTS,
        }
    }
}

/// What a client beyond a limit is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RejectStatus {
    /// 500, as dprl.
    InternalServerError,
    /// 503 with `Retry-After`.
    ServiceUnavailable,
}

impl RejectStatus {
    /// The status.
    pub const fn code(self) -> u16 {
        match self {
            Self::InternalServerError => 500,
            Self::ServiceUnavailable => 503,
        }
    }
}

#[cfg(test)]
mod tests;
