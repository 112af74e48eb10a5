//! A run: clients, a limiter, a network and the model, under virtual time.
//!
//! After every step the world checks what it can see from outside: only who waits is sent, order,
//! and that what the limiter holds is what waits and travels. All chance of a request comes from its
//! own number, so that every limiter meets the same network and the same model.

mod client;
mod event;
mod history;

pub(super) use event::Network;

use super::api::{Place, Refusal, Request};
use super::discord::Discord;
use super::report::Report;
use super::scenario::Setup;
use super::subject::{Action, Asked, Restart, Subject};
use crate::clock::Instant;
use crate::limit::Answer;
use client::Client;
use event::{Event, Scheduled};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Steps between two looks at all that a limiter holds.
const LOOK_PAUSE: u64 = 2_048;

/// See the module's documentation.
pub(super) struct World<S> {
    pub(super) now: Instant,
    pub(super) discord: Discord,
    pub(super) subject: S,
    pub(super) report: Report,
    network: Network,
    chance: u64,
    /// With a wide lane several go blindly; which ones is decided before they are sent.
    wide_lane: bool,
    actions: Vec<Action>,
    events: BinaryHeap<Reverse<Scheduled>>,
    serial: u64,
    clients: Vec<Client>,
    waiting: usize,
    travelling: usize,
    armed: Instant,
    steps: u64,
    /// Where anything was asked for.
    places: HashSet<Place>,
    channels: HashSet<(u64, u64)>,
    /// The last request that was sent.
    last_sent: HashMap<Place, u64>,
    /// The last request that changes something and that arrived.
    last_counted: HashMap<Place, u64>,
    history: VecDeque<(Instant, Request, &'static str, Option<Answer>)>,
    restart: Option<Restart>,
    /// Whoever asks before waits at the door until then.
    closed_until: Instant,
}

impl<S: Subject> World<S> {
    /// A setup's clients are about to ask.
    pub(super) fn of(setup: &Setup, discord: Discord, subject: S) -> Self {
        let mut world = Self {
            now: Instant::ZERO,
            discord,
            subject,
            report: Report::default(),
            network: setup.network,
            chance: setup.chance,
            wide_lane: setup.settings.default_bucket > 1,
            actions: Vec::new(),
            events: BinaryHeap::new(),
            serial: 0,
            clients: Vec::new(),
            waiting: 0,
            travelling: 0,
            armed: Instant::FAR,
            steps: 0,
            places: HashSet::new(),
            channels: HashSet::new(),
            last_sent: HashMap::new(),
            last_counted: HashMap::new(),
            history: VecDeque::new(),
            restart: setup.restart,
            closed_until: Instant::ZERO,
        };
        if let Some(restart) = setup.restart {
            world.schedule(restart.at, Event::Drains);
        }
        for &(at, request, patience) in &setup.asks {
            world.client(at, request, patience);
        }
        world
    }

    /// A client will ask at `at`, and leave after `patience` if it still waits then.
    fn client(&mut self, at: Instant, mut request: Request, patience: Option<Duration>) {
        request.id = self.clients.len() as u64;
        let route = self.discord.routes[request.route];
        let sends = 0;
        let asked = Asked {
            request,
            route,
            sends,
        };
        self.clients.push(Client::new(at, asked));
        self.schedule(at, Event::Ask(request.id));
        if let Some(patience) = patience {
            self.schedule(at + patience, Event::Leaves(request.id));
        }
    }

    /// Runs until `end`, or until nothing happens any more.
    pub(super) fn run(&mut self, end: Instant) {
        while let Some(Reverse(next)) = self.events.peek() {
            if next.0 > end {
                self.now = end;
                return;
            }
            let Some(Reverse(Scheduled(at, _, event))) = self.events.pop() else {
                return;
            };
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            self.step(event);
            self.look();
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        let scheduled = Scheduled(at, self.serial, event);
        self.events.push(Reverse(scheduled));
    }

    fn step(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Ask(id) => self.ask(id),
            Event::Arrives(id) => self.arrives(id),
            Event::Answered(id, answer) => self.answered(id, &answer),
            Event::Lost(id) => {
                let asked = self.back(id);
                self.note(id, "lost", None);
                self.report.lost += 1;
                self.subject.lost(now, &asked, &mut self.actions);
            }
            Event::Leaves(id) => self.leaves(id),
            Event::Confirmed(bot) => {
                let valid = !self.discord.trouble.is_dead(now, bot);
                self.subject.confirmed(now, bot, valid);
            }
            Event::Drains => self.drains(),
            Event::Restarts => {
                self.send_away();
                if let Some(restart) = self.restart {
                    self.subject.restart(now, &restart);
                }
            }
            Event::Tick => {
                if self.armed <= now {
                    self.armed = Instant::FAR;
                    self.subject.tick(now, &mut self.actions);
                }
            }
        }
        self.act();
        if let Some(at) = self.subject.deadline()
            && at < self.armed
        {
            self.armed = at.max(now);
            self.schedule(self.armed, Event::Tick);
        }
    }

    /// What the limiter holds is what waits and what travels.
    fn look(&mut self) {
        self.steps += 1;
        if !self.steps.is_multiple_of(LOOK_PAUSE) {
            return;
        }
        if let Some(census) = self.subject.census(self.now) {
            let held = census.waiting_for_bucket + census.waiting_for_global;
            // Who waits for the global window holds a permit.
            let permits = self.travelling + census.waiting_for_global;
            if held != self.waiting || census.under_way != permits {
                self.report.leaks += 1;
            }
            // For each place one, and one that its route left and that is yet to be forgotten; for
            // each channel a lane.
            if census.buckets > 2 * self.places.len() + self.channels.len() {
                self.report.unbounded += 1;
            }
            self.report.buckets_max = self.report.buckets_max.max(census.buckets);
            self.report.waiting_max = self.report.waiting_max.max(held);
        }
    }

    /// What became of a client's request: when it went, and the wait it was told when it was refused.
    pub(super) fn outcome(&self, id: u64) -> (Option<Instant>, Option<Duration>) {
        let client = &self.clients[id as usize];
        (client.gone, client.told)
    }

    /// Closes the books when everything has come to rest.
    pub(super) fn close(&mut self) {
        self.report.starved = self.waiting as u64;
        self.report.shown = self.discord.tally.clone();
        if let Some(census) = self.subject.census(self.now) {
            let rest = census.waiting_for_bucket
                + census.waiting_for_global
                + census.under_way
                + census.buckets
                + census.identities;
            let timers = usize::from(self.subject.deadline().is_some());
            self.report.leaks += (rest + timers) as u64;
        }
        if let Some((complaint, request)) = &self.discord.complaint {
            self.report.complaint = complaint.clone();
            self.report.history = self.history(request.bot, request.major);
        }
        debug_assert!(
            self.report.shown.refused(Refusal::Avoidable) == 0 || self.discord.complaint.is_some()
        );
    }
}
