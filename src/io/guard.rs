//! Keeps a panic inside the task it happened in.
//!
//! monoio runs tasks on the worker's own stack, so a panic in one connection would unwind through
//! the runtime and take every other connection of the core along. [`Contained`] stops it at the
//! task's edge; what the task owned is dropped, and those drops give permits, connection slots
//! and buffers back.

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
