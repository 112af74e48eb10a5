//! Global limits that somebody has set: `BOT_RATELIMIT_OVERRIDES`, and what was changed since.
//!
//! Workers look at a copy of their own and at one number that tells whether it is the last one, so that
//! a request pays one load for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Requests a second by bot user id.
pub type Limits = Arc<BTreeMap<u64, u32>>;

/// See the module's documentation.
pub struct Overrides {
    version: AtomicU64,
    limits: Mutex<Limits>,
}

impl Overrides {
    /// Those of the configuration.
    pub fn new(limits: BTreeMap<u64, u32>) -> Self {
        Self {
            version: AtomicU64::new(0),
            limits: Mutex::new(Arc::new(limits)),
        }
    }

    /// Changes whenever they do.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All of them, as they are.
    pub fn get(&self) -> Limits {
        let limits = self.limits.lock();
        limits.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has them changed while nobody else changes them; `change` says whether it did.
    pub fn change(&self, change: impl FnOnce(&mut BTreeMap<u64, u32>) -> bool) {
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if change(Arc::make_mut(&mut limits)) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}
