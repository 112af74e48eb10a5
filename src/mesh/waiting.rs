//! The requests of one worker that wait for their turn.
//!
//! A waiting request is a slab entry named by a [`Ticket`]; the permit or refusal is put into the
//! entry by [`Local::deliver`](super::Local) and taken out by the request's own task.

use std::task::Waker;

use slab::Slab;

use crate::limit::{Permit, Refusal, Ticket};

/// What a request waits for.
pub type Verdict = Result<Permit, Refusal>;

/// The waiting requests of one worker.
#[derive(Default)]
pub struct Waiters {
    entries: Slab<Entry>,
    /// Counts tickets, so that a slab key used again is never mistaken for its predecessor.
    generation: u32,
    /// What whoever waits from now on is told at once.
    closed: Option<Refusal>,
}

struct Entry {
    generation: u32,
    identity: u64,
    verdict: Option<Verdict>,
    waker: Option<Waker>,
}

impl Waiters {
    /// The ticket that the next [`Waiters::insert`] will register.
    pub fn next_ticket(&self, worker: u16) -> Ticket {
        // The limiter caps waiting requests far below 2^32.
        let slot = u32::try_from(self.entries.vacant_key()).unwrap_or(u32::MAX);
        Ticket {
            worker,
            slot,
            generation: self.generation,
        }
    }

    /// Registers the request that was given [`Waiters::next_ticket`].
    pub fn insert(&mut self, identity: u64) {
        let generation = self.generation;
        self.generation = generation.wrapping_add(1);
        self.entries.insert(Entry {
            generation,
            identity,
            verdict: self.closed.map(Err),
            waker: None,
        });
    }

    /// Refuses all that wait and will wait. The limiter does not know of it.
    pub fn close(&mut self, refusal: Refusal) {
        self.closed = Some(refusal);
        for (_, entry) in &mut self.entries {
            if entry.verdict.is_none() {
                entry.verdict = Some(Err(refusal));
            }
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    /// Refuses those that wait for limits of these identities. The limiter does not know of it.
    pub fn refuse(&mut self, refusal: Refusal, of: impl Fn(u64) -> bool) {
        for (_, entry) in &mut self.entries {
            if entry.verdict.is_none() && of(entry.identity) {
                entry.verdict = Some(Err(refusal));
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Gives the verdict to its request; returns it if the request is gone.
    pub fn deliver(&mut self, ticket: Ticket, verdict: Verdict) -> Option<Verdict> {
        match self.entries.get_mut(ticket.slot as usize) {
            // Who was refused already does not take it.
            Some(entry) if entry.generation == ticket.generation && entry.verdict.is_none() => {
                entry.verdict = Some(verdict);
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
                None
            }
            _ => Some(verdict),
        }
    }

    /// The verdict, if it has come; otherwise remembers whom to wake.
    pub fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Option<Verdict> {
        let entry = self.entries.get_mut(ticket.slot as usize)?;
        if entry.verdict.is_none() {
            entry.waker = Some(waker.clone());
        }
        entry.verdict.take()
    }

    /// Strikes the request off; returns the verdict that it has not taken.
    pub fn remove(&mut self, ticket: Ticket) -> Option<Verdict> {
        match self.entries.get(ticket.slot as usize) {
            Some(entry) if entry.generation == ticket.generation => {
                self.entries.remove(ticket.slot as usize).verdict
            }
            _ => None,
        }
    }
}
