//! What all workers share: the limiter's shards behind their locks, and everybody's mailbox.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::mailbox::Mailbox;
use crate::clock::{self, Instant};
use crate::io::guard::undivided;
use crate::limit::{Latch, Latches, Limiter, Output, Settings};
use crate::metrics::HandOffs;

/// A shard's lock, on cache lines of its own.
#[repr(align(128))]
pub struct Locked<T>(Mutex<T>);

/// The latches of production: [`Locked`].
pub enum Locks {}

impl Latches for Locks {
    type Latch<T> = Locked<T>;
}

impl<T> Latch<T> for Locked<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A panic in here does not leave: the lock is never poisoned, nor taken for ever.
        undivided(|| {
            let result = f(&mut value);
            #[cfg(feature = "planted-panics")]
            crate::io::planted::in_shard();
            result
        })
    }

    fn with_soon<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        let until = clock::now() + SOON;
        loop {
            match self.0.try_lock() {
                Ok(mut value) => return Some(f(&mut value)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return Some(f(&mut poisoned.into_inner()));
                }
                Err(TryLockError::WouldBlock) if clock::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(TRY_AGAIN),
            }
        }
    }
}

/// A worker holds a shard for microseconds; one that holds it for so long is stuck.
const SOON: Duration = Duration::from_millis(100);

/// Pause between two tries of somebody who only looks.
const TRY_AGAIN: Duration = Duration::from_micros(50);

/// What all workers share: the limiter's shards and everybody's mailbox.
pub struct Mesh {
    pub(super) limiter: Limiter<Locks>,
    pub(super) mailboxes: Box<[Mailbox]>,
}

impl Mesh {
    /// A mesh of `workers`, each with a shard and a mailbox.
    pub fn new(settings: &Settings, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(settings, workers),
            mailboxes: (0..workers).map(|_| Mailbox::default()).collect(),
        })
    }

    /// What has been learned, for whoever keeps it.
    pub fn limiter(&self) -> &Limiter<Locks> {
        &self.limiter
    }

    /// What workers have handed each other so far.
    pub fn counts(&self) -> HandOffs {
        let mut sum = HandOffs::default();
        for mailbox in &self.mailboxes {
            sum.add(mailbox.counts());
        }
        sum
    }

    /// Wakes a worker, whatever it sleeps on.
    pub fn nudge(&self, worker: usize) {
        let word = Output::Deadline {
            shard: worker,
            at: Instant::ZERO,
        };
        self.mailboxes[worker].put(std::iter::once(word));
    }
}
