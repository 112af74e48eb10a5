//! The client connections of one worker, so that draining can end those that idle.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use slab::Slab;

use crate::io::socket::{Half, shut};

/// The connections that are open now.
#[derive(Default)]
pub(super) struct Registry {
    entries: RefCell<Slab<Rc<Entry>>>,
    draining: Cell<bool>,
}

struct Entry {
    fd: RawFd,
    idle: Cell<bool>,
}

impl AsRawFd for Entry {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

/// One connection's entry, struck off when dropped. Must be dropped before its socket.
pub(super) struct Registered {
    registry: Rc<Registry>,
    key: usize,
    entry: Rc<Entry>,
}

impl Registry {
    /// Enters a connection.
    pub(super) fn enter(self: &Rc<Self>, socket: &impl AsRawFd) -> Registered {
        let entry = Rc::new(Entry {
            fd: socket.as_raw_fd(),
            idle: Cell::new(true),
        });
        let key = self.entries.borrow_mut().insert(entry.clone());
        Registered {
            registry: self.clone(),
            key,
            entry,
        }
    }

    /// Connections that would idle from now on should end soon.
    pub(super) fn drain(&self) {
        self.draining.set(true);
    }

    /// Ends the connections that idle now.
    pub(super) fn end_idle(&self) {
        for (_, entry) in self.entries.borrow().iter() {
            if entry.idle.get() {
                shut(&**entry, Half::Read);
            }
        }
    }

    /// Ends every connection at once.
    pub(super) fn cut(&self) {
        for (_, entry) in &*self.entries.borrow() {
            shut(&**entry, Half::Both);
        }
    }

    /// How many connections are not idle.
    pub(super) fn busy(&self) -> usize {
        let entries = self.entries.borrow();
        entries.iter().filter(|(_, e)| !e.idle.get()).count()
    }

    /// How many connections are open.
    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }
}

impl Registered {
    /// Says whether the connection is between two requests. False if it should end soon instead.
    pub(super) fn set_idle(&self, idle: bool) -> bool {
        self.entry.idle.set(idle);
        !(idle && self.registry.draining.get())
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.entries.borrow_mut().remove(self.key);
    }
}
