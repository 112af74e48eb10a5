//! The slots of all hosts, behind one lock, and the guard that gives one back.
//!
//! An uncontended lock costs 20 ns and is taken a few times a connection. Words for those that waited
//! are put into their workers' boxes after it is released.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::common::{self, Common};
use super::hosts::HostKey;
use super::hosts::slots::{Asked, Output, Slots, Ticket, TooManyCaps, Why};
use super::hub::Hub;
use super::post::{Address, Word};
use super::waits::InLine;
use super::worker::Worker;
use crate::clock;
use crate::metrics::{FleetCounters, HostTally};

/// The caps on connections to hosts, which can be changed at any time, from any thread.
#[derive(Clone)]
pub struct Limits {
    pub(super) hub: Arc<Hub>,
}

/// Why a cap was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotChanged {
    /// It is none of `host` and `host:port`.
    NotAHost,
    /// Too many hosts would have a cap of their own
    /// ([`FORWARD_HOST_LIMITS_MAX`](crate::config::bounds::FORWARD_HOST_LIMITS_MAX)).
    TooMany,
}

impl std::fmt::Display for NotChanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAHost => "not a host, nor a host with a port",
            Self::TooMany => "too many hosts would have a limit of their own",
        })
    }
}

impl std::error::Error for NotChanged {}

impl From<TooManyCaps> for NotChanged {
    fn from(TooManyCaps: TooManyCaps) -> Self {
        Self::TooMany
    }
}

impl Limits {
    /// Connections that each host without a limit of its own may have; 0 for no limit. A lower limit
    /// ends no connection.
    pub fn set_default_max_connections(&self, limit: u32) {
        self.hub.with_slots(|slots| slots.set_default_cap(limit));
    }

    /// The limit of hosts without one of their own; 0 for none.
    pub fn default_max_connections(&self) -> u32 {
        self.hub.slots().default_cap()
    }

    /// Gives `host`, or `host:port`, a limit of its own; 0 takes it away.
    ///
    /// # Errors
    /// See [`NotChanged`].
    pub fn set_host_limit(&self, host: &str, limit: u32) -> Result<(), NotChanged> {
        let host = HostKey::parse(host).ok_or(NotChanged::NotAHost)?;
        let set = self.hub.with_slots(|slots| slots.set_cap(&host, limit));
        Ok(set?)
    }

    /// Sets the limits of single hosts in place of those before; those of 0 are left out.
    ///
    /// # Errors
    /// See [`NotChanged`]; nothing is changed then.
    pub fn set_host_limits<'h>(
        &self,
        limits: impl IntoIterator<Item = (&'h str, u32)>,
    ) -> Result<(), NotChanged> {
        let keyed = limits.into_iter().map(|(host, limit)| {
            let host = HostKey::parse(host).ok_or(NotChanged::NotAHost)?;
            Ok((host, limit))
        });
        let keyed: Vec<_> = keyed.collect::<Result<_, NotChanged>>()?;
        Ok(self.hub.with_slots(|slots| slots.set_caps(keyed))?)
    }

    /// Takes a host's own limit away; false if it had none.
    pub fn remove_host_limit(&self, host: &str) -> bool {
        let host = HostKey::parse(host);
        host.is_some_and(|host| self.hub.with_slots(|slots| slots.remove_cap(&host)))
    }

    /// The limits of single hosts, sorted by host.
    pub fn host_limits(&self) -> Vec<(String, u32)> {
        let slots = self.hub.slots();
        let caps = slots.caps();
        caps.map(|(host, cap)| (host.to_string(), cap)).collect()
    }

    /// Connections to a host now, those included that are being opened. With caps shared through Redis
    /// those of the whole fleet, as far as known: this proxy's now, and the others' when this one last
    /// asked for a connection to that host; 0 if it has none and waits for none.
    pub fn active_connections(&self, host: &str) -> u32 {
        let Some(host) = HostKey::parse(host) else {
            return 0;
        };
        match &self.hub.common {
            Some(common) => common.fleet.active(&host),
            None => self.hub.slots().active(&host),
        }
    }

    /// What each host that metrics name has had, and all others together: of this proxy, also where
    /// caps are shared.
    pub fn tallies(&self) -> (Vec<(String, HostTally)>, HostTally) {
        let (named, others) = self.hub.tallies();
        let named = named.into_iter();
        let named = named.map(|(host, tally)| (host.to_string(), tally));
        (named.collect(), others)
    }

    /// The limit that holds for a host now, whether it is its own or the default; 0 for none.
    pub fn limit_of(&self, host: &str) -> u32 {
        let host = HostKey::parse(host);
        host.map_or(0, |host| self.hub.slots().cap(&host))
    }

    /// Clients that are connected.
    pub fn clients(&self) -> usize {
        self.hub.places.taken()
    }

    /// How it stands with the other proxies; `None` if caps are not shared.
    pub fn fleet(&self) -> Option<FleetCounters> {
        let common = self.hub.common.as_ref();
        common.map(|common| common.fleet.counters())
    }

    /// Everything that there is to be scraped, in Prometheus' text format.
    pub fn metrics_text(&self, out: &mut String) {
        self.hub.metrics_text(out);
    }
}

impl Hub {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // A panic inside would have to come from a broken invariant of the table; its counts are then
        // the best that there is.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the slots and tells those for whom that changes something.
    pub(super) fn with_slots<R>(&self, work: impl FnOnce(&mut Slots) -> R) -> R {
        let mut slots = self.slots();
        let result = work(&mut slots);
        let outputs = take_outputs(&mut slots);
        drop(slots);
        outputs.iter().for_each(|output| self.tell(output));
        result
    }

    fn tell(&self, output: &Output) {
        let address = of_ticket(output.ticket);
        let told = self
            .posts
            .get(address.worker)
            .map(|post| post.put(address.wait, Word::Slot(output.granted)));
        if !matches!(told, Some(Ok(()))) && output.granted {
            // That worker has ended, and its clients with it.
            self.with_slots(|slots| slots.give_back(&output.host));
        }
    }

    /// Ends waits whose time is over, whichever worker's they are, and says when to come back.
    pub(super) fn expire_waits(self: &Arc<Self>) -> Option<clock::Instant> {
        let now = clock::now();
        let here = self.with_slots(|slots| {
            slots.expire(now);
            slots.next_deadline()
        });
        let common = self.common.as_ref();
        let common = common.and_then(|common| common.tick(self, now));
        here.into_iter().chain(common).min()
    }

    /// The cap that holds for a host; 0 for none.
    pub(super) fn cap(&self, host: &HostKey) -> u32 {
        self.slots().cap(host)
    }

    /// The numbers of each host that metrics name, and of all others together. Who has a slot here and
    /// waits for a place of the fleet has no connection yet.
    pub(super) fn tallies(&self) -> (Vec<(HostKey, HostTally)>, HostTally) {
        let (mut named, mut others) = {
            let slots = self.slots();
            let (named, others) = slots.tallies();
            let named = named.into_iter();
            let named: Vec<_> = named.map(|(host, tally)| (host.clone(), tally)).collect();
            (named, others)
        };
        if let Some(common) = &self.common {
            let mut left = common.all_waiting();
            for (host, tally) in &mut named {
                let waiting = common.waiting(host);
                left = left.saturating_sub(waiting);
                tally.wait_instead(waiting);
            }
            others.wait_instead(left);
        }
        (named, others)
    }
}

fn take_outputs(slots: &mut Slots) -> Vec<Output> {
    std::iter::from_fn(|| slots.poll_output()).collect()
}

pub(super) fn to_ticket(address: Address) -> Ticket {
    Ticket((address.worker as u64) << 32 | u64::from(address.wait))
}

pub(super) fn of_ticket(ticket: Ticket) -> Address {
    Address {
        worker: (ticket.0 >> 32) as usize,
        wait: ticket.0 as u32,
    }
}

/// A slot of a host, given back when dropped, whatever ended its connection.
#[must_use]
pub(super) struct Slot {
    hub: Arc<Hub>,
    host: HostKey,
    /// It is a place of the fleet as well.
    common: Cell<bool>,
    sent: Cell<u64>,
    received: Cell<u64>,
}

/// Why there is no slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoSlot {
    /// All are taken.
    Full,
    /// None came free in time.
    WaitedTooLong,
    /// Too many wait, or too many hosts have connections.
    Bound,
    /// Nobody can say what the fleet has, and the policy says no.
    Shared,
}

impl Slot {
    fn new(hub: &Arc<Hub>, host: &HostKey) -> Self {
        Self {
            hub: hub.clone(),
            host: host.clone(),
            common: Cell::new(false),
            sent: Cell::new(0),
            received: Cell::new(0),
        }
    }

    pub(super) fn host(&self) -> &HostKey {
        &self.host
    }

    /// It is a place of the fleet as well from now on, and goes back there, too.
    pub(super) fn became_common(&self) {
        self.common.set(true);
    }

    /// The fleet has no place for it.
    pub(super) fn refused(&self) {
        self.hub.with_slots(|slots| slots.refused(&self.host));
    }

    /// The host has accepted.
    pub(super) fn opened(&self) {
        self.hub.with_slots(|slots| slots.opened(&self.host));
    }

    /// Bytes were relayed: to the host, and from it.
    pub(super) fn moved(&self, sent: usize, received: usize) {
        self.sent.set(self.sent.get() + sent as u64);
        self.received.set(self.received.get() + received as u64);
    }

    /// Has what was relayed counted.
    pub(super) fn publish(&self) {
        let (sent, received) = (self.sent.take(), self.received.take());
        if sent + received > 0 {
            self.hub
                .with_slots(|slots| slots.moved(&self.host, sent, received));
        }
    }

    /// Whether others want it, or may.
    pub(super) fn is_wanted(&self) -> bool {
        let cap = self.hub.cap(&self.host);
        let full_here = || self.hub.slots().is_full(&self.host);
        let common = self.hub.common.as_ref();
        let full = |common: &Common| common.fleet.active(&self.host) >= cap;
        cap > 0 && (full_here() || common.is_some_and(full))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.common.get()
            && let Some(common) = &self.hub.common
        {
            // Before the next one here has this slot, and asks.
            common.give_back(&self.hub, &self.host);
        }
        let (sent, received) = (self.sent.get(), self.received.get());
        self.hub.with_slots(|slots| {
            slots.moved(&self.host, sent, received);
            slots.give_back(&self.host);
        });
    }
}

/// Takes a slot of `host`, waiting in line for one as long as the settings say: of this proxy, then of
/// the fleet if there is one. May be dropped at any time: the place in line, or the slot, is then given
/// back.
pub(super) async fn take(worker: &Rc<Worker>, host: &HostKey) -> Result<Slot, NoSlot> {
    let hub = &worker.hub;
    let patience = hub.settings.queue_timeout;
    let until = patience.map(|patience| clock::now() + patience);
    let slot = take_here(worker, host, patience).await?;
    match &hub.common {
        None => Ok(slot),
        Some(common) => common::count(worker, common, slot, until).await,
    }
}

async fn take_here(
    worker: &Rc<Worker>,
    host: &HostKey,
    patience: Option<Duration>,
) -> Result<Slot, NoSlot> {
    let hub = &worker.hub;
    let late = {
        let (hub, host) = (hub.clone(), host.clone());
        move |word| {
            if matches!(word, Word::Slot(true)) {
                drop(Slot::new(&hub, &host));
            }
        }
    };
    let wait = worker.waits.begin(late);
    let ticket = to_ticket(Address {
        worker: worker.index,
        wait: wait.key(),
    });
    let now = clock::now();
    match hub.with_slots(|slots| slots.ask(now, host, ticket, patience)) {
        Asked::Granted => {
            wait.forget();
            Ok(Slot::new(hub, host))
        }
        Asked::Refused(why) => {
            wait.forget();
            Err(match why {
                Why::Full => NoSlot::Full,
                Why::TooManyWaiting | Why::TooManyHosts => NoSlot::Bound,
            })
        }
        Asked::Waiting(place) => {
            let mut line = InLine::new(wait, || hub.with_slots(|slots| slots.cancel(host, place)));
            if let Some(patience) = patience {
                worker.alarm.ring_at(now + patience);
            }
            match line.word().await {
                Word::Slot(true) => Ok(Slot::new(hub, host)),
                Word::Slot(false) | Word::Place(_) | Word::Addresses(_) => {
                    Err(NoSlot::WaitedTooLong)
                }
            }
        }
    }
}
