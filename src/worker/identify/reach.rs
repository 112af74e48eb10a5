//! Nodes that live and whose queue cannot be asked: their bots line up elsewhere, and that is all.
//!
//! ```text
//! asked in vain ─▶ out ── a minute after the last failure, one shard tries ─▶ back ── 7 s ─▶ forgotten
//!                   └── its bots' owner: the same rendezvous without it
//! ```
//! Another port configured there, none, or a firewall says nothing of how the node serves requests: who
//! the members are is not touched. Of the nodes that see the same, all find the same owner.
//!
//! **Cost.** An entry for each such node, looked at with each shard that another node owns.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Instant;
use crate::cluster::member::{NODES_MAX, Node};
use crate::cluster::owner::{Owner, Ownership};

/// How long after it failed a node is tried again: often enough for who mends a firewall, seldom enough
/// for the shard that waits [a connection's time](crate::worker::peers::NODE_CONNECT_TIMEOUT) in vain.
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// How long a queue that is tried has to keep the question to count as one: what is no queue answers
/// something else, or hangs up, before.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// How long a node that is back is told with each shard that another queue may have let some go: as long
/// as who got a bot doubts what went before.
const CARE_FOR: Duration = Duration::from_secs(7);

/// When it is said: a node that had died is no member any more by then.
const SAID_AFTER: Duration = Duration::from_secs(4);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Reach {
    /// Invariant: at most [`NODES_MAX`], one for each address.
    known: RefCell<Vec<Entry>>,
    /// Whether there are any: seldom is there one.
    is_any: Cell<bool>,
    /// The members as they were looked at last, and who owns what in the queue among them.
    seen: RefCell<Option<(Arc<Ownership>, Arc<Ownership>)>>,
}

struct Entry {
    node: Node,
    since: Instant,
    /// When it failed last, or was tried.
    failed: Instant,
    /// Since when a queue there has kept a question.
    kept: Option<Instant>,
    /// Since when it can be asked again.
    back: Option<Instant>,
    said: bool,
}

impl Reach {
    /// Who owns what in the queue, if these are the members; the same as long as nothing changes.
    pub(super) fn ownership(&self, members: Arc<Ownership>) -> Arc<Ownership> {
        if let Some((seen, owned)) = &*self.seen.borrow()
            && Arc::ptr_eq(seen, &members)
        {
            return owned.clone();
        }
        let me = *members.me();
        let is_out = |node: &Node| self.entry(node, |entry| entry.back.is_none());
        let mut left = members.nodes().to_vec();
        left.retain(|node| is_out(node) != Some(true));
        let owned = if left.len() == members.nodes().len() {
            members.clone()
        } else {
            // One that leaves gets nothing while there is another.
            let leaves = members.slots_of(&me).is_empty();
            left.retain(|node| !leaves || *node != me);
            Arc::new(Ownership::new(&left, &me))
        };
        *self.seen.borrow_mut() = Some((members, owned.clone()));
        owned
    }

    /// The node to ask for a shard of this bot; `None` if it is this one.
    pub(super) fn owner(&self, now: Instant, members: Arc<Ownership>, bot: u64) -> Option<Node> {
        if let Owner::There(node) = members.owner(bot)
            && self.entry(node, |entry| entry.is_to_be_tried(now)) == Some(true)
        {
            return Some(*node);
        }
        match self.ownership(members).owner(bot) {
            Owner::Here => None,
            Owner::There(node) => Some(*node),
        }
    }

    /// This node's queue could not be asked; whether it could until now.
    pub(super) fn failed(&self, now: Instant, node: &Node) -> bool {
        let mut known = self.known.borrow_mut();
        if let Some(entry) = known.iter_mut().find(|entry| entry.node == *node) {
            (entry.failed, entry.kept) = (now, None);
            if entry.back.take().is_none() {
                return false;
            }
        } else {
            // Started anew it is another, and has a trial of its own.
            known.retain(|entry| entry.node.addr != node.addr);
            if known.len() >= NODES_MAX {
                let oldest = known.iter().enumerate().min_by_key(|(_, e)| e.failed);
                if let Some(oldest) = oldest.map(|(at, _)| at) {
                    known.swap_remove(oldest);
                }
            }
            known.push(Entry {
                node: *node,
                since: now,
                failed: now,
                kept: None,
                back: None,
                said: false,
            });
        }
        self.changed(&known);
        true
    }

    /// A question has been put to this node's queue.
    pub(super) fn asked(&self, now: Instant, node: &Node) {
        self.entry(node, |entry| entry.kept = entry.kept.or(Some(now)));
    }

    /// Whoever asked this node has left, and knows nothing more of it.
    pub(super) fn left(&self, node: &Node) {
        self.entry(node, |entry| entry.kept = None);
    }

    /// This node's queue has answered.
    pub(super) fn answered(&self, now: Instant, node: &Node) {
        if self.entry(node, |entry| entry.come_back(now)) == Some(true) {
            self.changed(&self.known.borrow());
        }
    }

    /// Whether this node is to be told that another queue may have let shards go in its stead.
    pub(super) fn needs_care(&self, node: &Node) -> bool {
        self.entry(node, |_| ()).is_some()
    }

    /// Sees what time has brought, and says what is to be said.
    pub(super) fn look(&self, now: Instant, members: &Ownership) {
        if !self.is_any.get() {
            return;
        }
        let mut known = self.known.borrow_mut();
        let mut changed = false;
        for entry in &mut *known {
            if entry.kept.is_some_and(|kept| kept + KEPT_FOR <= now) {
                changed |= entry.come_back(now);
            }
            entry.say(now, members);
        }
        known.retain(|entry| entry.back.is_none_or(|back| now < back + CARE_FOR));
        self.is_any.set(!known.is_empty());
        if changed {
            self.changed(&known);
        }
    }

    fn changed(&self, known: &[Entry]) {
        self.is_any.set(!known.is_empty());
        *self.seen.borrow_mut() = None;
    }

    fn entry<R>(&self, node: &Node, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        if !self.is_any.get() {
            return None;
        }
        let mut known = self.known.borrow_mut();
        known.iter_mut().find(|e| e.node == *node).map(look)
    }
}

impl Entry {
    /// Whether it is time to try it again; if so, nobody else does for a while.
    fn is_to_be_tried(&mut self, now: Instant) -> bool {
        let is = self.back.is_none() && self.failed + AGAIN_AFTER <= now;
        if is {
            self.failed = now;
        }
        is
    }

    /// Whether it was out until now.
    fn come_back(&mut self, now: Instant) -> bool {
        self.kept = None;
        let was_out = self.back.is_none();
        if was_out {
            self.back = Some(now);
            if std::mem::take(&mut self.said) {
                tracing::info!(node = %self.node, "the identify queue of this node is reached again: its bots line up there");
            }
        }
        was_out
    }

    fn say(&mut self, now: Instant, members: &Ownership) {
        let is_member = || members.nodes().contains(&self.node);
        if !self.said && self.back.is_none() && self.since + SAID_AFTER <= now && is_member() {
            self.said = true;
            tracing::warn!(
                node = %self.node,
                "the identify queue of this node cannot be reached, while the node is alive: its bots line up at \
                 others, and its own clients at none of those. GATEWAY_QUEUE_PORT must be the same at all nodes, \
                 and open between them"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant::from_millis(1_000_000);

    fn node(last: u8, generation: u64) -> Node {
        Node {
            generation,
            proxy_port: 8080,
            ..Node::at(([10, 0, 0, last], 7654).into())
        }
    }

    fn three() -> Arc<Ownership> {
        let nodes = [node(1, 1), node(2, 1), node(3, 1)];
        Arc::new(Ownership::new(&nodes, &nodes[0]))
    }

    /// A bot of this node's.
    fn bot_of(members: &Ownership, of: &Node) -> u64 {
        let mut bots = (0..4096_u64).map(|slot| slot.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bots.find(|bot| matches!(members.owner(*bot), Owner::There(node) if node == of))
            .unwrap()
    }

    #[test]
    fn without_it_the_rest_own_what_they_would_own_were_it_no_member() {
        let (reach, members, out) = (Reach::default(), three(), node(2, 1));
        assert!(Arc::ptr_eq(&reach.ownership(members.clone()), &members));
        assert!(reach.failed(START, &out));
        let owned = reach.ownership(members.clone());
        assert_eq!(
            *owned,
            Ownership::new(&[node(1, 1), node(3, 1)], &node(1, 1))
        );
        assert!(Arc::ptr_eq(&owned, &reach.ownership(members.clone())));
        let bot = bot_of(&members, &out);
        assert_ne!(reach.owner(START, members, bot), Some(out));
    }

    #[test]
    fn a_minute_after_the_last_failure_one_shard_tries_it() {
        let (reach, members, out) = (Reach::default(), three(), node(2, 1));
        let bot = bot_of(&members, &out);
        assert!(reach.failed(START, &out));
        let last = START + Duration::from_secs(1);
        assert!(!reach.failed(last, &out), "it was out before");
        let asks = |now| reach.owner(now, members.clone(), bot) == Some(out);
        let due = last + AGAIN_AFTER;
        assert!(!asks(START + AGAIN_AFTER));
        assert!(asks(due) && !asks(due));
        assert!(!reach.failed(due + Duration::from_secs(1), &out));
        assert!(!asks(due + AGAIN_AFTER));
        assert!(asks(due + Duration::from_secs(1) + AGAIN_AFTER));
    }

    #[test]
    fn one_that_keeps_a_question_or_answers_is_back_and_is_told_to_take_care() {
        let (reach, members, out) = (Reach::default(), three(), node(2, 1));
        let is_back = || Arc::ptr_eq(&reach.ownership(members.clone()), &members);
        reach.failed(START, &out);
        assert!(reach.needs_care(&out));
        reach.asked(START, &out);
        reach.left(&out);
        reach.look(START + KEPT_FOR, &members);
        assert!(!is_back(), "nobody knows");
        reach.asked(START, &out);
        reach.look(START + KEPT_FOR / 2, &members);
        assert!(!is_back());
        let back = START + KEPT_FOR;
        reach.look(back, &members);
        assert!(is_back() && reach.needs_care(&out));
        assert!(reach.failed(back, &out), "it was back");
        assert!(!is_back());
        reach.answered(back, &out);
        assert!(is_back());
        reach.look(back + CARE_FOR, &members);
        assert!(is_back() && !reach.needs_care(&out));
    }

    #[test]
    fn one_that_starts_anew_is_asked_at_once_and_those_kept_are_bounded() {
        let (reach, out) = (Reach::default(), node(2, 1));
        reach.failed(START, &out);
        let nodes = [node(1, 1), node(2, 2)];
        let members = Arc::new(Ownership::new(&nodes, &nodes[0]));
        assert!(Arc::ptr_eq(&reach.ownership(members.clone()), &members));
        assert!(reach.failed(START, &nodes[1]));
        assert_eq!(reach.known.borrow().len(), 1);
        for port in 0..=NODES_MAX as u16 {
            let later = START + Duration::from_secs(1);
            reach.failed(later, &Node::at(([10, 0, 1, 1], 1 + port).into()));
        }
        assert_eq!(reach.known.borrow().len(), NODES_MAX);
        assert!(!reach.needs_care(&nodes[1]), "the oldest went first");
    }
}
