//! One counter: a leaky bucket or a fixed window, 16 bytes of state.

use serde::{Deserialize, Serialize};

/// How the slots of a bucket come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One slot returns every `per / limit`, as most of Discord's buckets since 2022-11-02.
    #[default]
    Sliding,
    /// The first request opens a window; all slots return at its end.
    Fixed,
}

/// `limit` requests in `per_ms` milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quota {
    /// Requests in one window, at least 1.
    pub limit: u32,
    /// Length of the window in milliseconds.
    pub per_ms: u64,
    /// How slots return.
    #[serde(default)]
    pub window: Window,
}

impl Quota {
    /// A leaky bucket.
    pub const fn sliding(limit: u32, per_ms: u64) -> Self {
        Self {
            limit,
            per_ms,
            window: Window::Sliding,
        }
    }

    /// A fixed window.
    pub const fn fixed(limit: u32, per_ms: u64) -> Self {
        Self {
            limit,
            per_ms,
            window: Window::Fixed,
        }
    }
}

/// A bucket as the headers of one answer show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct View {
    /// `X-RateLimit-Limit`.
    pub limit: u32,
    /// `X-RateLimit-Remaining`.
    pub remaining: u32,
    /// `X-RateLimit-Reset-After`, in nanoseconds: until all slots are back.
    pub reset_after_ns: u64,
}

/// The result of asking a counter for one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Take {
    /// Whether a slot was taken.
    pub granted: bool,
    /// The counter after the attempt.
    pub view: View,
    /// Until the next single slot returns; zero when granted.
    pub retry_after_ns: u64,
}

/// State of one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counter {
    /// When every slot is back, in nanoseconds (sliding: the "theoretical arrival time").
    full_at_ns: u64,
    /// Slots taken in the present fixed window.
    used: u32,
}

impl Counter {
    pub(super) fn take(&mut self, quota: &Quota, now_ns: u64) -> Take {
        match quota.window {
            Window::Sliding => self.take_sliding(quota, now_ns),
            Window::Fixed => self.take_fixed(quota, now_ns),
        }
    }

    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.full_at_ns <= now_ns
    }

    fn take_sliding(&mut self, quota: &Quota, now_ns: u64) -> Take {
        let limit = u64::from(quota.limit.max(1));
        let slot_ns = (quota.per_ms.saturating_mul(1_000_000) / limit).max(1);
        let full_ns = slot_ns.saturating_mul(limit);
        let debt_ns = self.full_at_ns.saturating_sub(now_ns);
        let granted = debt_ns + slot_ns <= full_ns;
        let debt_after_ns = if granted { debt_ns + slot_ns } else { debt_ns };
        self.full_at_ns = now_ns + debt_after_ns;
        Take {
            granted,
            view: View {
                limit: quota.limit,
                remaining: saturate((full_ns - debt_after_ns.min(full_ns)) / slot_ns),
                reset_after_ns: debt_after_ns,
            },
            retry_after_ns: if granted {
                0
            } else {
                debt_ns + slot_ns - full_ns
            },
        }
    }

    fn take_fixed(&mut self, quota: &Quota, now_ns: u64) -> Take {
        if self.full_at_ns <= now_ns {
            self.full_at_ns = now_ns + quota.per_ms.saturating_mul(1_000_000);
            self.used = 0;
        }
        let granted = self.used < quota.limit.max(1);
        self.used += u32::from(granted);
        let reset_after_ns = self.full_at_ns - now_ns;
        Take {
            granted,
            view: View {
                limit: quota.limit,
                remaining: quota.limit.saturating_sub(self.used),
                reset_after_ns,
            },
            retry_after_ns: if granted { 0 } else { reset_after_ns },
        }
    }
}

fn saturate(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
