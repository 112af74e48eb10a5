//! Letting other tasks of the worker have their turn.
//!
//! Under epoll a read or write that can be done is done at once, without the task being put aside:
//! a client that always has more to send would keep its worker for itself. Under io_uring every
//! operation puts its task aside until its completion comes round, so there is nothing to do; and a
//! task that woke itself there would keep completions from being looked at.

use std::future::poll_fn;
use std::task::Poll;

/// Rounds in a row before others have their turn. A round is a request that is answered without the
/// upstream (3 µs) or a buffer of a body (10 µs), and looking for what others have to do costs 1 µs.
const ROUNDS: u32 = 16;

/// Counts the rounds of one task.
#[derive(Default)]
pub struct Turn {
    rounds: u32,
}

impl Turn {
    /// Called after each round; now and then lets the others go first.
    pub async fn round(&mut self) {
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(ROUNDS) && monoio::utils::is_legacy() {
            others().await;
        }
    }
}

/// Ends when every task that is ready now, and every socket, has been looked at.
async fn others() {
    let mut had = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
