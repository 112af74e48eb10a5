//! The waits of one worker, each for one word from another thread.
//!
//! A wait that is given up stays until its word has come, since that may be a slot, which has to be
//! given back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use slab::Slab;

use super::post::Word;

/// What is done with the word of a wait that was given up.
type Leftover = Box<dyn FnOnce(Word)>;

#[derive(Default)]
pub(super) struct Waits {
    entries: RefCell<Slab<Entry>>,
}

enum Entry {
    Waiting(Option<Waker>),
    Told(Word),
    GivenUp(Leftover),
}

/// One wait; must be dropped by [`Wait::forget`] once it is known that no word will come, and is
/// otherwise given up.
pub(super) struct Wait {
    waits: Rc<Waits>,
    key: u32,
    leftover: Option<Leftover>,
}

impl Waits {
    /// Begins to wait. `leftover` is given a word that comes too late.
    pub(super) fn begin(self: &Rc<Self>, leftover: impl FnOnce(Word) + 'static) -> Wait {
        let key = self.entries.borrow_mut().insert(Entry::Waiting(None));
        Wait {
            waits: self.clone(),
            // Waits are bounded by the clients, far below 2^32.
            key: u32::try_from(key).unwrap_or(u32::MAX),
            leftover: Some(Box::new(leftover)),
        }
    }

    /// A word has come.
    pub(super) fn tell(&self, key: u32, word: Word) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key as usize) else {
            debug_assert!(false, "a word for nobody");
            return;
        };
        match std::mem::replace(entry, Entry::Waiting(None)) {
            Entry::Waiting(waker) => {
                *entry = Entry::Told(word);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            told @ Entry::Told(_) => *entry = told,
            Entry::GivenUp(leftover) => {
                entries.remove(key as usize);
                drop(entries);
                leftover(word);
            }
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

impl Wait {
    /// By what name to [`Waits::tell`] it.
    pub(super) fn key(&self) -> u32 {
        self.key
    }

    /// Waits for the word.
    pub(super) async fn word(&mut self) -> Word {
        let word = poll_fn(|cx| {
            let mut entries = self.waits.entries.borrow_mut();
            match entries.get_mut(self.key as usize) {
                Some(Entry::Told(word)) => Poll::Ready(word.clone()),
                Some(entry) => {
                    *entry = Entry::Waiting(Some(cx.waker().clone()));
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await;
        self.leftover = None;
        word
    }

    /// No word will come.
    pub(super) fn forget(mut self) {
        self.leftover = None;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut entries = self.waits.entries.borrow_mut();
        let Some(leftover) = self.leftover.take() else {
            entries.try_remove(self.key as usize);
            return;
        };
        match entries.get_mut(self.key as usize) {
            Some(Entry::Told(_)) => {
                let told = entries.remove(self.key as usize);
                drop(entries);
                if let Entry::Told(word) = told {
                    leftover(word);
                }
            }
            Some(entry) => *entry = Entry::GivenUp(leftover),
            None => {}
        }
    }
}

/// A place in some line, with the wait for its word; left when dropped. `L` leaves the line and says
/// whether the place was still in it.
pub(super) struct InLine<L: FnOnce() -> bool> {
    place: Option<(Wait, L)>,
}

impl<L: FnOnce() -> bool> InLine<L> {
    pub(super) fn new(wait: Wait, leave: L) -> Self {
        Self {
            place: Some((wait, leave)),
        }
    }

    /// Waits for the word; comes to it once.
    pub(super) async fn word(&mut self) -> Word {
        match &mut self.place {
            Some((wait, _)) => {
                let word = wait.word().await;
                self.place = None;
                word
            }
            None => std::future::pending().await,
        }
    }
}

impl<L: FnOnce() -> bool> Drop for InLine<L> {
    fn drop(&mut self) {
        if let Some((wait, leave)) = self.place.take()
            && leave()
        {
            // No word is on its way.
            wait.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn a_word_reaches_who_waits_or_is_left_over_once() {
        let waits = Rc::new(Waits::default());
        let left = Rc::new(Cell::new(0));
        let begin = || {
            let left = left.clone();
            waits.begin(move |_| left.set(left.get() + 1))
        };
        let mut cx = Context::from_waker(Waker::noop());

        let mut wait = begin();
        let key = wait.key();
        {
            let mut word = pin!(wait.word());
            assert!(word.as_mut().poll(&mut cx).is_pending());
            waits.tell(key, Word::Slot(true));
            assert!(matches!(word.poll(&mut cx), Poll::Ready(Word::Slot(true))));
        }
        drop(wait);
        assert!(waits.is_empty() && left.get() == 0);

        let wait = begin();
        let key = wait.key();
        drop(wait);
        assert!(!waits.is_empty(), "its word is still to come");
        waits.tell(key, Word::Slot(true));
        assert!(waits.is_empty() && left.get() == 1);

        let wait = begin();
        waits.tell(wait.key(), Word::Slot(true));
        drop(wait);
        assert!(waits.is_empty() && left.get() == 2, "told and never looked");

        begin().forget();
        assert!(waits.is_empty() && left.get() == 2);
    }
}
