//! A node as the others know it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How far the next generation lies, milliseconds: whoever was started again with a clock that went
/// back by an hour has caught up after sixty refusals, which takes a second.
const NEXT_GENERATION: u64 = 60_000;

/// One node of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Where its cluster port is; what it is known by.
    pub addr: SocketAddr,
    /// Tells it from whoever had the address before: when it was started, milliseconds since the Unix
    /// epoch, and later each time that it was taken for dead. The higher one holds.
    pub generation: u64,
    /// Where it takes requests, on the same address.
    pub proxy_port: u16,
    /// It speaks TLS there.
    pub tls: bool,
}

impl Node {
    /// Whoever is at this address.
    pub const fn at(addr: SocketAddr) -> Self {
        Self {
            addr,
            generation: 0,
            proxy_port: 0,
            tls: false,
        }
    }

    /// Where it takes requests.
    pub const fn proxy_addr(&self) -> SocketAddr {
        SocketAddr::new(self.addr.ip(), self.proxy_port)
    }

    /// Whether datagrams may be sent there.
    pub(super) fn is_reachable(&self) -> bool {
        let ip = self.addr.ip();
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        self.addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addr.fmt(f)
    }
}

impl foca::Identity for Node {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Self {
            generation: self.generation.saturating_add(NEXT_GENERATION),
            ..*self
        })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        // What else they carry decides between two of one generation, so that all decide alike.
        self > adversary
    }
}
