//! What other threads have for one of the forward proxy's: a slot that came free, addresses that were
//! looked up.
//!
//! Only the message that finds the box empty wakes the thread. The box is bounded by what it is for:
//! each wait gets one message in its life, and waits are bounded by the clients.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use super::shared::line::Outcome;

/// Whose wait it is: one of a worker's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Address {
    pub(super) worker: usize,
    pub(super) wait: u32,
}

/// What a wait comes to.
#[derive(Clone, Debug)]
pub(super) enum Word {
    /// Whether a slot was granted; otherwise the time is over.
    Slot(bool),
    /// What the fleet says to that slot.
    Place(Outcome),
    /// What a name stands for; none if that could not be found out.
    Addresses(Arc<[IpAddr]>),
}

/// One worker's box.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Post {
    inbox: Mutex<Inbox>,
    /// Mirrors "the inbox is not empty", to be read without the lock.
    full: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    mail: Vec<(u32, Word)>,
    waker: Option<Waker>,
    closed: bool,
}

impl Post {
    /// Puts a word in and wakes the worker if the box was empty. Gives it back if nobody will read it.
    pub(super) fn put(&self, wait: u32, word: Word) -> Result<(), Word> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox.closed {
            return Err(word);
        }
        let was_empty = inbox.mail.is_empty();
        inbox.mail.push((wait, word));
        self.full.store(true, Ordering::Release);
        let waker = if was_empty { inbox.waker.clone() } else { None };
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Wakes the worker, so that it looks around.
    pub(super) fn nudge(&self) {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = inbox.waker.clone();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes everything out, in order.
    pub(super) fn take(&self) -> Vec<(u32, Word)> {
        if !self.full.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::Release);
        std::mem::take(&mut inbox.mail)
    }

    /// Names whom to wake; true if there is mail already.
    pub(super) fn wake_by(&self, waker: &Waker) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let known = inbox.waker.as_ref();
        if known.is_none_or(|known| !known.will_wake(waker)) {
            inbox.waker = Some(waker.clone());
        }
        !inbox.mail.is_empty()
    }

    /// Takes nothing in any more, forgets whom to wake, and hands out what is left.
    pub(super) fn close(&self) -> Vec<(u32, Word)> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.closed = true;
        inbox.waker = None;
        std::mem::take(&mut inbox.mail)
    }
}
