//! Nodes whose proxy port cannot be reached although their gossip arrives: each failed relay has them
//! suspected, heard and passed over again, a hundred lines a minute if each were told.

use std::time::Duration;

use super::member::{Node, PASS_OVER_FOR};
use crate::clock::Instant;

/// How often one node is told of.
const TELL_PERIOD: Duration = Duration::from_secs(60);
/// So long after a relay failed, what SWIM notices of that node comes from this: it is passed over,
/// objects and comes back meanwhile.
const EXPLAINS_FOR: Duration = PASS_OVER_FOR.saturating_add(Duration::from_secs(3));

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Unreached(Vec<Entry>);

struct Entry {
    node: Node,
    failed_at: Instant,
    told_at: Instant,
    /// It was told that the work is shared out without it.
    is_shared: bool,
}

impl Unreached {
    /// A relay to this node failed; whether that is to be told.
    pub(super) fn failed(&mut self, now: Instant, node: Node) -> bool {
        self.0
            .retain(|entry| now < entry.told_at + TELL_PERIOD || entry.is_recent(now));
        let entry = self.0.iter_mut().find(|entry| entry.node == node);
        match entry {
            Some(entry) => {
                entry.failed_at = now;
                let is_due = entry.told_at + TELL_PERIOD <= now;
                if is_due {
                    (entry.told_at, entry.is_shared) = (now, false);
                }
                is_due
            }
            None => {
                self.0.push(Entry {
                    node,
                    failed_at: now,
                    told_at: now,
                    is_shared: false,
                });
                true
            }
        }
    }

    /// Whether what is noticed of this node has been told of by saying that relays to it fail.
    pub(super) fn explains(&self, now: Instant, node: Node) -> bool {
        let mut all = self.0.iter();
        all.any(|entry| entry.node == node && entry.is_recent(now))
    }

    /// Whether it is to be told that work is shared out anew: not if all who came or went since are
    /// nodes of which that has been told.
    pub(super) fn tells(&mut self, now: Instant, before: &[Node], after: &[Node]) -> bool {
        let gone = before.iter().filter(|node| !after.contains(node));
        let new = after.iter().filter(|node| !before.contains(node));
        let mut tells = false;
        for node in gone.chain(new) {
            let mut all = self.0.iter_mut();
            match all.find(|entry| entry.node == *node && entry.is_recent(now)) {
                Some(entry) => tells |= !std::mem::replace(&mut entry.is_shared, true),
                None => tells = true,
            }
        }
        tells
    }
}

impl Entry {
    fn is_recent(&self, now: Instant) -> bool {
        now < self.failed_at + EXPLAINS_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(last: u8) -> Node {
        Node::at(([10, 0, 0, last], 7946).into())
    }

    #[test]
    fn a_node_that_cannot_be_reached_again_and_again_is_told_of_once_a_minute() {
        let mut unreached = Unreached::default();
        let (with, without) = ([node(1), node(2)], [node(1)]);
        let start = Instant::from_nanos(1);
        let (mut told, mut shared) = (0, 0);
        for round in 0..60 {
            let now = start + Duration::from_secs(2 * round);
            told += u32::from(unreached.failed(now, node(2)));
            shared += u32::from(unreached.tells(now, &with, &without));
            assert!(unreached.explains(now, node(2)));
            let back = now + Duration::from_millis(1_900);
            shared += u32::from(unreached.tells(back, &without, &with));
        }
        assert_eq!((told, shared), (2, 2));
    }

    #[test]
    fn what_happens_to_others_or_later_is_told() {
        let mut unreached = Unreached::default();
        let now = Instant::from_nanos(1);
        unreached.failed(now, node(2));
        let three = [node(1), node(2), node(3)];
        assert!(unreached.tells(now, &three, &[node(1), node(3)]));
        assert!(
            unreached.tells(now, &three, &[node(1)]),
            "3 is no such node"
        );
        assert!(!unreached.explains(now, node(3)));
        let later = now + EXPLAINS_FOR;
        assert!(!unreached.explains(later, node(2)));
        assert!(unreached.tells(later, &three, &[node(1), node(3)]));
    }
}
