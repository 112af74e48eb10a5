//! A count of exchanges under way, and who waits for a place. Of one thread.
//!
//! Places are handed on directly, first come first served: a newcomer cannot overtake one that
//! waits. A place is given back by dropping its [`Slot`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A bounded number of places.
#[derive(Clone)]
pub struct Slots {
    shared: Rc<Shared>,
}

struct Shared {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Default)]
struct Waiter {
    granted: Cell<bool>,
    gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// One place, held until dropped.
#[must_use]
pub struct Slot {
    shared: Rc<Shared>,
}

impl Slots {
    /// `count` free places.
    pub fn new(count: usize) -> Self {
        Self {
            shared: Rc::new(Shared {
                free: Cell::new(count),
                waiting: RefCell::new(VecDeque::new()),
            }),
        }
    }

    /// A place, if one is free: then nobody waits.
    pub fn try_acquire(&self) -> Option<Slot> {
        let free = self.shared.free.get().checked_sub(1)?;
        self.shared.free.set(free);
        Some(Slot {
            shared: self.shared.clone(),
        })
    }

    /// A place, at once or when those before have got theirs.
    pub async fn acquire(&self) -> Slot {
        if let Some(slot) = self.try_acquire() {
            return slot;
        }
        let shared = self.shared.clone();
        let waiter = Rc::new(Waiter::default());
        shared.waiting.borrow_mut().push_back(waiter.clone());
        let leaving = Leaving {
            waiter: waiter.clone(),
            shared: shared.clone(),
        };
        poll_fn(|cx| {
            if waiter.granted.get() {
                return Poll::Ready(());
            }
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        // The place is the Slot's from here on, so leaving gives nothing back.
        waiter.granted.set(false);
        drop(leaving);
        Slot { shared }
    }
}

/// Keeps a waiter that is dropped from swallowing a place.
struct Leaving {
    waiter: Rc<Waiter>,
    shared: Rc<Shared>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.waiter.gone.set(true);
        if self.waiter.granted.get() {
            self.shared.pass_on();
        }
    }
}

impl Shared {
    /// Gives one place to the first who still waits, or counts it free.
    fn pass_on(&self) {
        let next = loop {
            match self.waiting.borrow_mut().pop_front() {
                Some(waiter) if waiter.gone.get() => {}
                other => break other,
            }
        };
        match next {
            Some(waiter) => {
                waiter.granted.set(true);
                if let Some(waker) = waiter.waker.take() {
                    waker.wake();
                }
            }
            None => self.free.set(self.free.get() + 1),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn places_are_given_in_order_and_a_newcomer_cannot_overtake() {
        let slots = Slots::new(1);
        let held = poll(pin!(slots.acquire())).unwrap();
        let mut first = pin!(slots.acquire());
        let mut second = pin!(slots.acquire());
        assert!(poll(first.as_mut()).is_none());
        assert!(poll(second.as_mut()).is_none());
        drop(held);
        assert!(poll(second.as_mut()).is_none());
        assert!(poll(pin!(slots.acquire())).is_none());
        let held = poll(first.as_mut()).expect("the first in line has it");
        drop(held);
        assert!(poll(second.as_mut()).is_some());
    }

    #[test]
    fn one_that_leaves_the_line_costs_no_place() {
        let slots = Slots::new(1);
        let held = poll(pin!(slots.acquire())).unwrap();
        {
            let mut leaves_early = Box::pin(slots.acquire());
            let mut leaves_granted = Box::pin(slots.acquire());
            assert!(poll(leaves_early.as_mut()).is_none());
            assert!(poll(leaves_granted.as_mut()).is_none());
            drop(leaves_early);
            drop(held);
            drop(leaves_granted);
        }
        assert!(poll(pin!(slots.acquire())).is_some());
    }
}
