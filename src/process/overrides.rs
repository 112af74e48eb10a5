//! Global limits that somebody has set: `BOT_RATELIMIT_OVERRIDES`, and what was changed since.
//!
//! Workers look at a copy of their own and at one number that tells whether it is the last one, so that
//! a request pays one load for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Requests a second by bot user id.
pub type Limits = Arc<BTreeMap<u64, u32>>;

/// See the module's documentation.
pub struct Overrides {
    version: AtomicU64,
    /// Locked for as long as it takes to copy the pointer: workers do.
    limits: Mutex<Limits>,
    /// Held by whoever changes them, which takes as long as telling the limiter.
    changing: Mutex<()>,
}

impl Overrides {
    /// Those of the configuration.
    pub fn new(limits: BTreeMap<u64, u32>) -> Self {
        Self {
            version: AtomicU64::new(0),
            limits: Mutex::new(Arc::new(limits)),
            changing: Mutex::default(),
        }
    }

    /// Changes whenever they do.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All of them, as they are; at once, whoever changes them.
    pub fn get(&self) -> Limits {
        self.lock().clone()
    }

    /// Has them changed while nobody else changes them; `change` says whether it did.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, u32>) -> bool) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut limits = BTreeMap::clone(&self.get());
        if change(&mut limits) {
            *self.lock() = Arc::new(limits);
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn workers_read_them_while_somebody_takes_long_to_change_them() {
        let overrides = Arc::new(Overrides::new([(1, 50)].into()));
        let (read, was_read) = mpsc::channel();
        overrides.change(|limits| {
            limits.insert(2, 60);
            let overrides = overrides.clone();
            thread::spawn(move || read.send(overrides.get().len()));
            let seen = was_read.recv_timeout(Duration::from_secs(10));
            assert_eq!(seen, Ok(1), "at once, and as they were");
            true
        });
        assert_eq!((overrides.get().len(), overrides.version()), (2, 1));
        overrides.change(|limits| limits.remove(&7).is_some());
        assert_eq!(overrides.version(), 1, "nothing was changed");
    }
}
