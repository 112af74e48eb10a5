//! The other nodes of the cluster, as one worker sees them: who owns what, and a pool of connections to
//! each.
//!
//! Connections to nodes are this worker's own, HTTP/1.1, under TLS where the node has a certificate, kept
//! alive and bounded as those to the upstream are. A request that waits for a limit at its owner holds one all the while.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;

use super::CONNECT_TIMEOUT;
use crate::clock::{self, Instant};
use crate::cluster::View;
use crate::cluster::member::{NODES_MAX, Node};
use crate::cluster::owner::{Owner, Ownership};
use crate::error::{Error, Kind};
use crate::http1::RequestHead;
use crate::io::{Deadlines, Seldom};
use crate::mesh::Local;
use crate::process::Process;
use crate::route::BucketKey;
use crate::tls::Trust;
use crate::upstream::resolve::Resolver;
use crate::upstream::{Bounds, Target, Upstream};

/// How long opening a connection to another node may take: on a LAN a millisecond, or a second more
/// if the first packet was lost (RFC 6298). What a request waits for a node that is gone.
pub(super) const NODE_CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

const _: () = assert!(NODE_CONNECT_TIMEOUT.as_millis() < CONNECT_TIMEOUT.as_millis());

/// How long a node's system may confirm nothing, or take nothing, before what waits for it is taken elsewhere:
/// two lost packets in a row are none of it. Bodies are [waited for](super::elsewhere::Patience) longer.
pub(super) const NODE_SILENCE_MAX: Duration = Duration::from_secs(3);

/// How often it is looked whether a node that is gone has been replaced.
const GONE_LOOK: Duration = Duration::from_millis(10);

/// How long a connection to a node idles before it is closed: less than half of what the other side
/// grants by default, so that it is this side that closes.
const NODE_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection to a node is used again without a look. A node that ends closes what has been
/// idle for half a second, so that only one that dies within this time leaves a connection that is dead
/// and does not look it; the answer to what it carried before would have been as lost a moment earlier.
const NODE_TRUSTED_FOR: Duration = Duration::from_millis(1);

/// How long a request of an identity that has changed hands waits for its new owner to be told: as a
/// hand-over to a node that lives takes some milliseconds, one that takes longer will fail.
const TELLING_MAX: Duration = Duration::from_millis(300);
/// How often it is looked whether that has been done.
const TELLING_LOOK: Duration = Duration::from_millis(5);

/// One other node.
pub(super) struct Peer {
    pub(super) node: Node,
    /// Its proxy's address, as `nirn-routed-to` tells it.
    pub(super) name: Box<[u8]>,
    /// Connections to it.
    pub(super) connections: Rc<Upstream>,
    /// It is gone, and its connections were ended from here.
    pub(super) let_go: Cell<bool>,
}

/// See the module's documentation.
pub(super) struct Peers {
    process: Arc<Process>,
    view: RefCell<View>,
    /// Who owned what when it was last looked at who waits.
    waited: RefCell<Arc<Ownership>>,
    /// By where they take requests. Invariant: at most [`NODES_MAX`].
    known: RefCell<AHashMap<SocketAddr, Rc<Peer>>>,
    deadlines: Deadlines,
    /// Nodes that could not prove to be ones, as far as they are told of.
    disbelieved: Seldom,
}

/// What a connection or a request shows of where it is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Somebody who uses this weir.
    Client,
    /// nirn-proxy's word that the request was routed here: it is handled here, and that is all.
    Routed,
    /// Another weir of the cluster, which understands what it is told of the request.
    Node,
}

/// Somebody claims to be a node and is none of this cluster's.
pub(super) struct Unproven;

impl Peers {
    /// `None` outside a cluster.
    pub(super) fn new(process: &Arc<Process>, deadlines: &Deadlines) -> Option<Self> {
        let members = process.cluster.as_ref()?;
        Some(Self {
            process: process.clone(),
            view: RefCell::new(members.view()),
            waited: RefCell::new(members.ownership()),
            known: RefCell::default(),
            deadlines: deadlines.clone(),
            disbelieved: Seldom::default(),
        })
    }

    /// The other node that owns this identity; `None` if it is this one.
    pub(super) fn owner(&self, identity: u64) -> Option<Rc<Peer>> {
        let node = match self.view.borrow_mut().owner(identity) {
            Owner::Here => return None,
            Owner::There(node) => *node,
        };
        Some(self.peer(node))
    }

    /// This node, as others are connected to.
    pub(super) fn peer(&self, node: Node) -> Rc<Peer> {
        let addr = node.proxy_addr();
        if let Some(peer) = self.known.borrow().get(&addr)
            && peer.node == node
        {
            return peer.clone();
        }
        self.meet(node)
    }

    /// A node that was not known, or has changed.
    fn meet(&self, node: Node) -> Rc<Peer> {
        let addr = node.proxy_addr();
        let mut known = self.known.borrow_mut();
        if known.len() >= NODES_MAX {
            // Those of long ago: what they carry goes on until it ends.
            known.clear();
        }
        let name = addr.to_string();
        let connections = match known.get(&addr) {
            Some(before) if !before.let_go.get() && before.node.tls == node.tls => {
                before.connections.clone()
            }
            _ => {
                let target = Target {
                    authority: name.as_str().into(),
                    tls: self.trust(&node),
                    resolver: Arc::new(Resolver::fixed(addr)),
                    outbound: None,
                    outage: self.process.troubles.outage_of(addr),
                };
                let bounds = Bounds {
                    connections_max: self.process.node_connections_max,
                    idle_timeout: NODE_IDLE_TIMEOUT
                        .min(self.process.config.client_idle_timeout / 2),
                    connect_timeout: NODE_CONNECT_TIMEOUT,
                    silence_max: Some(NODE_SILENCE_MAX),
                    trusted_for: NODE_TRUSTED_FOR,
                };
                Upstream::new(target, bounds, self.deadlines.clone())
            }
        };
        let peer = Rc::new(Peer {
            node,
            name: name.into_bytes().into(),
            connections,
            let_go: Cell::new(false),
        });
        known.insert(addr, peer.clone());
        peer
    }

    /// What a node has to prove; `None` if it speaks plain.
    pub(super) fn trust(&self, node: &Node) -> Option<Trust> {
        let trust = self.process.node_trust.as_ref().filter(|_| node.tls)?;
        Some(trust.towards(node.addr.ip()))
    }

    /// A request is for this identity, which is another node's as far as is known here, or was a moment
    /// ago. It is served, with care: what its owner let go is not known, unless it said so lately.
    #[cold]
    pub(super) fn serves_for_another(&self, now: Instant, key: &BucketKey) {
        let care = self.view.borrow().members().care(now, key);
        care.take(now, self.process.mesh.limiter(), key);
    }

    /// Sends those who wait here for limits that are another node's now to that node.
    pub(super) fn send_on(&self, local: &Local) {
        let mut waited = self.waited.borrow_mut();
        let mut view = self.view.borrow_mut();
        let now = view.shared();
        if Arc::ptr_eq(&waited, &now) {
            return;
        }
        local.send_on(|identity| {
            waited.owner(identity) == Owner::Here && now.owner(identity) != Owner::Here
        });
        *waited = now;
    }

    /// Waits until the new owner of an identity that was this node's has been told what is known of it,
    /// but no longer than that may take on a LAN.
    pub(super) async fn told(&self, identity: u64) {
        let until = clock::now() + TELLING_MAX;
        let members = self.view.borrow().members().clone();
        while members.is_untold(identity) && clock::now() < until {
            monoio::time::sleep(TELLING_LOOK).await;
        }
    }

    /// Whether [`Self::told`] would wait.
    pub(super) fn is_untold(&self, identity: u64) -> bool {
        self.view.borrow().members().is_untold(identity)
    }

    /// Who owns what, as it is now.
    pub(super) fn ownership(&self) -> Arc<Ownership> {
        self.view.borrow_mut().shared()
    }

    /// This node could not be reached: what it owns is others' from now on, or this one's.
    pub(super) fn failed(&self, peer: &Peer) {
        self.view.borrow().members().suspect(peer.node);
    }

    /// Says, now and then, of a node that did not prove to be one why it is not asked.
    pub(super) fn tell_of(&self, node: &Node, error: &Error) {
        let is_known = matches!(error.kind, Kind::TlsCertificate | Kind::TlsHandshake);
        if is_known && let Some(unsaid) = self.disbelieved.happened(clock::now()) {
            tracing::error!(
                %node,
                %error,
                unsaid,
                "no TLS with a node of the cluster: what belongs to it is served elsewhere, and limits may be \
                 overstepped. Its certificate must be signed by CLUSTER_CA_FILE and carry its address or \
                 CLUSTER_TLS_NAME; with TLS_CLIENT_CA_FILE there, this node's must be signed by that, too"
            );
        }
    }

    /// Whether connections from this address are other nodes'.
    pub(super) fn is_member(&self, ip: IpAddr) -> bool {
        let mut view = self.view.borrow_mut();
        let ownership = view.ownership();
        let mut others = ownership
            .nodes()
            .iter()
            .filter(|node| *node != ownership.me());
        others.any(|node| node.addr.ip().to_canonical() == ip.to_canonical())
    }

    /// The header line that the first request on a connection to `peer` carries.
    pub(super) fn pass(&self, peer: &Peer, out: &mut Vec<u8>) {
        out.extend_from_slice(b"weir-pass: ");
        self.process.passes.make(&peer.name, clock::unix_ms(), out);
        out.extend_from_slice(b"\r\n");
    }

    /// Where a request is from that says that it was routed here, on a connection that is a `node`'s or
    /// not yet.
    ///
    /// # Errors
    /// It is on a connection that claims to be a node's and cannot show it. Nothing may come of it: who
    /// handled it, or sent it on as a client's, could do so in turn with whoever sent it.
    pub(super) fn origin(&self, head: &RequestHead<'_>, node: bool) -> Result<Origin, Unproven> {
        if node {
            let routed = head.routed_to.is_some();
            return Ok(if routed { Origin::Node } else { Origin::Client });
        }
        self.shown(head.routed_to, head.node_pass)
    }

    /// The same of a connection's first request.
    ///
    /// # Errors
    /// See [`Self::origin`].
    pub(super) fn shown(
        &self,
        routed_to: Option<&[u8]>,
        pass: Option<&[u8]>,
    ) -> Result<Origin, Unproven> {
        let passes = &self.process.passes;
        let name = routed_to.unwrap_or_default();
        let Some(pass) = pass else {
            // A secret leaves nobody the right to say so who does not know it.
            let routed = !name.is_empty() && !passes.are_needed();
            return Ok(if routed {
                Origin::Routed
            } else {
                Origin::Client
            });
        };
        let me = *self.view.borrow_mut().ownership().me();
        // Until it is known at which address the others see this node.
        let unknown = me.addr.ip().is_unspecified() || me.proxy_port == 0;
        let ours = unknown || me.proxy_addr().to_string().as_bytes() == name;
        if name.is_empty() {
            return Ok(Origin::Client);
        }
        if passes.are_needed() && !ours {
            return Err(Unproven);
        }
        match passes.check(pass, name, clock::unix_ms()) {
            Ok(()) => Ok(Origin::Node),
            Err(_) => Err(Unproven),
        }
    }

    /// Ends what is relayed to nodes that are gone: a process that hangs keeps its connections, and the
    /// kernel that answers for it finds nothing wrong. When to look again.
    fn let_go(&self, now: Instant) -> Option<Instant> {
        let mut view = self.view.borrow_mut();
        let gone = view.members().gone()?;
        let shown = view.shared();
        let mut next: Option<Instant> = None;
        for peer in self.known.borrow().values().filter(|p| !p.let_go.get()) {
            let of_peer = gone.iter().find(|(node, _)| *node == peer.node);
            let Some((_, until)) = of_peer else { continue };
            // What is let go asks who owns it now, and that must be somebody else.
            let until = match shown.nodes().contains(&peer.node) {
                true => (now + GONE_LOOK).max(*until),
                false => *until,
            };
            if until <= now {
                peer.let_go.set(true);
                peer.connections.cut();
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        next
    }

    /// Closes connections that have idled too long, ends those to nodes that are gone, and returns when to
    /// look again.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let let_go = self.let_go(now);
        let known = self.known.borrow();
        let next = known
            .values()
            .filter_map(|peer| peer.connections.expire(now));
        next.chain(let_go).min()
    }

    /// Closes all idle connections.
    pub(super) fn close_idle(&self) {
        for peer in self.known.borrow().values() {
            peer.connections.close_idle();
        }
    }

    /// Ends every connection; from now on none is lent.
    pub(super) fn cut(&self) {
        for peer in self.known.borrow().values() {
            peer.connections.cut();
        }
    }
}
