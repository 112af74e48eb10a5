//! What all workers share: the limiter's shards behind their locks, and everybody's mailbox.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::mailbox::Mailbox;
use super::owner::recipient;
use crate::clock::{self, Instant};
use crate::io::guard::undivided;
use crate::limit::{Latch, Latches, Limiter, Notice, Output, Outputs, Settings};
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
/// Somebody who hears of what the guards do, on whatever thread it happens.
pub type Ear = Box<dyn Fn(Instant, &Notice) + Send + Sync>;

/// What all workers share: the limiter's shards and everybody's mailbox.
pub struct Mesh {
    pub(super) limiter: Limiter<Locks>,
    pub(super) mailboxes: Box<[Mailbox]>,
    /// Who hears of what the guards do.
    ear: Ear,
}

impl Mesh {
    /// A mesh of `workers`, each with a shard and a mailbox.
    pub fn new(settings: &Settings, workers: usize) -> Arc<Self> {
        Arc::new(Self::deaf(settings, workers))
    }

    fn deaf(settings: &Settings, workers: usize) -> Self {
        Self {
            limiter: Limiter::new(settings, workers),
            mailboxes: (0..workers).map(|_| Mailbox::default()).collect(),
            ear: Box::new(|_, _| ()),
        }
    }

    /// The same with somebody who hears of what the guards do.
    pub fn with_ear(settings: &Settings, workers: usize, ear: Ear) -> Arc<Self> {
        Arc::new(Self {
            ear,
            ..Self::deaf(settings, workers)
        })
    }

    /// Tells whoever hears of it.
    #[cold]
    pub(super) fn tell(&self, now: Instant, notice: &Notice) {
        (self.ear)(now, notice);
    }

    /// Sets a bot's global limit, or has it found out with `None`. For whatever thread: who may go by it
    /// is told.
    pub fn set_override(&self, now: Instant, user_id: u64, limit: Option<u32>) {
        let mut out = Outputs::new();
        self.limiter.set_override(now, user_id, limit, &mut out);
        while let Some(output) = out.pop() {
            // All of them are for somebody.
            let mailbox = recipient(&output).and_then(|worker| self.mailboxes.get(worker));
            if let Some(mailbox) = mailbox {
                mailbox.put(std::iter::once(output));
            }
        }
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
