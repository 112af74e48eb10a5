//! What is due when other owners take the place of those that were. The control thread and the simulation
//! do it; here it is found out, so that both do the same.
//!
//! Cost: a look at each slot, with every change of members.

use super::member::Node;
use super::owner::Ownership;
use super::told::Told;
use crate::clock::Instant;
use crate::route::slot::SlotSet;

/// What a node has to do. `gone` counts as untold before anybody goes by the new owners, all else comes after
/// that.
pub struct Change {
    /// To whom it hands over what it knows of which slots.
    pub lost: Vec<(Node, SlotSet)>,
    /// All of these. Until they are handed over, new requests of theirs wait; those that wait for a limit
    /// here are sent on.
    pub gone: SlotSet,
    /// What was another's.
    pub gained: SlotSet,
    /// What others may have served until now.
    strange: SlotSet,
}

impl Change {
    /// Of `before` to `now`, as the node sees both. What was `told` of slots that it lost says nothing any
    /// more.
    pub fn between(before: &Ownership, now: &Ownership, told: &mut Told) -> Self {
        let moves = now.moves_since(before);
        let mut gone = SlotSet::EMPTY;
        moves.lost.iter().for_each(|(_, slots)| gone.add_all(slots));
        told.forget(&gone);
        Self {
            strange: match before.is_alone() {
                // Whoever was alone does not know what the others served meanwhile.
                true => now.slots_of(now.me()),
                false => moves.gained.clone(),
            },
            lost: moves.lost,
            gone,
            gained: moves.gained,
        }
    }

    /// The slots to be careful with: nobody has told of them lately. Asked for at the last moment, for that
    /// may happen meanwhile.
    pub fn careful(&self, now: Instant, told: &Told) -> SlotSet {
        let mut careful = self.strange.clone();
        told.spare(now, &mut careful);
        careful
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::slot::SLOTS;

    const T0: Instant = Instant::from_millis(10_000);

    fn node(last: u8) -> Node {
        Node::at(([10, 0, 0, last], 7654).into())
    }

    /// As the first of them sees it.
    fn among(nodes: &[u8]) -> Ownership {
        let nodes: Vec<Node> = nodes.iter().map(|last| node(*last)).collect();
        Ownership::new(&nodes, &nodes[0])
    }

    #[test]
    fn what_is_another_nodes_now_is_handed_to_that_node_and_no_longer_taken_for_told_of() {
        let (before, now) = (among(&[1, 2]), among(&[1, 2, 3, 4]));
        let mut told = Told::default();
        told.tell(T0, &SlotSet::ALL);
        let change = Change::between(&before, &now, &mut told);
        let mut lost = before.slots_of(&node(1));
        lost.remove_all(&now.slots_of(&node(1)));
        assert_eq!(change.gone, lost);
        assert!(change.lost.len() == 2 && change.gained.is_empty());
        for (to, slots) in &change.lost {
            let mut theirs = now.slots_of(to);
            theirs.keep_all(&lost);
            assert_eq!(*slots, theirs);
        }
        assert!(change.careful(T0, &told).is_empty());
        let back = Change::between(&now, &before, &mut told);
        assert_eq!(back.careful(T0, &told), lost);
    }

    #[test]
    fn there_is_care_with_what_was_another_nodes_unless_that_has_told_of_it_by_then() {
        let (before, now) = (among(&[1, 2, 3]), among(&[1, 2]));
        let mut told = Told::default();
        let change = Change::between(&before, &now, &mut told);
        let mut gained = now.slots_of(&node(1));
        gained.remove_all(&before.slots_of(&node(1)));
        assert!(change.gone.is_empty() && !gained.is_empty());
        assert_eq!(change.gained, gained);
        assert_eq!(change.careful(T0, &told), gained);
        let first: SlotSet = gained.iter().take(3).collect();
        told.tell(T0, &first);
        gained.remove_all(&first);
        assert_eq!(change.careful(T0, &told), gained);
    }

    #[test]
    fn whoever_was_alone_is_careful_with_all_that_it_keeps() {
        let (before, now) = (among(&[1]), among(&[1, 2]));
        let mut told = Told::default();
        let change = Change::between(&before, &now, &mut told);
        let mine = now.slots_of(&node(1));
        assert_eq!(change.careful(T0, &told), mine);
        assert_eq!(change.gone.len(), SLOTS - mine.len());
    }
}
