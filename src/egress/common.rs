//! Places that this proxy shares with others: each slot of this process is one of the whole fleet as
//! well, asked for when there is one here.
//!
//! Answers come on the thread that talks to Redis, or at once. They are put into the worker's box, as
//! what other threads have for it always is. No lock is held while the fleet is asked or told.

use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hosts::HostKey;
use super::hub::Hub;
use super::limits::{NoSlot, Slot, of_ticket, to_ticket};
use super::post::{Address, Word};
use super::shared::line::{AGAIN, Lines, Outcome, Output};
use super::shared::{Fleet, Verdict};
use super::waits::InLine;
use super::worker::Worker;
use crate::clock::{self, Instant};

/// The fleet, and who waits for it.
pub(super) struct Common {
    pub(super) fleet: Fleet,
    lines: Mutex<Lines>,
}

impl Common {
    pub(super) fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            lines: Mutex::default(),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // As with the slots: what is there is the best that there is.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have a slot here and wait for a place of the fleet.
    pub(super) fn waiting(&self, host: &HostKey) -> u64 {
        self.lines().waiting(host) as u64
    }

    /// The same of all hosts.
    pub(super) fn all_waiting(&self) -> u64 {
        self.lines().all_waiting() as u64
    }

    /// Does something to the lines, and what follows from it.
    fn with_lines<R>(&self, hub: &Arc<Hub>, work: impl FnOnce(&mut Lines) -> R) -> R {
        let mut lines = self.lines();
        let result = work(&mut lines);
        let outputs: Vec<Output> = std::iter::from_fn(|| lines.poll_output()).collect();
        drop(lines);
        for output in outputs {
            self.carry_out(hub, output);
        }
        result
    }

    fn carry_out(&self, hub: &Arc<Hub>, output: Output) {
        match output {
            Output::Ask(host) => {
                let (asked, cap) = (hub.clone(), hub.cap(&host));
                let key = host.clone();
                let answer = move |verdict| asked.answered(&key, verdict);
                self.fleet.take(&host, cap, Box::new(answer));
            }
            Output::Tell(ticket, host, outcome) => {
                let address = of_ticket(ticket);
                let post = hub.posts.get(address.worker);
                let told = post.map(|post| post.put(address.wait, Word::Place(outcome)));
                if !matches!(told, Some(Ok(()))) && outcome == Outcome::Granted {
                    // That worker has ended, and its clients with it.
                    self.fleet.give_back(&host);
                }
            }
            Output::GiveBack(host) => self.fleet.give_back(&host),
        }
    }

    /// Ends waits whose time is over, asks again, and says when to come back.
    pub(super) fn tick(&self, hub: &Arc<Hub>, now: Instant) -> Option<Instant> {
        self.with_lines(hub, |lines| {
            lines.tick(now);
            lines.next_deadline(now)
        })
    }

    /// A place that was granted is free again.
    pub(super) fn give_back(&self, hub: &Arc<Hub>, host: &HostKey) {
        // In this order, so that who is asked for now finds it free.
        self.fleet.give_back(host);
        self.with_lines(hub, |lines| lines.freed(host));
    }
}

impl Hub {
    fn answered(self: &Arc<Self>, host: &HostKey, verdict: Verdict) {
        if let Some(common) = &self.common {
            common.with_lines(self, |lines| lines.answered(clock::now(), host, verdict));
        }
    }
}

/// Makes a slot one of the whole fleet, waiting in line until then; without, it is asked for once. May
/// be dropped at any time: the place in line, or the one that was granted, is then given back.
pub(super) async fn count(
    worker: &Rc<Worker>,
    common: &Common,
    slot: Slot,
    until: Option<Instant>,
) -> Result<Slot, NoSlot> {
    let hub = &worker.hub;
    let late = {
        let (hub, host) = (hub.clone(), slot.host().clone());
        move |word| {
            if let (Word::Place(Outcome::Granted), Some(common)) = (word, &hub.common) {
                common.give_back(&hub, &host);
            }
        }
    };
    let wait = worker.waits.begin(late);
    let ticket = to_ticket(Address {
        worker: worker.index,
        wait: wait.key(),
    });
    let position = common.with_lines(hub, |lines| lines.enter(slot.host(), ticket, until));
    if until.is_some() {
        worker.alarm.ring_at(clock::now() + AGAIN);
    }
    let mut line = InLine::new(wait, || {
        common.with_lines(hub, |lines| lines.leave(slot.host(), position))
    });
    let outcome = match line.word().await {
        Word::Place(outcome) => outcome,
        Word::Slot(_) | Word::Addresses(_) => Outcome::Refused,
    };
    drop(line);
    let no_slot = match outcome {
        Outcome::Granted => {
            slot.became_common();
            return Ok(slot);
        }
        Outcome::Full => NoSlot::Full,
        Outcome::TooLate => NoSlot::WaitedTooLong,
        Outcome::Refused => return Err(NoSlot::Shared),
    };
    slot.refused();
    Err(no_slot)
}
