//! What stands between the limiter's parts and the workers that share them.
//!
//! The limiter is a composition of small states, each behind a [`Latch`]. In production a latch is a
//! mutex on its own cache line; in a simulation it is a cell, and the whole runs on one thread. The
//! limiter takes latches one after the other, never one inside another, and does nothing but
//! compute while it holds one.

use std::cell::RefCell;

/// Exclusive access to a value.
pub trait Latch<T> {
    /// A latch around `value`.
    fn new(value: T) -> Self;
    /// Runs `f` with the value; nobody else has it meanwhile.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
    /// As [`Self::with`], for somebody who only looks: `None` if somebody else has it for longer than
    /// anything here takes.
    fn with_soon<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        Some(self.with(f))
    }
}

/// A kind of latch.
pub trait Latches {
    /// The latch around a `T`.
    type Latch<T>: Latch<T>;
}

/// Latches for one thread: a second use while the first lasts is a bug and panics.
#[derive(Debug)]
pub struct Unlocked;

impl Latches for Unlocked {
    type Latch<T> = RefCell<T>;
}

impl<T> Latch<T> for RefCell<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}
