//! What other workers have for this one.
//!
//! A mailbox holds permits and refusals for requests that wait here, and the word that a shard
//! kept here has an earlier deadline. It is bounded by what it is for: each waiting request gets
//! one message in its life, and the number of those is capped by the limiter (`MAX_WAITING`).
//! Waking a sleeping core costs about 20 µs of CPU, so only the message that finds the box empty
//! wakes, and a batch is put in under one lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Waker;

use crate::limit::Output;
use crate::metrics::HandOffs;

/// The mailbox of one worker. Aligned so that two workers' boxes never share a cache line.
#[derive(Default)]
#[repr(align(128))]
pub struct Mailbox {
    inbox: Mutex<Inbox>,
    /// Mirrors "the inbox is not empty", to be read without the lock.
    full: AtomicBool,
    permits: AtomicU64,
    sent: AtomicU64,
    taken: AtomicU64,
    woken: AtomicU64,
}

#[derive(Default)]
struct Inbox {
    messages: Vec<Output>,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Puts messages in, in order, and wakes the worker if the box was empty.
    pub fn put(&self, messages: impl Iterator<Item = Output>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = inbox.messages.is_empty();
        let before = inbox.messages.len();
        inbox.messages.extend(messages);
        let permits = inbox.messages[before..]
            .iter()
            .filter(|message| matches!(message, Output::Go { .. }))
            .count();
        let count = inbox.messages.len() - before;
        self.permits.fetch_add(permits as u64, Ordering::Relaxed);
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
        self.full.store(true, Ordering::Release);
        let waker = if was_empty { inbox.waker.clone() } else { None };
        drop(inbox);
        if let Some(waker) = waker {
            self.woken.fetch_add(1, Ordering::Relaxed);
            waker.wake();
        }
    }

    /// Takes everything out, in order.
    pub fn take(&self, into: &mut Vec<Output>) {
        if self.full.load(Ordering::Acquire) {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            let count = inbox.messages.len();
            into.append(&mut inbox.messages);
            self.taken.fetch_add(count as u64, Ordering::Relaxed);
            self.full.store(false, Ordering::Release);
        }
    }

    /// Names whom to wake; true if there is mail already.
    pub fn wake_by(&self, waker: &Waker) -> bool {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        if inbox
            .waker
            .as_ref()
            .is_none_or(|known| !known.will_wake(waker))
        {
            inbox.waker = Some(waker.clone());
        }
        !inbox.messages.is_empty()
    }

    /// Forgets whom to wake; the worker's thread is about to end.
    pub fn close(&self) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waker = None;
    }

    /// What came and went, and how often that woke the worker.
    pub fn counts(&self) -> HandOffs {
        HandOffs {
            permits: self.permits.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            taken: self.taken.load(Ordering::Relaxed),
            wakes: self.woken.load(Ordering::Relaxed),
        }
    }
}
