//! The mesh as one worker sees it: ask, wait, report.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::Mesh;
use super::owner::Sorted;
use super::waiting::Waiters;
use crate::clock::{self, Instant};
use crate::io::deadline::Alarm;
use crate::io::guard::undivided;
use crate::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Output, Outputs, Permit, Reason, Refusal, Ticket,
};

/// One worker's end of the mesh.
pub struct Local {
    mesh: Arc<Mesh>,
    worker: usize,
    waiters: RefCell<Waiters>,
    alarm: Rc<Alarm>,
    /// Scratch of [`Local::deliver`]; empty between calls.
    outputs: RefCell<Outputs>,
    sorted: RefCell<Sorted>,
    /// Requests that a passing window let go, ever.
    held_back: Cell<u64>,
}

/// What is asked for one request.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whose limits, and which.
    pub key: BucketKey,
    /// Whose request it is.
    pub client: ClientClass,
    /// Whether it counts against the identity's global window.
    pub counts_globally: bool,
    /// Whether it changes something, so that its order matters.
    pub serial: bool,
    /// The longest wait that its client accepts.
    pub max_wait: Option<Duration>,
}

/// The answer to [`Local::ask`].
pub enum Asked {
    /// Go upstream now.
    Go(Grant),
    /// Not yet.
    Wait(Waiting),
    /// Not at all.
    Refuse(Refusal),
}

impl Local {
    /// The end of `worker`, which sleeps on `alarm`.
    pub fn new(mesh: Arc<Mesh>, worker: usize, alarm: Rc<Alarm>) -> Rc<Self> {
        Rc::new(Self {
            mesh,
            worker,
            waiters: RefCell::default(),
            alarm,
            outputs: RefCell::default(),
            sorted: RefCell::default(),
            held_back: Cell::new(0),
        })
    }

    /// Asks whether `request` may go upstream.
    pub fn ask(self: &Rc<Self>, now: Instant, request: Request) -> Asked {
        let ask = self.next_ask(request);
        self.limiter_call(|mesh, out| match mesh.limiter.acquire(now, &ask, out) {
            Decision::Go(permit) => Asked::Go(self.grant(permit)),
            Decision::Refuse(refusal) => Asked::Refuse(refusal),
            // Before anything is delivered: the permit may be among the outputs already.
            Decision::Wait => Asked::Wait(self.wait(&ask)),
        })
    }

    fn next_ask(&self, request: Request) -> Ask {
        let worker = u16::try_from(self.worker).unwrap_or(u16::MAX);
        Ask {
            ticket: self.waiters.borrow().next_ticket(worker),
            key: request.key,
            client: request.client,
            counts_globally: request.counts_globally,
            serial: request.serial,
            max_wait: request.max_wait,
        }
    }

    /// Registers the request that was asked for with [`Local::next_ask`] as waiting.
    fn wait(self: &Rc<Self>, ask: &Ask) -> Waiting {
        self.waiters.borrow_mut().insert(ask.key.identity);
        Waiting {
            local: self.clone(),
            ticket: ask.ticket,
            key: ask.key,
            heard: false,
        }
    }

    /// Tells the limiter whether a token that a 401 spoke against is valid.
    pub fn confirmed(&self, identity: u64, valid: bool) {
        let now = clock::now();
        let notice = self.mesh.limiter.confirmed(now, identity, valid);
        if let Some(notice) = notice {
            self.mesh.tell(now, &notice);
        }
    }

    /// Tells the limiter an identity's global limit, in requests a second.
    pub fn set_global_limit(self: &Rc<Self>, identity: u64, limit: u32) {
        self.limiter_call(|mesh, out| {
            mesh.limiter
                .set_global_limit(clock::now(), identity, limit, out);
        });
    }

    /// Does what is due: reads the mailbox and ticks this worker's shard. Returns when to come
    /// again.
    pub fn turn(self: &Rc<Self>, now: Instant) -> Option<Instant> {
        undivided(|| {
            let mut mail = std::mem::take(&mut self.sorted.borrow_mut().own);
            self.mesh.mailboxes[self.worker].take(&mut mail);
            for message in mail.drain(..) {
                self.act(message);
            }
            self.sorted.borrow_mut().own = mail;
        });
        self.limiter_call(|mesh, out| {
            mesh.limiter.tick(now, self.worker, out);
            let released = out
                .iter()
                .filter(|output| matches!(output, Output::Go { .. }))
                .count();
            self.held_back.set(self.held_back.get() + released as u64);
        });
        self.mesh.limiter.next_deadline(self.worker)
    }

    /// Lets other threads wake `waker` by mail; true if there is mail already.
    pub fn wake_by(&self, waker: &Waker) -> bool {
        self.mesh.mailboxes[self.worker].wake_by(waker)
    }

    /// Refuses every request of this worker that waits, and those that would have to.
    pub fn refuse_waiting(&self, retry_after: Duration) {
        self.waiters.borrow_mut().close(Refusal {
            reason: Reason::Draining,
            retry_after,
        });
    }

    /// Sends every request of this worker that waits for limits of these identities elsewhere.
    pub fn send_on(&self, moved: impl Fn(u64) -> bool) {
        let refusal = Refusal {
            reason: Reason::Moved,
            retry_after: Duration::ZERO,
        };
        self.waiters.borrow_mut().refuse(refusal, moved);
    }

    /// Called when the worker's thread ends.
    pub fn close(&self) {
        self.mesh.mailboxes[self.worker].close();
    }

    /// Requests that a window had to pass for, not only another's answer: sent at once, each would
    /// have drawn a 429.
    pub fn held_back(&self) -> u64 {
        self.held_back.get()
    }

    fn grant(self: &Rc<Self>, permit: Permit) -> Grant {
        Grant {
            local: self.clone(),
            permit: Some(permit),
            sent: false,
        }
    }

    /// Calls the limiter and passes on what comes out of it.
    fn limiter_call<R>(self: &Rc<Self>, call: impl FnOnce(&Mesh, &mut Outputs) -> R) -> R {
        // Outputs that were lost would be permits of requests that then wait for ever.
        undivided(|| {
            let mut outputs = self.outputs.take();
            let result = call(&self.mesh, &mut outputs);
            while let Some(notice) = outputs.pop_notice() {
                self.mesh.tell(clock::now(), &notice);
            }
            self.deliver(&mut outputs);
            self.outputs.replace(outputs);
            result
        })
    }

    /// Passes outputs to whom they are for: own ones are acted on, the others' go into their
    /// mailboxes, one lock and at most one wake each.
    fn deliver(self: &Rc<Self>, outputs: &mut Outputs) {
        if outputs.is_empty() {
            return;
        }
        let mut sorted = self.sorted.take();
        sorted.sort(self.worker, outputs);
        for message in sorted.own.drain(..) {
            self.act(message);
        }
        let mut others = sorted.others.drain(..).peekable();
        while let Some((worker, first)) = others.next() {
            let mut batch = vec![first];
            while let Some((_, next)) = others.next_if(|&(other, _)| other == worker) {
                batch.push(next);
            }
            self.mesh.mailboxes[worker].put(batch.into_iter());
        }
        drop(others);
        self.sorted.replace(sorted);
    }

    fn act(self: &Rc<Self>, message: Output) {
        match message {
            Output::Go { ticket, permit } => {
                let unclaimed = self.waiters.borrow_mut().deliver(ticket, Ok(permit));
                if let Some(Ok(permit)) = unclaimed {
                    // Its client left in the same moment: the slot goes to the next.
                    drop(self.grant(permit));
                }
            }
            Output::Refuse { ticket, refusal } => {
                self.waiters.borrow_mut().deliver(ticket, Err(refusal));
            }
            Output::Deadline { at, .. } => self.alarm.ring_at(at),
            // Whoever reported has seen it: see `Grant::report`.
            Output::Confirm { .. } => {}
        }
    }
}

/// A request that waits for its turn; dropping it means that its client left.
#[must_use]
pub struct Waiting {
    local: Rc<Local>,
    ticket: Ticket,
    key: BucketKey,
    /// The limiter's verdict was taken, so it does not know the ticket any more.
    heard: bool,
}

impl Waiting {
    /// Waits for the permit. May be dropped and called again.
    ///
    /// # Errors
    /// The limiter refuses the request after all.
    pub async fn verdict(&mut self) -> Result<Grant, Refusal> {
        poll_fn(|cx| {
            let verdict = self
                .local
                .waiters
                .borrow_mut()
                .poll(self.ticket, cx.waker());
            match verdict {
                None => Poll::Pending,
                Some(verdict) => {
                    self.heard =
                        !matches!(&verdict, Err(refusal) if refusal.reason.is_the_shells());
                    Poll::Ready(verdict.map(|permit| self.local.grant(permit)))
                }
            }
        })
        .await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let untaken = self.local.waiters.borrow_mut().remove(self.ticket);
        match untaken {
            Some(Ok(permit)) => drop(self.local.grant(permit)),
            Some(Err(refusal)) if !refusal.reason.is_the_shells() => {}
            None if self.heard => {}
            // A permit may be on its way to the mailbox: it will find nobody and go to the next.
            None | Some(Err(_)) => self.local.limiter_call(|mesh, out| {
                mesh.limiter
                    .cancel(clock::now(), &self.key, self.ticket, out);
            }),
        }
    }
}

/// The right to send one request upstream, given back by what came of it. Dropped without a
/// report it tells the limiter that no answer came.
#[must_use]
pub struct Grant {
    local: Rc<Local>,
    /// `None` only once reported.
    permit: Option<Permit>,
    sent: bool,
}

impl Grant {
    /// The request has to wait before it can be sent: for a connection, or for the client's body.
    pub fn delayed(&mut self) {
        let (local, before) = (&self.local, self.sent);
        if let Some(permit) = &mut self.permit {
            local.limiter_call(|mesh, out| {
                mesh.limiter.delayed(clock::now(), permit, before, out);
            });
        }
    }

    /// The request is written from `now` on, to its end if it is the `whole` of it; if not,
    /// [`Self::departed`] follows. From here on it may have reached Discord, answer or not.
    pub fn departs(&mut self, now: Instant, whole: bool) {
        self.sent = true;
        let local = &self.local;
        if let Some(permit) = &mut self.permit {
            local.limiter_call(|mesh, out| mesh.limiter.departs(now, permit, whole, out));
        }
    }

    /// The rest of the request has been written.
    pub fn departed(&mut self) {
        let local = &self.local;
        if let Some(permit) = &mut self.permit {
            local.limiter_call(|mesh, out| mesh.limiter.departed(clock::now(), permit, out));
        }
    }

    /// Tells the limiter what Discord answered. True if the limiter wants to know whether the
    /// request's token is valid at all: [`Local::confirmed`].
    pub fn report(mut self, answer: &Answer) -> bool {
        let mut doubtful = false;
        if let Some(permit) = self.permit.take() {
            self.local.limiter_call(|mesh, out| {
                mesh.limiter.report(clock::now(), permit, answer, out);
                doubtful = out.iter().any(|out| matches!(out, Output::Confirm { .. }));
            });
        }
        doubtful
    }

    /// Tells the limiter that Discord answered with a 429 that is absorbed: the request stands at
    /// the front of its bucket again.
    pub fn requeue(mut self, answer: &Answer, request: Request) -> Option<Waiting> {
        let permit = self.permit.take()?;
        let local = self.local.clone();
        let ask = local.next_ask(request);
        Some(local.limiter_call(|mesh, out| {
            mesh.limiter
                .requeue(clock::now(), permit, answer, &ask, out);
            local.wait(&ask)
        }))
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.local.limiter_call(|mesh, out| {
                mesh.limiter.no_answer(clock::now(), permit, self.sent, out);
            });
        }
    }
}
