//! Keeps a panic inside the task it happened in.
//!
//! monoio runs tasks on the worker's own stack, so a panic in one connection would unwind through
//! the runtime and take every other connection of the core along. [`contain`] stops it at the
//! task's edge; what the task owned is dropped, and those drops give permits, connection slots
//! and buffers back.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Runs `future` to its end; a panic becomes an error that carries its payload.
///
/// # Errors
/// The panic's payload. The future must not be used again, and is not: it is dropped here.
pub async fn contain<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(
        move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        },
    )
    .await
}
