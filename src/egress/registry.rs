//! The connections of one worker: so that those which are silent for too long end, and all of them
//! when the proxy does.
//!
//! A timer for each would be set anew with each buffer that moves. Instead each notes when it moved
//! something, and all of them are looked through now and then.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::limits::Slot;
use crate::clock::Instant;
use crate::io::socket::{Half, shut};

/// The connections that are open now.
#[derive(Default)]
pub(super) struct Registry {
    entries: RefCell<Slab<Rc<Entry>>>,
}

/// One client's connection, and the one that was opened for it.
pub(super) struct Entry {
    client: RawFd,
    /// Invariant: open, as long as it is here.
    upstream: Cell<Option<RawFd>>,
    slot: RefCell<Option<Rc<Slot>>>,
    state: Cell<State>,
    /// When something moved last.
    moved: Cell<Instant>,
}

/// What a client's connection is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Between two requests, or before the first.
    Idle,
    /// Waits for a connection to its host: that has time limits of its own.
    Waiting,
    /// Bytes should move.
    Busy,
}

struct Fd(RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// One connection's entry, struck off when dropped. Must be dropped before its socket.
pub(super) struct Registered {
    registry: Rc<Registry>,
    key: usize,
    pub(super) entry: Rc<Entry>,
}

impl Registry {
    pub(super) fn enter(self: &Rc<Self>, client: &impl AsRawFd, now: Instant) -> Registered {
        let entry = Rc::new(Entry {
            client: client.as_raw_fd(),
            upstream: Cell::new(None),
            slot: RefCell::new(None),
            state: Cell::new(State::Idle),
            moved: Cell::new(now),
        });
        let key = self.entries.borrow_mut().insert(entry.clone());
        Registered {
            registry: self.clone(),
            key,
            entry,
        }
    }

    /// Ends those at work that have been silent for `timeout`, and has what was moved counted.
    pub(super) fn sweep(&self, now: Instant, timeout: Duration) {
        for (_, entry) in &*self.entries.borrow() {
            if let Some(slot) = &*entry.slot.borrow() {
                slot.publish();
            }
            let silent = now.saturating_duration_since(entry.moved.get());
            if entry.state.get() == State::Busy && silent >= timeout {
                entry.cut();
            }
        }
    }

    /// Ends those that wait for a request.
    pub(super) fn end_idle(&self) {
        for (_, entry) in &*self.entries.borrow() {
            if entry.state.get() == State::Idle {
                shut(&**entry, Half::Read);
            }
        }
    }

    /// Ends all of them.
    pub(super) fn cut(&self) {
        self.entries
            .borrow()
            .iter()
            .for_each(|(_, entry)| entry.cut());
    }

    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }
}

impl AsRawFd for Entry {
    fn as_raw_fd(&self) -> RawFd {
        self.client
    }
}

impl Entry {
    pub(super) fn set(&self, state: State) {
        self.state.set(state);
    }

    /// Something moves.
    pub(super) fn touch(&self, now: Instant) {
        self.moved.set(now);
    }

    /// A connection was opened for this client; the descriptor must stay open until
    /// [`Entry::parted`].
    pub(super) fn joined(&self, upstream: &impl AsRawFd, slot: &Rc<Slot>) {
        self.upstream.set(Some(upstream.as_raw_fd()));
        self.slot.replace(Some(slot.clone()));
    }

    /// It is about to be closed.
    pub(super) fn parted(&self) {
        self.upstream.set(None);
        self.slot.take();
    }

    fn cut(&self) {
        shut(self, Half::Both);
        if let Some(upstream) = self.upstream.get() {
            shut(&Fd(upstream), Half::Both);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.entries.borrow_mut().remove(self.key);
    }
}
