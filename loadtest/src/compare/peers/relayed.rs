//! Two nodes of weir, side by side on a proxy's core: the load goes to the one, and all of it is of bots
//! that the other owns.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
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

/// An address on loopback for a node's cluster port, which nobody uses now.
fn cluster_address(last: u8) -> io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0))?.local_addr()
}
