//! A worker's mail of this measurement, which wakes it if it sleeps.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};
use weir::mesh::Request;

/// What one worker has for the other.
#[derive(Clone, Copy)]
pub(super) enum Word {
    /// A request of a bucket that lives there, and under which id its sender knows it.
    Ask(u64, Request),
    /// It may go.
    Go(u64),
    /// Its answer has come.
    Report(u64),
}

/// A worker's mail, and how it is woken: by a write, and only while it sleeps.
pub(super) struct Post {
    words: Mutex<Vec<Word>>,
    waiting: AtomicBool,
    asleep: AtomicBool,
    bell: OwnedFd,
}

impl Post {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            words: Mutex::default(),
            waiting: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    pub(super) fn put(&self, word: Word) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        words.push(word);
        drop(words);
        self.ring();
    }

    fn ring(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It can only be full if the worker has not read it yet, and then it will wake.
            let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
        }
    }

    /// Takes everything out; true if the worker was rung for.
    pub(super) fn take(&self, into: &mut Vec<Word>) -> bool {
        let any = self.waiting.swap(false, Ordering::SeqCst);
        if any {
            let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            into.append(&mut words);
        }
        any
    }

    /// What becomes readable when the worker is woken.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// From now on the worker is woken; false if there is mail already.
    pub(super) fn falls_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let sleeps = !self.waiting.load(Ordering::SeqCst);
        if !sleeps {
            self.asleep.store(false, Ordering::SeqCst);
        }
        sleeps
    }

    /// The worker is awake, by the bell or by itself.
    pub(super) fn woke(&self, rung: bool) {
        self.asleep.store(false, Ordering::SeqCst);
        if rung {
            // What it counted does not matter.
            let _ = rustix::io::read(&self.bell, &mut [0u8; 8]);
        }
    }
}

/// Mail of the mesh wakes like that of this module.
impl Wake for Post {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
