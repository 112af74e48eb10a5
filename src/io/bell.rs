//! One word for all who wait for something else meanwhile: that it is over. Of one thread.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slab::Slab;

/// Rung once, and heard by whoever listens then or later.
#[derive(Default)]
pub struct Bell {
    rung: Cell<bool>,
    listening: RefCell<Slab<Waker>>,
}

impl Bell {
    /// Rings it, for good.
    pub fn ring(&self) {
        self.rung.set(true);
        for (_, waker) in &*self.listening.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whether it was rung.
    pub fn is_rung(&self) -> bool {
        self.rung.get()
    }

    /// Ends when it is rung.
    pub fn heard(&self) -> Heard<'_> {
        Heard {
            bell: self,
            place: None,
        }
    }
}

/// See [`Bell::heard`].
pub struct Heard<'b> {
    bell: &'b Bell,
    place: Option<usize>,
}

impl Future for Heard<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.bell.rung.get() {
            return Poll::Ready(());
        }
        let mut listening = self.bell.listening.borrow_mut();
        match self.place.and_then(|place| listening.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                let place = listening.insert(cx.waker().clone());
                drop(listening);
                self.place = Some(place);
            }
        }
        Poll::Pending
    }
}

impl Drop for Heard<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.bell.listening.borrow_mut().try_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn all_who_listen_hear_it_and_who_left_is_forgotten() {
        let bell = Bell::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = pin!(bell.heard());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        {
            let mut leaves = pin!(bell.heard());
            assert!(leaves.as_mut().poll(&mut cx).is_pending());
            assert_eq!(bell.listening.borrow().len(), 2);
        }
        assert_eq!(bell.listening.borrow().len(), 1);
        bell.ring();
        assert!(bell.is_rung() && first.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(bell.heard()).poll(&mut cx).is_ready(), "late, too");
    }
}
