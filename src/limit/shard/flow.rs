//! Who goes and who waits: slots taken and released, queues, and the timers that move them.

use super::{Active, Hold, NONE, Shard, Step, Waiter, refused};
use crate::clock::Instant;
use crate::limit::ask::{Ask, Output, Outputs, Permit, Reason};
use crate::limit::bucket::{Bucket, Kind, Slot};
use crate::limit::learn;
use crate::limit::queue::Queue;

impl Shard {
    /// Whether the next request of `bucket` may go; if so, with the suspect it also needs a slot of.
    pub(super) fn may_go(&self, now: Instant, bucket: u32, serial: bool) -> Result<u32, Slot> {
        let b = &self.buckets[bucket];
        if serial && b.is(Bucket::SERIAL) {
            return Err(Slot::AfterAnswer);
        }
        match b.slot(now, self.settings.default_bucket) {
            Slot::Now if b.kind() == Kind::Lane => self.suspect_allows(now, b),
            Slot::Now => Ok(NONE),
            wait => Err(wait),
        }
    }

    /// An unknown route may fall into the bucket that was learned last. It takes a slot there too;
    /// if there is none, it waits only once that has happened before.
    pub(super) fn suspect_allows(&self, now: Instant, lane: &Bucket) -> Result<u32, Slot> {
        let Some(suspect) = (lane.name_key != 0)
            .then(|| self.index.get(lane.name_key))
            .flatten()
        else {
            return Ok(NONE);
        };
        match self.buckets[suspect].slot(now, 1) {
            Slot::Now => Ok(suspect),
            wait if lane.is(Bucket::SUSPICIOUS) => Err(wait),
            Slot::At(_) | Slot::AfterAnswer => Ok(NONE),
        }
    }

    pub(super) fn take(&mut self, now: Instant, bucket: u32, suspect: u32, permit: &mut Permit) {
        self.buckets[bucket].take(now, permit.is(Permit::SERIAL));
        if suspect != NONE {
            self.buckets[suspect].take(now, false);
        }
        if self.buckets[bucket].kind() == Kind::Lane {
            self.buckets[bucket].take_unknown(permit.key.route);
        }
        self.serial = self.serial.wrapping_add(1);
        permit.serial = self.serial;
        permit.bucket = bucket;
        permit.suspect = suspect;
        permit.sent = now;
    }

    pub(super) fn release(&mut self, now: Instant, permit: &Permit) {
        self.buckets[permit.bucket].release(now, permit.is(Permit::SERIAL));
        if permit.suspect != NONE {
            self.buckets[permit.suspect].release(now, false);
        }
        if !self.holds.is_empty() {
            self.release_holds(now, permit);
        }
    }

    /// If a request of `route` may be under way from `from`: lets `to` wait until all is back that is.
    pub(super) fn hold(&mut self, from: u32, route: u64, to: u32) {
        let left = self.buckets[from].in_flight();
        let may = self.buckets[from].may_have_under_way(route);
        // Without a limit there is nothing to count, but an order to keep.
        let matters =
            self.buckets[to].kind() != Kind::Free || self.buckets[from].is(Bucket::SERIAL);
        if may && matters {
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

    pub(super) fn release_holds(&mut self, now: Instant, permit: &Permit) {
        let (holds, buckets, moved) = (&mut self.holds, &mut self.buckets, &mut self.moved);
        for hold in holds.iter_mut() {
            let meant = (hold.serial.wrapping_sub(permit.serial) as i32) >= 0;
            if meant && (hold.from == permit.bucket || hold.from == permit.suspect) {
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

    pub(super) fn after_release(&mut self, now: Instant, permit: &Permit, out: &mut Outputs) {
        // The lane first: it waits only if it may need a slot of the bucket that is released here.
        if self.lanes_waiting > 0
            && let Some(lane) = self.index.get(learn::lane_key(&permit.key))
            && lane != permit.bucket
        {
            self.pump(now, lane, out);
        }
        self.pump(now, permit.bucket, out);
        if permit.suspect != NONE {
            self.pump(now, permit.suspect, out);
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
        out: &mut Outputs,
    ) -> Step {
        let b = &self.buckets[bucket];
        let ahead = self
            .actives
            .get(b.active)
            .map_or(0, |active| active.queue.len());
        let wait = b.predicted_wait(now, ahead);
        if ask.max_wait.is_some_and(|max| wait > max) {
            return refused(Reason::TooLong, wait);
        }
        if ahead >= self.settings.waiting_per_bucket_max {
            return refused(Reason::QueueFull, wait);
        }
        if self.waiters.len() >= self.settings.waiting_max {
            return refused(Reason::TooManyWaiting, wait);
        }
        let active = self.activate(bucket);
        let waiter = Waiter {
            ticket: ask.ticket,
            permit,
            active,
        };
        let node = self
            .waiters
            .push_back(&mut self.actives[active].queue, waiter);
        self.tickets.insert(ask.ticket, node);
        if ahead == 0 {
            self.pump(now, bucket, out);
        }
        self.check_invariants();
        Step::Waits
    }

    /// The queue of `bucket`, made if it has none.
    pub(super) fn activate(&mut self, bucket: u32) -> u32 {
        if self.buckets[bucket].active == NONE {
            let active = self.actives.insert(Active {
                bucket,
                queue: Queue::EMPTY,
                timer: None,
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
                Ok(suspect) => {
                    let Some(waiter) = self.waiters.remove(&mut self.actives[active].queue, node)
                    else {
                        break;
                    };
                    self.tickets.remove(&waiter.ticket);
                    let mut permit = waiter.permit;
                    self.take(now, bucket, suspect, &mut permit);
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
        self.arm(active, wake, out);
        if self.actives[active].queue.is_empty() {
            self.buckets[bucket].active = NONE;
            self.actives.remove(active);
            self.lanes_waiting -= u32::from(self.buckets[bucket].kind() == Kind::Lane);
        }
    }

    pub(super) fn arm(&mut self, active: u32, wake: Option<Instant>, out: &mut Outputs) {
        let timer = &mut self.actives[active].timer;
        if timer.map(|(_, at)| at) == wake {
            return;
        }
        if let Some((key, _)) = timer.take() {
            self.wheel.cancel(key);
        }
        if let Some(at) = wake {
            *timer = Some((self.wheel.insert(at, active), at));
            self.announce(at, out);
        }
    }

    pub(super) fn announce(&mut self, at: Instant, out: &mut Outputs) {
        if at < self.announced {
            self.announced = at;
            out.list.push_back(Output::Deadline {
                shard: usize::from(self.number),
                at,
            });
        }
    }
}
