//! Futures whose memory is used again.
//!
//! The state of a request is some KiB, that of a connection which waits for one a few hundred
//! bytes. Were the first a part of the second, each of 10,000 idle connections would carry it
//! along; were it boxed, each request would cost an allocation. So it lies in a place that is taken
//! from a free list when the request comes and goes back when it has been answered: a pop and a
//! push. Last in, first out, so that few connections at work means few places, warm in the
//! processor's caches.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Free places kept: as many as there are exchanges at once for which buffers are kept
/// ([`POOLED_MAX`](super::buffer::POOLED_MAX)), 2 MiB; the rest go back to the allocator.
pub const PLACES_MAX: usize = 256;

/// Runs the futures that one function makes of `A`s, in memory that is used again.
pub struct Recycler<A, O> {
    free: RefCell<Vec<Boxed<A, O>>>,
    grow: Box<dyn Fn() -> Boxed<A, O>>,
}

impl<A: 'static, O: 'static> Recycler<A, O> {
    /// For the futures of `make`.
    pub fn new<M, F>(make: M) -> Self
    where
        M: Fn(A) -> F + Clone + 'static,
        F: Future<Output = O> + 'static,
    {
        let grow = move || -> Boxed<A, O> {
            Box::pin(Slot {
                make: make.clone(),
                future: None,
            })
        };
        Self {
            free: RefCell::new(Vec::with_capacity(PLACES_MAX)),
            grow: Box::new(grow),
        }
    }

    /// Runs the future that is made of `argument`. If it is dropped before its end, or panics, its
    /// memory is freed with it.
    pub fn run(&self, argument: A) -> impl Future<Output = O> + '_ {
        let free = self.free.borrow_mut().pop();
        let mut place = free.unwrap_or_else(|| (self.grow)());
        place.as_mut().start(argument);
        let mut place = Some(place);
        poll_fn(move |cx| {
            let Some(running) = &mut place else {
                return Poll::Pending;
            };
            let output = std::task::ready!(running.as_mut().poll(cx));
            let mut free = self.free.borrow_mut();
            if free.len() < PLACES_MAX {
                free.extend(place.take());
            }
            Poll::Ready(output)
        })
    }
}

type Boxed<A, O> = Pin<Box<dyn Place<A, O>>>;

/// Memory for one future.
trait Place<A, O> {
    /// Makes the future; one that was there before is dropped.
    fn start(self: Pin<&mut Self>, argument: A);
    /// Polls the future, and drops it when it has ended.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O>;
}

pin_project_lite::pin_project! {
    struct Slot<M, F> {
        make: M,
        #[pin]
        future: Option<F>,
    }
}

impl<A, O, M, F> Place<A, O> for Slot<M, F>
where
    M: Fn(A) -> F,
    F: Future<Output = O>,
{
    fn start(self: Pin<&mut Self>, argument: A) {
        let mut this = self.project();
        this.future.set(Some((this.make)(argument)));
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let output = std::task::ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(output)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;

    /// Where its local variable lies.
    async fn address(fate: Fate) -> usize {
        let local = Cell::new(0_u64);
        let _kept = fate.kept;
        if fate.pends {
            std::future::pending::<()>().await;
        }
        std::future::ready(()).await;
        local.as_ptr() as usize
    }

    async fn pending_once() {
        let mut polled = false;
        poll_fn(|_| {
            if std::mem::replace(&mut polled, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    struct Fate {
        pends: bool,
        kept: Rc<()>,
    }

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_future_that_ended_leaves_its_place_to_the_next() {
        let recycler = Recycler::new(address);
        let kept = Rc::new(());
        let fate = |pends| Fate {
            pends,
            kept: kept.clone(),
        };
        let first = poll(pin!(recycler.run(fate(false))));
        assert!(first.is_ready());
        assert_eq!(Rc::strong_count(&kept), 1, "it is dropped when it ends");
        assert_eq!(recycler.free.borrow().len(), 1);
        assert_eq!(poll(pin!(recycler.run(fate(false)))), first);
        {
            let mut running = pin!(recycler.run(fate(true)));
            assert!(poll(running.as_mut()).is_pending());
            assert_eq!(recycler.free.borrow().len(), 0);
            let beside = poll(pin!(recycler.run(fate(false))));
            assert!(beside.is_ready() && beside != first);
        }
        assert_eq!(Rc::strong_count(&kept), 1, "one that is given up, too");
        assert_eq!(recycler.free.borrow().len(), 1, "and its place with it");
    }

    #[test]
    fn no_more_places_are_kept_than_the_bound() {
        let recycler = Recycler::new(|()| pending_once());
        let mut running: Vec<_> = (0..2 * PLACES_MAX)
            .map(|_| Box::pin(recycler.run(())))
            .collect();
        for future in &mut running {
            assert!(poll(future.as_mut()).is_pending());
        }
        for future in &mut running {
            assert!(poll(future.as_mut()).is_ready());
        }
        assert_eq!(recycler.free.borrow().len(), PLACES_MAX);
    }
}
