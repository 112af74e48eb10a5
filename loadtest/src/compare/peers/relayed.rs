//! Two nodes of weir, side by side on a proxy's core: the load goes to the one, and all of it is of bots
//! that the other owns.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use weir::cluster::member::Node;
use weir::cluster::owner::{Owner as Whose, Ownership};
use weir::cluster::secret;
use weir::route::{Keys, PathIdentity, identity};

use super::{Running, Stage, await_serving, weir as alone};
use crate::client::Target;

/// How long the nodes are given to find each other after both serve: a few rounds of datagrams.
const ACQUAINTANCE: Duration = Duration::from_millis(500);

/// Ports below are services'.
const PORTS_FROM: u16 = 10_000;

/// The node that owns what is sent.
#[derive(Debug)]
pub(super) struct Owner {
    ownership: Ownership,
    keys: Keys,
}

impl Owner {
    /// Whether it owns the bot of this `Authorization`.
    pub(super) fn owns(&self, authorization: &str) -> bool {
        let sender = identity::parse(Some(authorization.as_bytes()));
        let key = self
            .keys
            .identity_key(&PathIdentity::Authorization, &sender);
        self.ownership.owner(key) == Whose::Here
    }
}

pub(super) fn start(stage: &Stage) -> io::Result<Running> {
    let [first, second] = [cluster_address(1)?, cluster_address(2)?];
    let mut processes = Vec::new();
    let mut target = None;
    for (own, other) in [(first, second), (second, first)] {
        let settings = [
            ("CLUSTER_PORT", own.port().to_string()),
            ("CLUSTER_MEMBERS", other.to_string()),
            ("ENABLE_METRICS", "false".to_owned()),
        ];
        let (mut process, addr) = alone::start_at(stage, own.ip(), &settings)?;
        await_serving(&mut process, addr)?;
        processes.push(process);
        target.get_or_insert(Target::plain(addr));
    }
    thread::sleep(ACQUAINTANCE);
    let nodes = [Node::at(first), Node::at(second)];
    Ok(Running {
        target: target.ok_or(io::ErrorKind::NotFound)?,
        processes,
        owner: Some(Owner {
            ownership: Ownership::new(&nodes, &nodes[1]),
            keys: Keys::with_seeds(secret::seeds(None)),
        }),
    })
}

/// An address on loopback for a node's cluster port, of which nobody uses either protocol now. Not one that
/// the system hands out: a connection of an earlier run would keep it for a minute.
fn cluster_address(last: u8) -> io::Result<SocketAddr> {
    let handed_out = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let first = handed_out.split_whitespace().next();
    let below: u16 = first.and_then(|port| port.parse().ok()).unwrap_or(u16::MAX);
    let ports = (PORTS_FROM..below).rev();
    let ports = ports.map(|port| SocketAddr::from(([127, 0, 0, last], port)));
    let is_free = |addr: &SocketAddr| {
        let both = (UdpSocket::bind(addr), TcpListener::bind(addr));
        matches!(both, (Ok(_), Ok(_)))
    };
    let mut free = ports.filter(is_free);
    free.next().ok_or_else(|| io::ErrorKind::AddrInUse.into())
}
