//! First-in first-out queues that share one store of nodes.
//!
//! A bucket has a queue only while somebody waits in it, and a client may leave from the middle. So
//! the nodes of all queues of a shard live in one [`Arena`] and are linked both ways: joining,
//! leaving at the front and leaving from the middle are O(1), an empty queue is twelve bytes. Only
//! [`Nodes::push_before`] walks, from the front to the place: those who return asked early.

use super::arena::Arena;

const NONE: u32 = u32::MAX;

struct Node<T> {
    value: T,
    prev: u32,
    next: u32,
}

/// The ends and the length of one queue; its nodes live in the [`Nodes`] it is used with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Queue {
    pub(super) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The node at the front.
    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }
}

/// The nodes of many queues.
pub(super) struct Nodes<T> {
    arena: Arena<Node<T>>,
}

impl<T> Nodes<T> {
    pub(super) const fn new() -> Self {
        Self {
            arena: Arena::new(),
        }
    }

    /// Nodes in all queues together.
    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn get(&self, node: u32) -> &T {
        &self.arena[node].value
    }

    pub(super) fn get_mut(&mut self, node: u32) -> &mut T {
        &mut self.arena[node].value
    }

    pub(super) fn push_back(&mut self, queue: &mut Queue, value: T) -> u32 {
        let node = self.arena.insert(Node {
            value,
            prev: NONE,
            next: NONE,
        });
        self.link_back(queue, node);
        node
    }

    /// Puts `value` before the first one that `later` holds of.
    pub(super) fn push_before(
        &mut self,
        queue: &mut Queue,
        value: T,
        later: impl Fn(&T) -> bool,
    ) -> u32 {
        let mut next = queue.front();
        while let Some(node) = next.filter(|&node| !later(&self.arena[node].value)) {
            next = self.after(node);
        }
        let Some(next) = next else {
            return self.push_back(queue, value);
        };
        let prev = self.arena[next].prev;
        let node = self.arena.insert(Node { value, prev, next });
        self.arena[next].prev = node;
        match prev {
            NONE => queue.head = node,
            prev => self.arena[prev].next = node,
        }
        queue.len += 1;
        node
    }

    /// Takes `node` out of `queue`, wherever in it it stands.
    pub(super) fn remove(&mut self, queue: &mut Queue, node: u32) -> Option<T> {
        self.unlink(queue, node);
        self.arena.remove(node).map(|node| node.value)
    }

    /// Moves `node` from one queue to the end of another; its number stays.
    pub(super) fn transfer(&mut self, from: &mut Queue, to: &mut Queue, node: u32) {
        self.unlink(from, node);
        self.link_back(to, node);
    }

    /// The node behind `node`.
    pub(super) fn after(&self, node: u32) -> Option<u32> {
        let next = self.arena[node].next;
        (next != NONE).then_some(next)
    }

    fn link_back(&mut self, queue: &mut Queue, node: u32) {
        self.arena[node].prev = queue.tail;
        self.arena[node].next = NONE;
        match queue.tail {
            NONE => queue.head = node,
            tail => self.arena[tail].next = node,
        }
        queue.tail = node;
        queue.len += 1;
    }

    fn unlink(&mut self, queue: &mut Queue, node: u32) {
        let Node { prev, next, .. } = self.arena[node];
        match prev {
            NONE => queue.head = next,
            prev => self.arena[prev].next = next,
        }
        match next {
            NONE => queue.tail = prev,
            next => self.arena[next].prev = prev,
        }
        queue.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(nodes: &mut Nodes<i32>, queue: &mut Queue) -> Vec<i32> {
        let mut all = Vec::new();
        while let Some(node) = queue.front() {
            all.extend(nodes.remove(queue, node));
        }
        all
    }

    #[test]
    fn order_holds_when_nodes_leave_from_the_middle_and_return_to_the_front() {
        let mut nodes = Nodes::new();
        let mut queue = Queue::EMPTY;
        let ids: Vec<u32> = (0..5).map(|i| nodes.push_back(&mut queue, i)).collect();
        assert_eq!(nodes.remove(&mut queue, ids[2]), Some(2));
        nodes.push_before(&mut queue, 9, |_| true);
        assert_eq!(nodes.remove(&mut queue, ids[4]), Some(4));
        nodes.push_back(&mut queue, 5);
        assert_eq!(queue.len(), 5);
        assert_eq!(drain(&mut nodes, &mut queue), [9, 0, 1, 3, 5]);
        assert!(queue.is_empty() && nodes.len() == 0);
    }

    #[test]
    fn a_node_moves_between_queues_and_keeps_its_number() {
        let mut nodes = Nodes::new();
        let (mut a, mut b) = (Queue::EMPTY, Queue::EMPTY);
        let ids: Vec<u32> = (0..4).map(|i| nodes.push_back(&mut a, i)).collect();
        nodes.transfer(&mut a, &mut b, ids[1]);
        nodes.transfer(&mut a, &mut b, ids[3]);
        assert_eq!(nodes.after(ids[1]), Some(ids[3]));
        assert_eq!(*nodes.get(ids[3]), 3);
        assert_eq!(drain(&mut nodes, &mut a), [0, 2]);
        assert_eq!(drain(&mut nodes, &mut b), [1, 3]);
    }
}
