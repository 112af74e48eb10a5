//! Letting other tasks of the worker have their turn.
//!
//! Under epoll a read or write that can be done is done at once, without the task being put aside:
//! a client that always has more to send, and takes what it gets, would keep its worker for itself.
//! Under io_uring every operation puts its task aside until its completion comes round, so there is
//! nothing to do.
//!
//! A task that wakes itself is the next to run in monoio, before all others, and as long as one is
//! ready no timer is looked at. So a greedy one sleeps for a moment.

use std::cell::Cell;
use std::time::Duration;

/// Rounds without being put aside, before others have their turn. A round is a request that is
/// answered without the upstream (3 µs) or a buffer of a body (10 µs), so that others wait for a greedy
/// client no longer than a third of a millisecond, and one connection carries up to 500 MB a second.
const ROUNDS_MAX: u32 = 32;

/// The shortest sleep there is.
const PAUSE: Duration = Duration::from_millis(1);

thread_local! {
    /// How often tasks of this thread were taken up.
    static TAKEN_UP: Cell<u64> = const { Cell::new(0) };
}

/// A task was taken up.
pub fn taken_up() {
    TAKEN_UP.set(TAKEN_UP.get().wrapping_add(1));
}

/// Counts the rounds of one task.
#[derive(Default)]
pub struct Turn {
    rounds: u32,
    /// When the first of them was.
    taken_up: u64,
}

impl Turn {
    /// Called after each round; lets others go first if this task was not put aside for too long.
    pub async fn round(&mut self) {
        let now = TAKEN_UP.get();
        if now != self.taken_up {
            *self = Self {
                rounds: 0,
                taken_up: now,
            };
        }
        self.rounds += 1;
        if self.rounds >= ROUNDS_MAX && monoio::utils::is_legacy() {
            // Boxed: a sleep is 640 bytes, which every idle connection would hold.
            Box::pin(monoio::time::sleep(PAUSE)).await;
            // Whoever accepts is no connection's task, so that nothing else may begin a new turn.
            self.rounds = 0;
        }
    }
}
