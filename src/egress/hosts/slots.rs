//! How many connections each host has, and who waits for one: an exact count and a line for each.
//!
//! A slot is taken before a host is dialled and given back when the connection has ended. With all
//! slots taken, who asks is refused, or waits: first come, first served, until a deadline. The state
//! machine knows neither sockets nor time: `now` is told, and what became of those that waited is
//! read from [`Slots::poll_output`] until there is none.
//!
//! ```text
//! ask ──▶ Granted ───────────────▶ connection ──▶ give_back ──▶ next in line: Output Granted
//!    ├──▶ Waiting ──▶ (cancel | expire: Output TimedOut)
//!    └──▶ Refused
//! ```
//!
//! A host that has neither connections nor waiters is kept for its numbers alone, as long as there is
//! room. Asking and giving back cost one look-up in a hash table each, 60 ns, and nothing is
//! allocated for a host that is known.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ahash::AHashMap;

use crate::clock::Instant;
use crate::destination::HostKey;
use crate::metrics::HostTally;

/// Hosts that are known at a time. Those with connections are as many as there are connections at
/// the most; a fleet talks to a handful.
pub const HOSTS_MAX: usize = 4_096;

/// Connections that wait for a slot, of all hosts. Each holds a client's connection and half a KiB.
pub const WAITING_MAX: usize = 10_000;

/// Hosts that can have a cap of their own.
pub const CAPS_MAX: usize = crate::config::bounds::FORWARD_HOST_LIMITS_MAX;

/// Hosts that metrics name; the others are one together. A scrape of five families stays below
/// 100 KiB.
pub const NAMED_MAX: usize = 128;

/// Whom an [`Output`] is for; the asker's to choose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket(pub u64);

/// A place in a line, for [`Slots::cancel`]. Never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(u64);

/// What became of an [`Slots::ask`].
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// A slot is taken, and has to be given back.
    Granted,
    /// An [`Output`] will follow, unless this place is cancelled.
    Waiting(Place),
    /// No slot was taken, and none will be.
    Refused(Why),
}

/// Why there is no slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The host has as many connections as it may.
    Full,
    /// [`WAITING_MAX`] wait already.
    TooManyWaiting,
    /// [`HOSTS_MAX`] hosts have connections.
    TooManyHosts,
}

/// What became of one that waited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Who waited.
    pub ticket: Ticket,
    /// For a slot of this host.
    pub host: HostKey,
    /// Whether it has a slot now, which has to be given back; otherwise its deadline has passed.
    pub granted: bool,
}

/// There is no room for another cap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyCaps;

/// The slots of all hosts.
pub struct Slots {
    /// Of a host without a cap of its own; 0 is none.
    default_cap: u32,
    /// A cap of 0 is none, whatever the default is. Invariant: at most [`CAPS_MAX`].
    caps: BTreeMap<HostKey, u32>,
    hosts: AHashMap<HostKey, Entry>,
    /// The hosts with neither connections nor waiters, the longest idle first.
    idle: BTreeMap<u64, HostKey>,
    /// Everybody in a line, by deadline.
    deadlines: BTreeMap<(Instant, Place), HostKey>,
    outputs: VecDeque<Output>,
    /// Counts places and idle times, so that none is used twice.
    order: u64,
    named: usize,
    /// What the forgotten hosts had.
    forgotten: HostTally,
}

#[derive(Default)]
struct Entry {
    active: u32,
    /// Invariant: empty unless all slots are taken.
    line: BTreeMap<Place, Waiter>,
    /// Its place among the idle ones. Invariant: there is one exactly if it has neither connections
    /// nor waiters.
    idle: Option<u64>,
    /// Whether metrics name it.
    named: bool,
    tally: HostTally,
}

struct Waiter {
    ticket: Ticket,
    deadline: Instant,
}

impl Slots {
    /// No connections yet; `default_cap` for hosts that have none in `caps`, 0 for no cap. Those
    /// beyond [`CAPS_MAX`] are left out.
    pub fn new(default_cap: u32, caps: impl IntoIterator<Item = (HostKey, u32)>) -> Self {
        let caps = caps.into_iter().take(CAPS_MAX);
        Self {
            default_cap,
            caps: caps.collect(),
            hosts: AHashMap::new(),
            idle: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            outputs: VecDeque::new(),
            order: 0,
            named: 0,
            forgotten: HostTally::default(),
        }
    }

    /// Asks for a slot of `host`; without a `patience` there is no waiting.
    pub fn ask(
        &mut self,
        now: Instant,
        host: &HostKey,
        ticket: Ticket,
        patience: Option<Duration>,
    ) -> Asked {
        if !self.hosts.contains_key(host) && !self.make_room() {
            return Asked::Refused(Why::TooManyHosts);
        }
        let cap = self.cap(host);
        let waiting = self.deadlines.len();
        let order = self.next_order();
        let entry = self.enter(host);
        if cap == 0 || entry.active < cap {
            entry.active += 1;
            return Asked::Granted;
        }
        let (Some(patience), true) = (patience, waiting < WAITING_MAX) else {
            entry.tally.refused += 1;
            return Asked::Refused(match patience {
                None => Why::Full,
                Some(_) => Why::TooManyWaiting,
            });
        };
        let (place, deadline) = (Place(order), now + patience);
        entry.tally.waited += 1;
        entry.line.insert(place, Waiter { ticket, deadline });
        self.deadlines.insert((deadline, place), host.clone());
        Asked::Waiting(place)
    }

    /// Counts a slot's connection as opened: the host answered.
    pub fn opened(&mut self, host: &HostKey) {
        let may_name = self.named < NAMED_MAX;
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.tally.opened += 1;
            if may_name && !entry.named {
                entry.named = true;
                self.named += 1;
            }
        }
    }

    /// Counts a slot that is of no use, since other proxies have all connections that there may be.
    pub fn refused(&mut self, host: &HostKey) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.tally.refused += 1;
        }
    }

    /// Counts bytes of the connections that a host has.
    pub fn moved(&mut self, host: &HostKey, sent: u64, received: u64) {
        if let Some(entry) = self.hosts.get_mut(host) {
            entry.tally.sent_bytes += sent;
            entry.tally.received_bytes += received;
        }
    }

    /// Gives a slot back that was granted, by answer or output. The next in line gets it.
    pub fn give_back(&mut self, host: &HostKey) {
        let Some(entry) = self.hosts.get_mut(host) else {
            debug_assert!(false, "a slot of an unknown host");
            return;
        };
        debug_assert!(entry.active > 0, "a slot given back twice");
        entry.active = entry.active.saturating_sub(1);
        self.settle(host);
    }

    /// Leaves the line. False if that place has had its [`Output`], which may have granted a slot.
    pub fn cancel(&mut self, host: &HostKey, place: Place) -> bool {
        let Some(entry) = self.hosts.get_mut(host) else {
            return false;
        };
        let Some(waiter) = entry.line.remove(&place) else {
            return false;
        };
        self.deadlines.remove(&(waiter.deadline, place));
        self.settle(host);
        true
    }

    /// Ends the wait of everybody whose deadline is not after `now`.
    pub fn expire(&mut self, now: Instant) {
        while let Some(first) = self.deadlines.first_entry() {
            let (deadline, place) = *first.key();
            if deadline > now {
                return;
            }
            let host = first.remove();
            if let Some(entry) = self.hosts.get_mut(&host)
                && let Some(waiter) = entry.line.remove(&place)
            {
                entry.tally.refused += 1;
                self.outputs.push_back(Output {
                    ticket: waiter.ticket,
                    host: host.clone(),
                    granted: false,
                });
            }
            self.settle(&host);
        }
    }

    /// When [`Slots::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first_key_value();
        first.map(|((deadline, _), _)| *deadline)
    }

    /// What became of those that waited, in the order in which it happened.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The cap of hosts without one of their own; 0 for none.
    pub fn default_cap(&self) -> u32 {
        self.default_cap
    }

    /// Sets [`Slots::default_cap`]. A lower cap ends no connection: there are no new ones until enough
    /// of them have ended.
    pub fn set_default_cap(&mut self, cap: u32) {
        self.default_cap = cap;
        self.settle_all();
    }

    /// The caps of single hosts; 0 for one that is free of the default.
    pub fn caps(&self) -> impl Iterator<Item = (&HostKey, u32)> {
        self.caps.iter().map(|(host, &cap)| (host, cap))
    }

    /// Gives a host a cap of its own; 0 takes it away, as dprl has it, so that the default holds.
    ///
    /// # Errors
    /// There are [`CAPS_MAX`] already, and nothing is changed.
    pub fn set_cap(&mut self, host: &HostKey, cap: u32) -> Result<(), TooManyCaps> {
        if cap == 0 {
            self.remove_cap(host);
            return Ok(());
        }
        if self.caps.len() >= CAPS_MAX && !self.caps.contains_key(host) {
            return Err(TooManyCaps);
        }
        self.caps.insert(host.clone(), cap);
        self.settle(host);
        Ok(())
    }

    /// Sets the caps of single hosts in place of those before.
    ///
    /// # Errors
    /// They are more than [`CAPS_MAX`], and nothing is changed.
    pub fn set_caps(
        &mut self,
        caps: impl IntoIterator<Item = (HostKey, u32)>,
    ) -> Result<(), TooManyCaps> {
        let caps = caps.into_iter().filter(|(_, cap)| *cap > 0);
        let caps: BTreeMap<_, _> = caps.take(CAPS_MAX + 1).collect();
        if caps.len() > CAPS_MAX {
            return Err(TooManyCaps);
        }
        self.caps = caps;
        self.settle_all();
        Ok(())
    }

    /// Takes a host's own cap away; true if there was one.
    pub fn remove_cap(&mut self, host: &HostKey) -> bool {
        let removed = self.caps.remove(host).is_some();
        self.settle(host);
        removed
    }

    /// The cap that holds for a host; 0 for none.
    pub fn cap(&self, host: &HostKey) -> u32 {
        self.caps.get(host).copied().unwrap_or(self.default_cap)
    }

    /// Connections of a host, those included that are being opened.
    pub fn active(&self, host: &HostKey) -> u32 {
        self.hosts.get(host).map_or(0, |entry| entry.active)
    }

    /// Whether a host's slots are all taken, so that whoever comes next waits or is refused.
    pub fn is_full(&self, host: &HostKey) -> bool {
        let cap = self.cap(host);
        cap > 0 && self.active(host) >= cap
    }

    /// Everybody who waits.
    pub fn waiting(&self) -> usize {
        self.deadlines.len()
    }

    /// The numbers of each host that metrics name, and of all others together.
    pub fn tallies(&self) -> (Vec<(&HostKey, HostTally)>, HostTally) {
        let mut named = Vec::new();
        let mut others = self.forgotten;
        for (host, entry) in &self.hosts {
            let tally = HostTally {
                active: entry.active.into(),
                waiting: entry.line.len() as u64,
                ..entry.tally
            };
            if entry.named {
                named.push((host, tally));
            } else {
                others.add(&tally);
            }
        }
        named.sort_unstable_by_key(|(host, _)| *host);
        (named, others)
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// The entry of a host that is asked for, no longer idle.
    fn enter(&mut self, host: &HostKey) -> &mut Entry {
        let entry = self.hosts.entry(host.clone()).or_default();
        if let Some(idle) = entry.idle.take() {
            self.idle.remove(&idle);
        }
        entry
    }

    /// Makes sure that another host can be known; false if all have connections.
    fn make_room(&mut self) -> bool {
        if self.hosts.len() < HOSTS_MAX {
            return true;
        }
        let Some((_, host)) = self.idle.pop_first() else {
            return false;
        };
        self.forget(&host);
        true
    }

    fn forget(&mut self, host: &HostKey) {
        if let Some(entry) = self.hosts.remove(host) {
            self.forgotten.add(&entry.tally);
            self.named -= usize::from(entry.named);
        }
    }

    fn settle_all(&mut self) {
        let hosts: Vec<HostKey> = self.deadlines.values().cloned().collect();
        for host in &hosts {
            self.settle(host);
        }
    }

    /// Gives free slots to those in line; a host that nobody wants any more becomes idle.
    fn settle(&mut self, host: &HostKey) {
        let cap = self.cap(host);
        let Some(entry) = self.hosts.get_mut(host) else {
            return;
        };
        while cap == 0 || entry.active < cap {
            let Some((place, waiter)) = entry.line.pop_first() else {
                break;
            };
            self.deadlines.remove(&(waiter.deadline, place));
            entry.active += 1;
            self.outputs.push_back(Output {
                ticket: waiter.ticket,
                host: host.clone(),
                granted: true,
            });
        }
        if entry.active > 0 || !entry.line.is_empty() || entry.idle.is_some() {
            return;
        }
        // Of a host that never answered nothing is kept: its name may be anybody's invention.
        if entry.tally.opened == 0 {
            self.forget(host);
            return;
        }
        self.order += 1;
        entry.idle = Some(self.order);
        self.idle.insert(self.order, host.clone());
    }

    /// # Panics
    /// An invariant does not hold.
    pub fn check_invariants(&self) {
        assert!(self.hosts.len() <= HOSTS_MAX);
        assert!(self.deadlines.len() <= WAITING_MAX);
        assert!(self.caps.len() <= CAPS_MAX);
        let mut waiting = 0;
        for (host, entry) in &self.hosts {
            let cap = self.cap(host);
            assert!(
                entry.line.is_empty() || cap > 0 && entry.active >= cap,
                "{host}: some wait although {} of {cap} slots are taken",
                entry.active
            );
            for (place, waiter) in &entry.line {
                assert_eq!(self.deadlines.get(&(waiter.deadline, *place)), Some(host));
            }
            waiting += entry.line.len();
            let unused = entry.active == 0 && entry.line.is_empty();
            assert_eq!(unused, entry.idle.is_some(), "{host}");
            if let Some(idle) = &entry.idle {
                assert_eq!(self.idle.get(idle), Some(host));
            }
        }
        assert_eq!(waiting, self.deadlines.len());
        let idle = self.hosts.values().filter(|e| e.idle.is_some()).count();
        assert_eq!(idle, self.idle.len());
        let named = self.hosts.values().filter(|e| e.named).count();
        assert_eq!(named, self.named);
        assert!(named <= NAMED_MAX);
    }
}

#[cfg(test)]
mod tests;
