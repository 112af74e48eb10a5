//! Reference limiters, written as models from the described behaviour of three that are in wide use.
//! They share nothing with ours, and meet the same clients, network and Discord.

mod hikari;
mod nirn;
mod twilight;

pub(super) use hikari::Hikari;
pub(super) use nirn::Nirn;
pub(super) use twilight::Twilight;

use crate::clock::Instant;
use std::collections::BTreeSet;

/// Timers that name what they are for.
struct Timers<T>(BTreeSet<(Instant, T)>);

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<T: Ord + Copy> Timers<T> {
    fn set(&mut self, at: Instant, what: T) {
        self.0.insert((at, what));
    }

    fn clear(&mut self, at: Instant, what: T) {
        self.0.remove(&(at, what));
    }

    fn pop(&mut self, now: Instant) -> Option<T> {
        let &(at, what) = self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.remove(&(at, what));
        Some(what)
    }

    fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }
}
