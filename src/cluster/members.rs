//! Who owns what, as the workers read it.
//!
//! One thread publishes, all workers read. A worker keeps what it read, and looks with one load
//! whether it is out of date; the lock is taken only after a change.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::member::Node;
use super::owner::{Owner, Ownership};

/// What is published, and who is told of nodes that fail.
pub struct Members {
    /// Counts changes of `current`, which is locked while it is counted up.
    epoch: AtomicU64,
    /// `None` until somebody publishes: then this node is alone.
    current: Mutex<Option<Arc<Ownership>>>,
    /// Called with a node that could not be reached.
    on_failure: Box<dyn Fn(Node) + Send + Sync>,
}

impl Members {
    /// Nobody else is there. `on_failure` is called, by workers, with each node that cannot be
    /// reached: it must not block.
    pub fn new(on_failure: impl Fn(Node) + Send + Sync + 'static) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            current: Mutex::new(None),
            on_failure: Box::new(on_failure),
        }
    }

    /// From now on these are the owners.
    pub fn publish(&self, ownership: Ownership) {
        let mut current = self.lock();
        *current = Some(Arc::new(ownership));
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// The owners; `None` if there was never another node.
    pub fn current(&self) -> Option<Arc<Ownership>> {
        self.lock().clone()
    }

    /// A node could not be reached: others have its identities at once, until somebody publishes
    /// again.
    pub fn failed(&self, node: &Node) {
        let Some(before) = self.current() else {
            return;
        };
        if !before.nodes().contains(node) {
            return;
        }
        let left: Vec<Node> = before
            .nodes()
            .iter()
            .filter(|n| *n != node)
            .copied()
            .collect();
        // Made without the lock, which others wait for.
        let without = Ownership::new(&left, before.me());
        {
            let mut current = self.lock();
            // Whoever published meanwhile knows better.
            if current
                .as_ref()
                .is_some_and(|now| Arc::ptr_eq(now, &before))
            {
                *current = Some(Arc::new(without));
                self.epoch.fetch_add(1, Ordering::Release);
            }
        }
        (self.on_failure)(*node);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Ownership>>> {
        // It is whole between any two statements.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one worker last read.
pub struct View {
    members: Arc<Members>,
    epoch: Cell<u64>,
    current: RefCell<Option<Arc<Ownership>>>,
}

impl View {
    /// Reads for the first time.
    pub fn new(members: Arc<Members>) -> Self {
        let epoch = members.epoch.load(Ordering::Acquire);
        Self {
            current: RefCell::new(members.current()),
            epoch: Cell::new(epoch),
            members,
        }
    }

    /// The other node that owns this identity; `None` if it is this one. One load and a look into a
    /// table.
    pub fn elsewhere(&self, identity: u64) -> Option<Node> {
        self.refresh();
        match self.current.borrow().as_ref()?.owner(identity) {
            Owner::Here => None,
            Owner::There(node) => Some(*node),
        }
    }

    /// Whether this is the address of another node, or of several behind one.
    pub fn is_member(&self, ip: IpAddr) -> bool {
        self.refresh();
        let current = self.current.borrow();
        current.as_ref().is_some_and(|current| {
            let mut others = current.nodes().iter().filter(|node| *node != current.me());
            others.any(|node| node.addr.ip().to_canonical() == ip.to_canonical())
        })
    }

    /// This node, as the others know it.
    pub fn me(&self) -> Option<Node> {
        self.refresh();
        self.current.borrow().as_ref().map(|current| *current.me())
    }

    /// See [`Members::failed`].
    pub fn failed(&self, node: &Node) {
        self.members.failed(node);
    }

    fn refresh(&self) {
        // Read before what it counts: at worst it is read once more.
        let epoch = self.members.epoch.load(Ordering::Acquire);
        if epoch != self.epoch.replace(epoch) {
            *self.current.borrow_mut() = self.members.current();
        }
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

    fn view(nodes: &[Node]) -> (Arc<Members>, View) {
        let members = Arc::new(Members::new(|_| ()));
        members.publish(Ownership::new(nodes, &node(1)));
        let view = View::new(members.clone());
        (members, view)
    }

    /// Identities of all slots.
    fn identities() -> impl Iterator<Item = u64> {
        (0..4_096_u64).map(|slot| slot << 32)
    }

    #[test]
    fn a_view_sees_what_is_published_after_it_was_made() {
        let members = Arc::new(Members::new(|_| ()));
        let view = View::new(members.clone());
        assert!(identities().all(|identity| view.elsewhere(identity).is_none()));
        members.publish(Ownership::new(&[node(1), node(2)], &node(1)));
        let there = identities().filter(|identity| view.elsewhere(*identity) == Some(node(2)));
        assert!((1_500..2_600).contains(&there.count()));
        assert!(view.is_member([127, 0, 0, 2].into()));
        assert!(!view.is_member([127, 0, 0, 1].into()));
        members.publish(Ownership::new(&[node(1)], &node(1)));
        assert!(identities().all(|identity| view.elsewhere(identity).is_none()));
    }

    #[test]
    fn a_node_that_failed_owns_nothing_until_it_is_published_again() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = told.clone();
        let members = Arc::new(Members::new(move |node| tell.lock().unwrap().push(node)));
        let all = [node(1), node(2), node(3)];
        members.publish(Ownership::new(&all, &node(1)));
        let view = View::new(members.clone());
        let owners = || -> Vec<Option<Node>> {
            identities()
                .map(|identity| view.elsewhere(identity))
                .collect()
        };
        let before = owners();
        view.failed(&node(2));
        let after = owners();
        assert!(before.contains(&Some(node(2))) && !after.contains(&Some(node(2))));
        let stayed = before
            .iter()
            .zip(&after)
            .filter(|(b, _)| **b != Some(node(2)));
        assert!(
            stayed.into_iter().all(|(b, a)| b == a),
            "nothing else moves"
        );
        view.failed(&node(2));
        assert_eq!(*told.lock().unwrap(), [node(2)], "it is told once");
        members.publish(Ownership::new(&all, &node(1)));
        assert_eq!(owners(), before);
    }

    #[test]
    fn a_lone_node_keeps_what_it_has() {
        let (_, view) = view(&[node(1)]);
        view.failed(&node(1));
        assert!(identities().all(|identity| view.elsewhere(identity).is_none()));
    }
}
