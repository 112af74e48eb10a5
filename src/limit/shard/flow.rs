//! Who goes and who waits: slots taken and released, queues, and the timers that move them.

use super::lanes::Held;
use super::{Active, Hold, NONE, Shard, Step, Waiter, refused};
use crate::clock::Instant;
use crate::limit::ask::{Ask, Outputs, Permit, Reason, Ticket};
use crate::limit::bucket::{Ahead, Bucket, Kind, Slot};
use crate::limit::learn;
use crate::limit::pressure::{Behind, Pressure};
use crate::limit::queue::Queue;
use std::time::Duration;

/// Where a request stands in its bucket's queue.
#[derive(Clone, Copy)]
pub(super) enum Stand {
    /// Behind all others.
    Last,
    /// Before all others: it was sent once.
    First,
    /// Before those that asked later.
    InTurn,
}

impl Shard {
    /// Whether the next request of `bucket` may go.
    pub(super) fn may_go(&self, now: Instant, bucket: u32, serial: bool) -> Result<(), Slot> {
        let b = &self.buckets[bucket];
        if serial && b.is(Bucket::SERIAL) {
            return Err(Slot::AfterAnswer);
        }
        match b.slot(now, self.settings.default_bucket) {
            Slot::Now if b.kind() == Kind::Lane => self.suspects_allow(now, bucket),
            Slot::Now => Ok(()),
            wait => Err(wait),
        }
    }

    pub(super) fn take(&mut self, now: Instant, bucket: u32, permit: &mut Permit) {
        if self.buckets[bucket].kind() == Kind::Lane {
            self.buckets[bucket].take_unknown(permit.key.route);
            self.take_suspects(now, bucket, permit);
        }
        self.buckets[bucket].take(now, permit.is(Permit::SERIAL));
        self.serial = self.serial.wrapping_add(1);
        permit.serial = self.serial;
        permit.bucket = bucket;
        permit.sent = now;
    }

    /// Takes back the slots of a permit; the suspects' are named.
    pub(super) fn release(&mut self, now: Instant, permit: &Permit) -> Held {
        self.buckets[permit.bucket].release(now, permit.is(Permit::SERIAL));
        let held = self.release_suspects(now, permit);
        if !self.holds.is_empty() {
            self.release_holds(now, permit, &held);
        }
        held
    }

    /// If a request of `route` may be under way from `from`: lets `to` wait until all is back that is.
    pub(super) fn hold(&mut self, from: u32, route: u64, to: u32) {
        let left = self.buckets[from].in_flight();
        let may = self.buckets[from].may_have_under_way(route);
        if may {
            let serial = self.serial;
            self.add_hold(Hold {
                from,
                to,
                serial,
                left,
            });
        }
        // What `from` itself waits for may be of this route too.
        if self.buckets[from].is(Bucket::HELD) {
            for at in 0..self.holds.len() {
                if self.holds[at].to == from && self.holds[at].from != to {
                    self.add_hold(Hold {
                        to,
                        ..self.holds[at]
                    });
                }
            }
        }
    }

    fn add_hold(&mut self, hold: Hold) {
        if !self.holds.contains(&hold) {
            self.holds.push(hold);
            self.buckets[hold.to].set(Bucket::HELD, true);
        }
    }

    fn release_holds(&mut self, now: Instant, permit: &Permit, held: &[u32]) {
        let (holds, buckets, moved) = (&mut self.holds, &mut self.buckets, &mut self.moved);
        for hold in holds.iter_mut() {
            let meant = (hold.serial.wrapping_sub(permit.serial) as i32) >= 0;
            if meant && (hold.from == permit.bucket || held.contains(&hold.from)) {
                hold.left -= 1;
                if hold.left == 0 {
                    buckets[hold.to].set(Bucket::HELD, false);
                    buckets[hold.to].touch(now);
                    moved.push(hold.to);
                }
            }
        }
        holds.retain(|hold| hold.left > 0);
        holds
            .iter()
            .for_each(|hold| buckets[hold.to].set(Bucket::HELD, true));
    }

    pub(super) fn after_release(
        &mut self,
        now: Instant,
        permit: &Permit,
        held: &[u32],
        out: &mut Outputs,
    ) {
        // The lane first: it waits only if it may need a slot of the bucket that is released here.
        if self.lanes_waiting > 0
            && let Some(lane) = self.index.get(learn::lane_key(&permit.key))
            && lane != permit.bucket
        {
            self.pump(now, lane, out);
        }
        self.pump(now, permit.bucket, out);
        for &suspect in held {
            self.pump(now, suspect, out);
        }
    }

    /// Pumps the bucket that an answer spoke of, if it is not the permit's, and those between which
    /// waiters moved.
    pub(super) fn pump_others(
        &mut self,
        now: Instant,
        own: u32,
        target: Option<u32>,
        out: &mut Outputs,
    ) {
        if let Some(bucket) = target.filter(|&bucket| bucket != own) {
            self.pump(now, bucket, out);
        }
        self.pump_moved(now, out);
    }

    pub(super) fn pump_moved(&mut self, now: Instant, out: &mut Outputs) {
        while let Some(bucket) = self.moved.pop() {
            self.pump(now, bucket, out);
        }
    }

    pub(super) fn enqueue(
        &mut self,
        now: Instant,
        bucket: u32,
        ask: &Ask,
        permit: Permit,
        behind: Behind,
        out: &mut Outputs,
    ) -> Step {
        let serial = permit.is(Permit::SERIAL);
        let ahead =
            self.actives
                .get(self.buckets[bucket].active)
                .map_or(Ahead::default(), |active| Ahead {
                    waiting: active.queue.len(),
                    serial: active.serials,
                });
        if let Some(max) = ask.max_wait {
            let wait = self.predict(now, bucket, ahead, serial).max(behind.others);
            if wait > max {
                return refused(Reason::TooLong, wait);
            }
        }
        if ahead.waiting >= self.settings.waiting_per_bucket_max {
            let wait = self.predict(now, bucket, ahead, serial);
            return refused(Reason::QueueFull, wait.max(behind.others));
        }
        if self.waiters.len() >= self.settings.waiting_max {
            let wait = self.predict(now, bucket, ahead, serial);
            return refused(Reason::TooManyWaiting, wait.max(behind.others));
        }
        let ahead = ahead.waiting;
        let active = self.stand(bucket, ask.ticket, permit, Stand::Last);
        if ahead == 0 {
            self.pump(now, bucket, out);
        } else {
            self.press(now, active, out);
        }
        self.check_invariants();
        Step::Waits
    }

    /// A permit has stood in the line for the global window and may go now. Whether its slot has gone
    /// meanwhile, for the bucket turned out fuller, smaller, paused, or not to be the route's: then the
    /// request is back in its bucket, where it stood, and so are those of its bucket that asked later
    /// and were let go, but have not reached the line.
    pub(in crate::limit) fn recall(
        &mut self,
        now: Instant,
        ticket: Ticket,
        permit: &Permit,
        out: &mut Outputs,
    ) -> bool {
        let b = &self.buckets[permit.bucket];
        let current = self.index.get(learn::route_key(&permit.key));
        let bucket = current.unwrap_or(permit.bucket);
        let first = self.actives.get(b.active).and_then(|a| a.queue.front());
        let first = first.map(|node| &self.waiters.get(node).permit);
        // The first may have been let go again, and not have reached the line yet.
        let ready = out.ready.iter().map(|(_, ready)| ready);
        let mut others = first
            .into_iter()
            .chain(ready.filter(|ready| ready.shares_bucket(permit)));
        let overtakes = others.any(|other| other.asked_before(permit));
        let width = self.settings.default_bucket;
        let has_slot = b.slot_of_one(now, width) == Slot::Now && self.suspects_spare(now, permit);
        if bucket == permit.bucket && !overtakes && has_slot {
            return false;
        }
        let held = self.release(now, permit);
        self.stand(bucket, ticket, permit.again(), Stand::InTurn);
        while let Some(place) = out.ready.iter().position(|(_, ready)| {
            ready.shares_bucket(permit) && ready.asked_after(permit.asked, permit.turn)
        }) {
            if let Some((ticket, later)) = out.ready.remove(place) {
                self.call_back(now, ticket, &later);
            }
        }
        self.after_release(now, permit, &held, out);
        self.pump_others(now, permit.bucket, Some(bucket), out);
        self.check_invariants();
        true
    }

    /// A permit that has passed its bucket alone stands in it again.
    fn call_back(&mut self, now: Instant, ticket: Ticket, permit: &Permit) {
        let held = self.release(now, permit);
        let current = self.index.get(learn::route_key(&permit.key));
        let bucket = current.unwrap_or(permit.bucket);
        self.stand(bucket, ticket, permit.again(), Stand::InTurn);
        self.moved.extend([permit.bucket, bucket]);
        self.moved.extend(held);
    }

    /// When a request behind `ahead` would go.
    pub(super) fn predict(
        &self,
        now: Instant,
        bucket: u32,
        ahead: Ahead,
        serial: bool,
    ) -> Duration {
        let width = self.settings.default_bucket;
        let b = &self.buckets[bucket];
        b.predicted_wait(now, ahead, serial, width, self.trip.smoothed())
    }

    /// Lets a request wait in `bucket`, whose queue is returned.
    pub(super) fn stand(
        &mut self,
        bucket: u32,
        ticket: Ticket,
        permit: Permit,
        place: Stand,
    ) -> u32 {
        let active = self.activate(bucket);
        let queue = &mut self.actives[active].queue;
        let (asked, turn) = (permit.asked, permit.turn);
        let serial = permit.is(Permit::SERIAL);
        let waiter = Waiter {
            ticket,
            permit,
            active,
        };
        let node = match place {
            Stand::Last => self.waiters.push_back(queue, waiter),
            Stand::First => self.waiters.push_before(queue, waiter, |_| true),
            Stand::InTurn => self
                .waiters
                .push_before(queue, waiter, |other| other.permit.asked_after(asked, turn)),
        };
        self.tickets.insert(ticket, node);
        self.actives[active].serials += u32::from(serial);
        active
    }

    /// The queue of `bucket`, made if it has none.
    pub(super) fn activate(&mut self, bucket: u32) -> u32 {
        if self.buckets[bucket].active == NONE {
            let active = self.actives.insert(Active {
                bucket,
                queue: Queue::EMPTY,
                serials: 0,
                timer: None,
                identity: 0,
                pressure: Pressure::default(),
            });
            self.buckets[bucket].active = active;
            self.lanes_waiting += u32::from(self.buckets[bucket].kind() == Kind::Lane);
        }
        self.buckets[bucket].active
    }

    /// Lets go whoever may go, and arms the timer for the next.
    pub(super) fn pump(&mut self, now: Instant, bucket: u32, out: &mut Outputs) {
        let active = self.buckets[bucket].active;
        if active == NONE {
            return;
        }
        let mut wake = None;
        while let Some(node) = self.actives[active].queue.front() {
            let serial = self.waiters.get(node).permit.is(Permit::SERIAL);
            match self.may_go(now, bucket, serial) {
                Ok(()) => {
                    let Some(waiter) = self.waiters.remove(&mut self.actives[active].queue, node)
                    else {
                        break;
                    };
                    self.tickets.remove(&waiter.ticket);
                    self.actives[active].serials -= u32::from(serial);
                    let mut permit = waiter.permit;
                    self.take(now, bucket, &mut permit);
                    out.ready.push_back((waiter.ticket, permit));
                }
                Err(slot) => {
                    if let Slot::At(at) = slot {
                        wake = Some(at);
                    }
                    break;
                }
            }
        }
        let timer = &mut self.actives[active].timer;
        self.agenda.set(timer, wake, active, out);
        self.press(now, active, out);
        if self.actives[active].queue.is_empty() {
            self.buckets[bucket].active = NONE;
            self.actives.remove(active);
            self.lanes_waiting -= u32::from(self.buckets[bucket].kind() == Kind::Lane);
        }
    }

    /// Tells the identity how many wait here, if its window counts them.
    pub(super) fn press(&mut self, now: Instant, active: u32, out: &mut Outputs) {
        let Active {
            bucket,
            queue,
            serials,
            pressure: old,
            ..
        } = self.actives[active];
        let front = queue.front().map(|node| &self.waiters.get(node).permit);
        let new = match front {
            Some(permit) if permit.is(Permit::GLOBAL) => {
                let (width, trip) = (self.settings.default_bucket, self.trip.smoothed());
                let ahead = Ahead {
                    waiting: queue.len(),
                    serial: serials,
                };
                self.actives[active].identity = permit.key.identity;
                self.buckets[bucket].pressure(now, ahead, width, trip)
            }
            _ => Pressure::default(),
        };
        if new != old {
            let identity = self.actives[active].identity;
            out.pressures.push_back((identity, old, new));
            self.actives[active].pressure = new;
        }
    }
}
