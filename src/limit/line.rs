//! Who waits for an identity's global window: by when they asked, whatever their buckets did since.
//!
//! A request that changes something enters here only when the one before it in its bucket was
//! answered. By the order of entering, the fifth message of a channel would stand in line five times;
//! by the order of asking, it stands next to what was asked for when it was.
//!
//! Joining, leaving and moving up cost the logarithm of the line's length.

use super::arena::Arena;
use super::ask::{Permit, Ticket};
use crate::clock::Instant;
use ahash::AHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

/// A request in a line.
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) permit: Permit,
    turn: Turn,
}

/// When it asked; among those that asked at once, its turn in its shard; and who joined first.
type Turn = (Instant, u32, u64);

/// One identity's line; what stands in it is held by [`Lines`].
#[derive(Default)]
pub(super) struct Line {
    turns: BTreeMap<Turn, u32>,
}

impl Line {
    pub(super) fn len(&self) -> u32 {
        self.turns.len() as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

/// What stands in all lines of a shard.
pub(super) struct Lines {
    waiters: Arena<Waiter>,
    tickets: HashMap<Ticket, u32, BuildHasherDefault<AHasher>>,
    /// Requests that ever joined.
    joined: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            waiters: Arena::new(),
            tickets: HashMap::default(),
            joined: 0,
        }
    }

    /// Requests in all lines together.
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn join(&mut self, line: &mut Line, ticket: Ticket, permit: Permit) {
        let turn = (permit.asked, permit.turn, self.joined);
        self.joined += 1;
        let waiter = Waiter {
            ticket,
            permit,
            turn,
        };
        let place = self.waiters.insert(waiter);
        line.turns.insert(turn, place);
        self.tickets.insert(ticket, place);
    }

    /// The permit of whoever asked first.
    pub(super) fn first(&self, line: &Line) -> Option<&Permit> {
        let (_, place) = line.turns.first_key_value()?;
        Some(&self.waiters.get(*place)?.permit)
    }

    /// Takes out whoever asked first.
    pub(super) fn pop(&mut self, line: &mut Line) -> Option<Waiter> {
        let (_, place) = line.turns.pop_first()?;
        let waiter = self.waiters.remove(place)?;
        self.tickets.remove(&waiter.ticket);
        Some(waiter)
    }

    /// The identity in whose line `ticket` stands.
    pub(super) fn identity_of(&self, ticket: Ticket) -> Option<u32> {
        let place = self.tickets.get(&ticket)?;
        Some(self.waiters.get(*place)?.permit.identity)
    }

    /// Takes out `ticket`, which stands in `line`.
    pub(super) fn leave(&mut self, line: &mut Line, ticket: Ticket) -> Option<Waiter> {
        let place = self.tickets.remove(&ticket)?;
        let waiter = self.waiters.remove(place)?;
        line.turns.remove(&waiter.turn);
        Some(waiter)
    }

    #[cfg(any(debug_assertions, test))]
    pub(super) fn check_invariants(&self) {
        assert_eq!(
            self.tickets.len(),
            self.waiters.len(),
            "every waiter can be cancelled"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::ask::{Ask, BucketKey, ClientClass};

    #[test]
    fn who_asked_first_goes_first_whoever_joined_first() {
        let (mut lines, mut line) = (Lines::new(), Line::default());
        for (slot, asked_ms, turn) in [(1, 1_010, 7), (2, 1_010, 3), (3, 1_000, 9), (4, 1_010, 3)] {
            let (worker, generation) = (0, 0);
            let ticket = Ticket {
                worker,
                slot,
                generation,
            };
            let ask = Ask {
                ticket,
                key: BucketKey {
                    identity: 1,
                    major: 1,
                    route: 1,
                },
                client: ClientClass::Anonymous,
                counts_globally: true,
                serial: false,
                max_wait: None,
            };
            let mut permit = Permit::for_ask(&ask, Instant::from_millis(asked_ms));
            permit.turn = turn;
            lines.join(&mut line, ticket, permit);
        }
        let next = || lines.pop(&mut line).map(|waiter| waiter.ticket.slot);
        let order: Vec<u32> = std::iter::from_fn(next).collect();
        assert_eq!(order, [3, 2, 4, 1]);
        assert_eq!(lines.len(), 0);
        lines.check_invariants();
    }
}
