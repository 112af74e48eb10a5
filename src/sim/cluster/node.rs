//! One node: its membership, its table of owners, its limiter; put together as the shells do it.

use super::Mutant;
use super::discord::GLOBAL_LIMIT;
use crate::clock::Instant;
use crate::cluster::change::Change;
use crate::cluster::member::{Event, Input, Member, Node, Output as Says};
use crate::cluster::owner::{Owner, Ownership};
use crate::cluster::told::Told;
use crate::cluster::wire::RECORDS_BYTES_MAX;
use crate::limit::snapshot::Cut;
use crate::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Limiter, Output, Outputs, Permit, Settings,
    Ticket, Unlocked,
};
use crate::route::slot::SlotSet;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What a client waits at most.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// How long a node that starts looks for others before it takes anybody in.
const FIND_OTHERS: Duration = Duration::from_secs(1);

/// A request that a client made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: u32,
    pub(super) identity: u64,
    pub(super) major: u64,
}

/// What a node wants done.
pub(super) enum Action {
    Datagram(SocketAddr, Vec<u8>),
    HandOver(SocketAddr, Box<SlotSet>, Vec<Vec<u8>>),
    /// It goes upstream.
    Send(Request),
    /// It goes to where its identity is now.
    Route(Request),
    Refused,
    /// The table of owners is another one.
    Changed,
}

/// See the module's documentation.
pub(super) struct Process {
    pub(super) member: Member,
    pub(super) ownership: Ownership,
    limiter: Limiter<Unlocked>,
    out: Outputs,
    armed: Instant,
    permits: BTreeMap<u32, Permit>,
    waiting: BTreeMap<u32, Request>,
    told: Told,
    /// Before, it takes nobody in unless it has found others.
    looks_until: Instant,
    mutant: Mutant,
}

impl Process {
    pub(super) fn new(now: Instant, me: Node, chance: u64, mutant: Mutant) -> Self {
        let settings = Settings {
            global_default: GLOBAL_LIMIT as u32,
            ..Settings::default()
        };
        let limiter = Limiter::new(&settings, 1);
        // Somebody may serve them who has not been heard of yet.
        if mutant != Mutant::Careless {
            limiter.be_careful(now, &SlotSet::ALL, || ());
        }
        Self {
            member: Member::new(now, me, chance),
            ownership: Ownership::new(&[], &me),
            limiter,
            out: Outputs::new(),
            armed: Instant::FAR,
            permits: BTreeMap::new(),
            waiting: BTreeMap::new(),
            told: Told::default(),
            looks_until: now + FIND_OTHERS,
            mutant,
        }
    }

    /// Whether clients find it.
    pub(super) fn takes_in(&self, now: Instant) -> bool {
        now >= self.looks_until || !self.ownership.is_alone()
    }

    pub(super) fn deadline(&self) -> Instant {
        let member = self.member.next_deadline().unwrap_or(Instant::FAR);
        member.min(self.armed)
    }

    pub(super) fn input(&mut self, now: Instant, input: Input<'_>, actions: &mut Vec<Action>) {
        // Refused datagrams are those that came after all had changed.
        let _ = self.member.handle(now, input);
        let mut changed = false;
        while let Some(output) = self.member.poll_output() {
            match output {
                Says::Send { to, bytes } => actions.push(Action::Datagram(to, bytes)),
                Says::Event(Event::Changed) => changed = true,
                Says::Event(
                    Event::Joined(_)
                    | Event::Left(_)
                    | Event::Died(_)
                    | Event::Renewed(_)
                    | Event::Suspected(_)
                    | Event::Cleared(_)
                    | Event::Alone
                    | Event::Rejoined(_),
                ) => {}
            }
        }
        if changed {
            self.changed(now, actions);
        }
    }

    fn changed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let new = Ownership::of(&self.member);
        let before = std::mem::replace(&mut self.ownership, new);
        let change = Change::between(&before, &self.ownership, &mut self.told);
        let careful = change.careful(now, &self.told);
        if !careful.is_empty() && self.mutant != Mutant::Careless {
            self.limiter.be_careful(now, &careful, || ());
        }
        // Who waits here for what is another's now asks there.
        let moved = |r: &Request| change.gone.holds(r.identity);
        let moved: Vec<Request> = self.waiting.values().copied().filter(moved).collect();
        for request in moved {
            self.waiting.remove(&request.id);
            let ask = ask(&request);
            self.limiter
                .cancel(now, &ask.key, ask.ticket, &mut self.out);
            actions.push(Action::Route(request));
        }
        self.drain(actions);
        for (node, slots) in change.lost {
            if self.mutant == Mutant::TellsNothing {
                break;
            }
            let mut cut = Cut::begin(now, slots.clone());
            let mut parts = Vec::new();
            loop {
                let mut part = Vec::new();
                let more = cut.next(&self.limiter, RECORDS_BYTES_MAX, &mut part, || ());
                parts.push(part);
                if !more {
                    break;
                }
            }
            actions.push(Action::HandOver(node.addr, Box::new(slots), parts));
        }
        actions.push(Action::Changed);
    }

    pub(super) fn take_over(&mut self, now: Instant, slots: &SlotSet, parts: &[Vec<u8>]) {
        for part in parts {
            let taken = self.limiter.take_over(now, slots, part, true);
            assert!(
                taken.is_ok_and(|taken| taken.strange == 0),
                "what a node tells makes sense"
            );
        }
        self.told.tell(now, slots);
    }

    /// Who owns the request's identity: `None` for this node.
    pub(super) fn owner(&self, request: &Request) -> Option<Node> {
        match self.ownership.owner(request.identity) {
            Owner::Here => None,
            Owner::There(node) => Some(*node),
        }
    }

    /// Serves a request; carefully, if it is another node's as far as is known here.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        request: Request,
        careful: bool,
        actions: &mut Vec<Action>,
    ) {
        if careful && self.mutant != Mutant::Careless {
            let key = ask(&request).key;
            self.told.care(now, &key).take(now, &self.limiter, &key);
        }
        match self.limiter.acquire(now, &ask(&request), &mut self.out) {
            Decision::Go(permit) => self.send(request, permit, actions),
            Decision::Wait => {
                self.waiting.insert(request.id, request);
            }
            Decision::Refuse(_) => actions.push(Action::Refused),
        }
        self.drain(actions);
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        request: &Request,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) {
        if let Some(permit) = self.permits.remove(&request.id) {
            self.limiter.report(now, permit, answer, &mut self.out);
            self.drain(actions);
        }
    }

    pub(super) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.armed <= now {
            self.limiter.tick(now, 0, &mut self.out);
            self.armed = self.limiter.next_deadline(0).unwrap_or(Instant::FAR);
            assert!(
                self.armed > now,
                "after a tick the next deadline lies ahead"
            );
            self.drain(actions);
        }
        if self.member.next_deadline().is_some_and(|at| at <= now) {
            self.input(now, Input::Deadline, actions);
        }
    }

    /// Requests that wait or are under way.
    pub(super) fn busy(&self, now: Instant) -> usize {
        let census = self.limiter.census(now);
        let limiter = census.waiting_for_bucket + census.waiting_for_global + census.under_way;
        limiter.max(self.permits.len() + self.waiting.len())
    }

    fn send(&mut self, request: Request, permit: Permit, actions: &mut Vec<Action>) {
        self.permits.insert(request.id, permit);
        actions.push(Action::Send(request));
    }

    fn drain(&mut self, actions: &mut Vec<Action>) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => match self.waiting.remove(&ticket.slot) {
                    Some(request) => self.send(request, permit, actions),
                    // It has gone elsewhere meanwhile.
                    None => self
                        .limiter
                        .no_answer(permit.sent(), permit, false, &mut self.out),
                },
                Output::Refuse { ticket, .. } => {
                    let request = self.waiting.remove(&ticket.slot);
                    actions.extend(request.map(|_| Action::Refused));
                }
                Output::Deadline { at, .. } => self.armed = self.armed.min(at),
                Output::Confirm { .. } => {}
            }
        }
    }
}

fn ask(request: &Request) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot: request.id,
            generation: 0,
        },
        key: BucketKey {
            identity: request.identity,
            major: request.major,
            route: 1,
        },
        client: ClientClass::Bot { user_id: None },
        counts_globally: true,
        serial: false,
        max_wait: Some(MAX_WAIT),
    }
}
