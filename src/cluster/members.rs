//! What workers know of the cluster: whose each identity is.
//!
//! Cost: a worker asks its [`View`], which looks whether the epoch is still the one it has seen (one
//! load from a line that all cores share and hardly anybody writes) and then reads its own table. A
//! change of members takes a lock, once for each worker.

use std::collections::VecDeque;
use std::net::UdpSocket;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::member::{Node, Refused};
use super::owner::{Owner, Ownership};
use super::sight::Sight;
use super::told::{Care, Told};
use super::wire::Ignored;
use crate::clock::{self, Instant};
use crate::limit::BucketKey;
use crate::metrics::Cluster as Counts;
use crate::route::slot::{SLOTS, SlotSet};

/// Failed relays that wait to be heard of by the control thread: as many as there can be nodes.
const SUSPECTS_MAX: usize = super::member::NODES_MAX;

/// Members of now and before that are remembered: those of a cluster of which all were replaced once.
const MET_MAX: usize = 2 * super::member::NODES_MAX;
/// Nodes that are remembered to be gone.
const GONE_MAX: usize = super::member::NODES_MAX;

/// The cluster as all threads share it.
pub struct Members {
    epoch: AtomicU64,
    current: Mutex<Current>,
    changed: Condvar,
    suspects: Mutex<Vec<Node>>,
    leaving: AtomicBool,
    ending: AtomicBool,
    ignored: [AtomicU64; Ignored::ALL.len()],
    refused: AtomicU64,
    told: Mutex<Told>,
    suspected: Mutex<Vec<Node>>,
    /// Members that serve nobody for now, since a relay to them failed.
    passed_over: Mutex<Vec<Node>>,
    sight: Mutex<Sight>,
    /// Nodes that are no members any more, and until when what was relayed to them is left to them.
    gone: Mutex<Arc<[(Node, Instant)]>>,
    /// Whether there are any: workers ask at each turn, and seldom is there anything to lock for.
    is_any_gone: AtomicBool,
    /// Lost slots that their new owners have not been told of yet, and whether there are any.
    untold: Mutex<SlotSet>,
    /// Nodes that are or were members, those seen first in front: one that leaves still hands over.
    met: Mutex<VecDeque<SocketAddr>>,
    is_untold: AtomicBool,
    /// What changed hands.
    pub(super) moves: Moved,
    /// `None` without a control thread.
    waker: Option<Waker>,
}

/// Counts of what changed hands, since the start.
#[derive(Default)]
pub(super) struct Moved {
    /// Slots that this node got, and that it lost.
    pub(super) gained: AtomicU64,
    pub(super) lost: AtomicU64,
    /// Hand-overs that another node has confirmed, that came, and that were given up.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Moved {
    pub(super) fn count(counter: &AtomicU64, more: usize) {
        counter.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// Who owns what.
struct Current {
    /// As it was published.
    published: Arc<Ownership>,
    /// The same without nodes that failed since: what workers go by.
    shown: Arc<Ownership>,
}

impl Current {
    fn of(ownership: Ownership) -> Self {
        let shown = Arc::new(ownership);
        Self {
            published: shown.clone(),
            shown,
        }
    }
}

impl Members {
    /// A cluster of this node alone, whose control thread reads from `socket`.
    ///
    /// # Errors
    /// There is no socket to be had to wake it with.
    pub(super) fn new(me: &Node, socket: &UdpSocket) -> std::io::Result<Arc<Self>> {
        let waker = Waker::new(socket.local_addr()?)?;
        Ok(Arc::new(Self::with(me, Some(waker))))
    }

    /// A cluster of this node alone, until somebody [publishes](Self::publish) another; no thread of
    /// weir's looks for its members.
    pub fn unattended(me: &Node) -> Arc<Self> {
        Arc::new(Self::with(me, None))
    }

    fn with(me: &Node, waker: Option<Waker>) -> Self {
        Self {
            epoch: AtomicU64::new(1),
            current: Mutex::new(Current::of(Ownership::new(&[], me))),
            changed: Condvar::new(),
            suspects: Mutex::default(),
            leaving: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ignored: Default::default(),
            refused: AtomicU64::new(0),
            told: Mutex::default(),
            suspected: Mutex::default(),
            passed_over: Mutex::default(),
            sight: Mutex::default(),
            gone: Mutex::new(Arc::new([])),
            is_any_gone: AtomicBool::new(false),
            untold: Mutex::default(),
            met: Mutex::default(),
            is_untold: AtomicBool::new(false),
            moves: Moved::default(),
            waker,
        }
    }

    /// A view for one worker.
    pub fn view(self: &Arc<Self>) -> View {
        let epoch = self.epoch.load(Ordering::Acquire);
        View {
            ownership: self.ownership(),
            members: self.clone(),
            epoch,
        }
    }

    /// Whose identities are whose now.
    pub fn ownership(&self) -> Arc<Ownership> {
        self.lock().shown.clone()
    }

    /// A node could not be reached: others have its identities at once, and it is passed over for a
    /// moment, which the others hear of. Published again, it is a member as before.
    pub fn suspect(&self, node: Node) {
        {
            let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
            if suspects.len() >= SUSPECTS_MAX || suspects.contains(&node) {
                return;
            }
            if self.waker.is_some() {
                suspects.push(node);
            }
        }
        self.hide(node);
        self.wake();
    }

    /// Workers no longer see this node.
    fn hide(&self, node: Node) {
        let before = self.ownership();
        if !before.nodes().contains(&node) || *before.me() == node {
            return;
        }
        // Made without the lock, for which others wait.
        let without = Arc::new(before.without(&node));
        let mut current = self.lock();
        // Whoever published meanwhile knows better.
        if Arc::ptr_eq(&current.shown, &before) {
            current.shown = without;
            self.epoch.fetch_add(1, Ordering::Release);
        }
    }

    /// Datagrams that were ignored, by reason.
    pub fn ignored(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self
            .ignored
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        let labels = Ignored::ALL.iter().map(|reason| reason.label());
        let refused = self.refused.load(Ordering::Relaxed);
        labels
            .zip(counts)
            .chain(std::iter::once(("refused", refused)))
    }

    /// Everything that is counted of the cluster.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let published = self.lock().published.clone();
        Counts {
            members: published.nodes().len() as u64,
            slots: published.slots_of(published.me()).len() as u64,
            gained: read(&self.moves.gained),
            lost: read(&self.moves.lost),
            sent: read(&self.moves.sent),
            received: read(&self.moves.received),
            failed: read(&self.moves.failed),
            ignored: self.ignored().collect(),
        }
    }

    /// What an operator is shown: JSON, without anything secret.
    pub fn page(&self) -> String {
        let (published, shown) = {
            let current = self.lock();
            (current.published.clone(), current.shown.clone())
        };
        let suspected = self.suspected();
        let node = |node: &Node| {
            let slots = shown.slots_of(node).len();
            let state = match (shown.nodes().contains(node), suspected.contains(node)) {
                (false, _) => "passed_over",
                (true, true) => "suspected",
                (true, false) => "alive",
            };
            let (share, me) = (slots as f64 / SLOTS as f64, node == published.me());
            format!(
                "{{\"address\":\"{}\",\"proxy\":\"{}\",\"this_node\":{me},\"state\":\"{state}\",\"slots\":{slots},\"share\":{share:.4}}}",
                node.addr,
                node.proxy_addr(),
            )
        };
        let passed_over = self.passed_over().clone();
        let mut all = published.nodes().to_vec();
        all.extend(
            passed_over
                .iter()
                .filter(|node| !published.nodes().contains(node)),
        );
        all.sort_unstable_by_key(|node| node.addr);
        let nodes: Vec<String> = all.iter().map(node).collect();
        let sight = serde_json::to_string(&self.sight().shown(clock::now()));
        let sight = sight.unwrap_or_default();
        format!(
            "{{\"epoch\":{},\"leaving\":{},\"members\":[{}],{}\n",
            self.epoch.load(Ordering::Acquire),
            self.is_leaving(),
            nodes.join(","),
            // What else there is to see, in the same object.
            sight.strip_prefix('{').unwrap_or("}")
        )
    }

    /// The nodes that may be dead.
    fn suspected(&self) -> MutexGuard<'_, Vec<Node>> {
        self.suspected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Members that serve nobody for now.
    fn passed_over(&self) -> MutexGuard<'_, Vec<Node>> {
        let passed_over = self.passed_over.lock();
        passed_over.unwrap_or_else(PoisonError::into_inner)
    }

    /// These members serve nobody for now, and no others.
    pub(super) fn set_passed_over(&self, nodes: Vec<Node>) {
        *self.passed_over() = nodes;
    }

    /// Who ought to be in sight, and whose datagrams were ignored.
    pub(super) fn sight(&self) -> MutexGuard<'_, Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks who is there.
    pub(super) fn look(&self, now: Instant) {
        let published = self.published();
        let passed_over = self.passed_over().clone();
        let there = published.nodes().iter().chain(&passed_over);
        let there: Vec<SocketAddr> = there.map(|node| node.addr).collect();
        self.sight().look(now, published.me().addr, &there);
    }

    /// A node may be dead, or no longer, nor whoever was at its address before.
    pub(super) fn set_suspected(&self, node: Node, is: bool) {
        let mut suspected = self.suspected();
        suspected.retain(|other| other.addr != node.addr);
        if is && suspected.len() < SUSPECTS_MAX {
            suspected.push(node);
        }
    }

    /// Nodes that are no members any more, and until when what was relayed to them is left to them;
    /// `None` as long as nobody has gone.
    pub fn gone(&self) -> Option<Arc<[(Node, Instant)]>> {
        let is_any = self.is_any_gone.load(Ordering::Acquire);
        is_any.then(|| self.gone_now().clone())
    }

    fn gone_now(&self) -> MutexGuard<'_, Arc<[(Node, Instant)]>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node is no member any more; what was relayed to it may end there until then.
    pub fn set_gone(&self, node: Node, until: Instant) {
        let mut gone = self.gone_now();
        // Those of long ago have been let go.
        let old = gone.len().saturating_sub(GONE_MAX);
        let kept = gone[old..].iter().filter(|(other, _)| *other != node);
        *gone = kept.copied().chain([(node, until)]).collect();
        self.is_any_gone.store(true, Ordering::Release);
    }

    /// These slots are to be told of, or no longer.
    pub(super) fn set_untold(&self, slots: &SlotSet, is: bool) {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if is {
            untold.add_all(slots);
        } else {
            untold.remove_all(slots);
        }
        self.is_untold.store(!untold.is_empty(), Ordering::Release);
    }

    /// Whether another node owns this identity now and is about to be told what is known of it.
    pub fn is_untold(&self, identity: u64) -> bool {
        self.is_untold.load(Ordering::Acquire) && {
            let untold = self.untold.lock();
            untold
                .unwrap_or_else(PoisonError::into_inner)
                .holds(identity)
        }
    }

    /// Whose identities are whose, as it was published last.
    pub(super) fn published(&self) -> Arc<Ownership> {
        self.lock().published.clone()
    }

    /// What was told of lately.
    pub(super) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What care is due with this request of an identity that another node owns: nobody told of it
    /// lately, and there was no care with it either. It counts as taken.
    pub fn care(&self, now: Instant, key: &BucketKey) -> Care {
        self.told().care(now, key)
    }

    /// Waits until there are others, but no longer than `patience`; whether there are.
    pub fn wait_for_others(&self, patience: Duration) -> bool {
        let until = clock::now() + patience;
        let mut current = self.lock();
        while current.published.is_alone() {
            let left = until.saturating_duration_since(clock::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(current, left);
            current = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Others are to take this node's place; it says so at once.
    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// The control thread ends.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }

    /// Whether a datagram from there is nothing but a wake-up.
    pub(super) fn is_wake(&self, from: SocketAddr) -> bool {
        self.waker
            .as_ref()
            .is_some_and(|waker| waker.from == Some(from))
    }

    pub(super) fn take_suspects(&self) -> Vec<Node> {
        std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn count_ignored(&self, why: Ignored) {
        let place = Ignored::ALL.iter().position(|reason| *reason == why);
        if let Some(count) = place.and_then(|place| self.ignored.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_refused(&self, _why: Refused) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this address is, or was, a member's.
    pub(super) fn has_met(&self, addr: SocketAddr) -> bool {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.contains(&addr)
    }

    fn meet(&self, nodes: &[Node]) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        for node in nodes {
            if met.contains(&node.addr) {
                continue;
            }
            if met.len() >= MET_MAX {
                met.pop_front();
            }
            met.push_back(node.addr);
        }
    }

    /// From now on this is so; what was before.
    pub fn publish(&self, ownership: Ownership) -> Arc<Ownership> {
        self.meet(ownership.nodes());
        let current = Current::of(ownership);
        let before = std::mem::replace(&mut *self.lock(), current).published;
        // After the exchange: whoever sees the epoch finds what it stands for, or something newer.
        self.epoch.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
        before
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // What is in there is whole between any two statements.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's sight of the cluster.
pub struct View {
    members: Arc<Members>,
    epoch: u64,
    ownership: Arc<Ownership>,
}

impl View {
    /// Who owns this identity.
    #[inline]
    pub fn owner(&mut self, identity: u64) -> Owner<'_> {
        self.ownership().owner(identity)
    }

    /// Who owns what, as it is now.
    #[inline]
    pub fn ownership(&mut self) -> &Ownership {
        let epoch = self.members.epoch.load(Ordering::Acquire);
        if epoch != self.epoch {
            self.ownership = self.members.ownership();
            self.epoch = epoch;
        }
        &self.ownership
    }

    /// The same, to be kept.
    pub fn shared(&mut self) -> Arc<Ownership> {
        self.ownership();
        self.ownership.clone()
    }

    /// The cluster.
    pub fn members(&self) -> &Arc<Members> {
        &self.members
    }
}

/// Wakes a thread that waits for datagrams, with one that is empty.
struct Waker {
    socket: UdpSocket,
    from: Option<SocketAddr>,
    to: SocketAddr,
}

impl Waker {
    fn new(mut to: SocketAddr) -> std::io::Result<Self> {
        if to.ip().is_unspecified() {
            to.set_ip(match to.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            });
        }
        let socket = UdpSocket::bind((to.ip(), 0))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            from: socket.local_addr().ok(),
            socket,
            to,
        })
    }

    fn wake(&self) {
        // If it is lost, the thread looks by itself within a probe's period.
        let _ = self.socket.send_to(&[], self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8) -> Node {
        Node {
            proxy_port: 8080,
            ..Node::at(([127, 0, 0, last], 7654).into())
        }
    }

    /// The owners of all slots.
    fn owners(view: &mut View) -> Vec<Option<Node>> {
        let identities = (0..4_096_u64).map(|slot| slot << 32);
        let owners = identities.map(|identity| match view.owner(identity) {
            Owner::Here => None,
            Owner::There(node) => Some(*node),
        });
        owners.collect()
    }

    #[test]
    fn a_view_sees_what_is_published_after_it_was_made() {
        let members = Members::unattended(&node(1));
        let mut view = members.view();
        assert!(owners(&mut view).iter().all(Option::is_none));
        members.publish(Ownership::new(&[node(1), node(2)], &node(1)));
        let there = owners(&mut view);
        let there = there.iter().filter(|owner| **owner == Some(node(2)));
        assert!((1_500..2_600).contains(&there.count()));
        members.publish(Ownership::new(&[node(1)], &node(1)));
        assert!(owners(&mut view).iter().all(Option::is_none));
    }

    #[test]
    fn a_node_that_failed_owns_nothing_until_it_is_published_again() {
        let members = Members::unattended(&node(1));
        let all = [node(1), node(2), node(3)];
        members.publish(Ownership::new(&all, &node(1)));
        let mut view = members.view();
        let before = owners(&mut view);
        members.suspect(node(2));
        let after = owners(&mut view);
        assert!(before.contains(&Some(node(2))) && !after.contains(&Some(node(2))));
        let stays = |(b, a): (&Option<Node>, &Option<Node>)| *b == Some(node(2)) || b == a;
        assert!(before.iter().zip(&after).all(stays), "nothing else moves");
        // What moves is told from what was published, not from what workers go by meanwhile.
        let published = members.publish(Ownership::new(&all, &node(1)));
        assert_eq!(published.nodes(), &all);
        assert_eq!(owners(&mut view), before);
    }

    #[test]
    fn a_node_that_leaves_takes_nothing_back_when_another_fails() {
        let members = Members::unattended(&node(1));
        members.publish(Ownership::leaving(&[node(2), node(3)], &node(1)));
        let mut view = members.view();
        members.suspect(node(2));
        assert_eq!(owners(&mut view), [Some(node(3)); SLOTS]);
    }

    #[test]
    fn a_suspicion_ends_with_whoever_is_at_the_address_next() {
        let members = Members::unattended(&node(1));
        let again = Node {
            generation: 7,
            ..node(2)
        };
        members.set_suspected(node(2), true);
        members.set_suspected(node(3), true);
        members.set_suspected(again, false);
        assert_eq!(*members.suspected(), [node(3)]);
    }

    #[test]
    fn a_member_that_is_passed_over_is_on_the_page_without_slots() {
        let members = Members::unattended(&node(1));
        members.publish(Ownership::new(&[node(1), node(3)], &node(1)));
        members.set_passed_over(vec![node(2)]);
        let page: serde_json::Value = serde_json::from_str(&members.page()).expect("JSON");
        let each = page["members"].as_array().expect("members").iter();
        let states: Vec<_> = each.map(|member| member["state"].as_str()).collect();
        let states: Vec<_> = states.into_iter().flatten().collect();
        assert_eq!(states, ["alive", "passed_over", "alive"]);
        assert_eq!(page["members"][1]["slots"], 0);
        members.look(clock::now());
        let page: serde_json::Value = serde_json::from_str(&members.page()).expect("JSON");
        assert_eq!(page["alone_ms"], serde_json::Value::Null);
    }

    #[test]
    fn this_node_and_one_that_is_none_cannot_fail() {
        let members = Members::unattended(&node(1));
        members.publish(Ownership::new(&[node(1), node(2)], &node(1)));
        let mut view = members.view();
        let before = owners(&mut view);
        members.suspect(node(1));
        members.suspect(node(3));
        assert_eq!(owners(&mut view), before);
    }
}
