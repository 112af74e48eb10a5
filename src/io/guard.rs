//! What a panic may cost: its own request, or the whole process, and nothing in between.
//!
//! | where it happens | what is done |
//! |---|---|
//! | a connection's task | [`Contained`]: that connection ends, and all it held is given back |
//! | the same, while the limiter or what came out of it is in hand | [`undivided`]: the process ends at once, status 1 |
//! | a worker's thread outside connections | the worker's end is noticed and the process ends, status 1 |
//!
//! monoio runs tasks on the worker's own stack, so a panic in one connection would unwind through
//! the runtime and take every other connection of the core along. [`Contained`] stops it at the
//! task's edge; what the task owned is dropped, and those drops give permits, connection slots
//! and buffers back.
//!
//! That is right as long as the task was at work on what is its own. A shard of the limiter is not:
//! a panic half-way through it leaves memory sound, but perhaps a slot taken that nobody gives back,
//! or a permit lost on its way to a request that then waits for ever; and a limiter that counts
//! wrongly is how an IP is banned. Neither leaving the lock taken nor using the shard on is right
//! then, so the process ends, and whoever supervises it starts another. Nothing is written but a
//! line of the log: a core dump would hold tokens.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project_lite::pin_project! {
    /// Runs a future to its end; a panic becomes an error that carries its payload, and the future
    /// is not polled again. A struct and not an async function, because such a function keeps its
    /// argument twice, and tasks are counted by the thousand.
    pub struct Contained<F> {
        #[pin]
        future: F,
    }
}

impl<F> Contained<F> {
    /// `future`, contained.
    pub fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

/// Exit status after a panic that must not be survived; that of every other failure.
const EXIT_BROKEN: i32 = 1;

/// Runs `work`, which must not be left half done: if it panics, the process ends, at once and
/// without unwinding any further. Costs nothing when it does not.
pub fn undivided<R>(work: impl FnOnce() -> R) -> R {
    let unfinished = Unfinished;
    let output = work();
    std::mem::forget(unfinished);
    output
}

/// Dropped only by a panic.
struct Unfinished;

impl Drop for Unfinished {
    fn drop(&mut self) {
        tracing::error!("a panic has left the limiter's state unknown; the process ends");
        signal_hook::low_level::exit(EXIT_BROKEN);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_panic_becomes_an_error_and_an_output_stays_one() {
        let mut cx = Context::from_waker(Waker::noop());
        let fine = pin!(Contained::new(async { 7 }));
        assert!(matches!(fine.poll(&mut cx), Poll::Ready(Ok(7))));
        let bad = pin!(Contained::new(async { panic!("planted") }));
        assert!(matches!(bad.poll(&mut cx), Poll::Ready(Err::<(), _>(_))));
    }
}
