//! A run: clients, a limiter, a network and the model, under virtual time.
//!
//! After every step the world checks what it can see from outside: only who waits is sent, order,
//! and that what the limiter holds is what waits and travels. All chance of a request comes from its
//! own number, so that every limiter meets the same network and the same model.

use super::api::{Place, Refusal, Request};
use super::discord::Discord;
use super::report::Report;
use super::seed::Seed;
use super::subject::{Action, Asked, Fate, Subject};
use crate::clock::Instant;
use crate::limit::Answer;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Duration;

/// A client asks again so often when it is handed a 429 that says when, and waits so long for it.
const CLIENT_TRIES: u32 = 30;
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// Events kept for the report of a failure.
const HISTORY: usize = 50_000;
/// Steps between two looks at all that a limiter holds.
const LOOK_PAUSE: u64 = 2_048;

/// The network between weir and Discord.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    pub(super) delay_min: Duration,
    pub(super) delay_max: Duration,
    /// Of 1,000 requests, so many never arrive, and of 1,000 answers, so many.
    pub(super) loss_permille: u64,
}

/// What happens at some time.
#[derive(Debug)]
enum Event {
    Ask(u64),
    Arrives(u64),
    Answered(u64, Box<Answer>),
    Lost(u64),
    Leaves(u64),
    Tick,
    Confirmed(u64),
}

struct Scheduled(Instant, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Has not asked yet, or will ask again.
    Away,
    Waiting,
    /// On the wire; whether the limiter had met its route here when it sent it.
    Sent {
        known: bool,
    },
    Done,
}

struct Client {
    asked: Asked,
    since: Instant,
    sent: Instant,
    /// The limiter had met its route here when it asked.
    known: bool,
    left: bool,
    tries: u32,
    sends: u32,
    state: State,
}

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
}

impl<S: Subject> World<S> {
    pub(super) fn new(
        chance: u64,
        discord: Discord,
        network: Network,
        wide_lane: bool,
        subject: S,
    ) -> Self {
        Self {
            now: Instant::ZERO,
            discord,
            subject,
            report: Report::default(),
            network,
            chance,
            wide_lane,
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
        }
    }

    /// A client will ask at `at`, and leave after `patience` if it still waits then.
    pub(super) fn client(&mut self, at: Instant, mut request: Request, patience: Option<Duration>) {
        request.id = self.clients.len() as u64;
        let route = self.discord.routes[request.route];
        self.clients.push(Client {
            asked: Asked {
                request,
                route,
                sends: 0,
            },
            since: at,
            sent: at,
            known: false,
            left: false,
            tries: 0,
            sends: 0,
            state: State::Away,
        });
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

    /// What happened around a bot's channel before something was wrong, one line an event.
    pub(super) fn history(&self, bot: u64, major: u64) -> String {
        let here = |request: &Request| (request.bot, request.major) == (bot, major);
        let lines = self.history.iter().filter(|line| here(&line.1));
        lines.fold(String::new(), |all, (at, request, what, answer)| {
            let us = at.as_nanos() / 1_000;
            let answer = answer.map_or(String::new(), |answer| {
                let h = answer.headers;
                let (remaining, limit, reset) = (h.remaining, h.limit, h.reset_after);
                format!("{} {remaining:?}/{limit:?} {reset:?}", answer.status)
            });
            let Request { id, route, .. } = request;
            all + &format!("{us} #{id} route {route} {what} {answer}\n")
        })
    }

    fn note(&mut self, id: u64, what: &'static str, answer: Option<Answer>) {
        if self.discord.complaint.is_none() {
            let request = self.clients[id as usize].asked.request;
            self.history.push_back((self.now, request, what, answer));
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
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
            let under_way = self.travelling + census.waiting_for_global;
            // An unknown route's request may hold a slot of two buckets.
            let permits = under_way..=2 * under_way;
            if held != self.waiting || !permits.contains(&census.under_way) {
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

    fn ask(&mut self, id: u64) {
        let client = &mut self.clients[id as usize];
        if client.left {
            return;
        }
        let place = client.asked.request.place();
        self.places.insert(place);
        self.channels.insert((place.0, place.1));
        client.known = self.discord.is_known(self.now, &place);
        client.state = State::Waiting;
        client.tries += 1;
        client.asked.sends = 0;
        let asked = client.asked;
        self.waiting += 1;
        self.report.asked += u64::from(client.tries == 1);
        self.subject.ask(self.now, &asked, &mut self.actions);
    }

    fn send(&mut self, id: u64) {
        let now = self.now;
        let client = &mut self.clients[id as usize];
        let place = client.asked.request.place();
        assert_eq!(client.state, State::Waiting, "only who waits may go: #{id}");
        let known = self.discord.is_known(now, &place) && (client.known || !self.wide_lane);
        client.state = State::Sent { known };
        client.sent = now;
        client.sends += 1;
        client.asked.sends += 1;
        let first = client.sends == 1;
        self.waiting -= 1;
        self.travelling += 1;
        self.report.sent += 1;
        if first {
            let last = self.last_sent.entry(place).or_insert(id);
            self.report.overtaken += u64::from(*last > id);
            *last = id.max(*last);
        }
        self.note(id, "sent", None);
        let (delay, lost) = self.way(id, 0);
        let event = if lost {
            Event::Lost(id)
        } else {
            Event::Arrives(id)
        };
        self.schedule(now + delay, event);
    }

    fn arrives(&mut self, id: u64) {
        let client = &self.clients[id as usize];
        let State::Sent { known } = client.state else {
            panic!("what arrives was sent")
        };
        let asked = client.asked;
        let request = asked.request;
        if asked.route.serial && client.sends == 1 {
            let last = self.last_counted.entry(request.place()).or_insert(id);
            self.report.reordered += u64::from(*last > id);
            *last = id.max(*last);
        }
        let mut chance = self.chance_of(id, 2);
        let answer = self.discord.handle(self.now, &request, known, &mut chance);
        self.note(id, "counted", Some(answer));
        let (delay, lost) = self.way(id, 1);
        let event = if lost {
            Event::Lost(id)
        } else {
            Event::Answered(id, Box::new(answer))
        };
        self.schedule(self.now + delay, event);
    }

    fn answered(&mut self, id: u64, answer: &Answer) {
        let asked = self.back(id);
        self.note(id, "answered", None);
        self.discord.told(self.now, &asked.request, answer);
        let fate = self
            .subject
            .answered(self.now, &asked, answer, &mut self.actions);
        let client = &mut self.clients[id as usize];
        match fate {
            Fate::Again => {
                client.state = State::Waiting;
                self.waiting += 1;
            }
            Fate::Client if answer.status == 429 => {
                self.report.handed_429 += 1;
                self.come_back(id, answer.retry_after());
            }
            Fate::Client => {
                self.report.ok += u64::from(answer.status == 200);
                let wait = client.sent.saturating_duration_since(client.since);
                self.report.waits.push(wait);
            }
        }
    }

    /// A client that was told to wait asks again, if it has the patience.
    fn come_back(&mut self, id: u64, wait: Option<Duration>) {
        let client = &mut self.clients[id as usize];
        let wait = wait.filter(|&wait| wait <= CLIENT_PATIENCE);
        if let Some(wait) = wait.filter(|_| client.tries < CLIENT_TRIES) {
            client.state = State::Away;
            self.schedule(self.now + wait, Event::Ask(id));
        }
    }

    fn leaves(&mut self, id: u64) {
        let client = &mut self.clients[id as usize];
        match client.state {
            State::Waiting => {
                client.state = State::Done;
                let asked = client.asked;
                self.waiting -= 1;
                self.report.left += 1;
                self.note(id, "left", None);
                self.subject.leaves(self.now, &asked, &mut self.actions);
            }
            State::Away => client.left = true,
            State::Sent { .. } | State::Done => {}
        }
    }

    /// A request comes back from the wire.
    fn back(&mut self, id: u64) -> Asked {
        let client = &mut self.clients[id as usize];
        assert!(
            matches!(client.state, State::Sent { .. }),
            "one answer a request: #{id}"
        );
        client.state = State::Done;
        self.travelling -= 1;
        client.asked
    }

    fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(id) => self.send(id),
                Action::Refuse(id, wait) => {
                    let client = &mut self.clients[id as usize];
                    assert_eq!(client.state, State::Waiting, "only who waits is refused");
                    client.state = State::Done;
                    self.waiting -= 1;
                    self.report.refused += 1;
                    self.note(id, "refused", None);
                    self.come_back(id, wait);
                }
                Action::Confirm(bot) => {
                    let (there, _) = self.way(bot, 3);
                    let (back, _) = self.way(bot, 4);
                    self.schedule(self.now + there + back, Event::Confirmed(bot));
                }
            }
        }
        self.actions = actions;
    }

    /// How long a request's way takes, and whether it is lost on it.
    fn way(&self, id: u64, leg: u64) -> (Duration, bool) {
        let mut chance = self.chance_of(id, leg);
        let delay = chance.duration(self.network.delay_min, self.network.delay_max);
        (delay, chance.permille(self.network.loss_permille))
    }

    fn chance_of(&self, id: u64, leg: u64) -> Seed {
        let sends = self.clients.get(id as usize).map_or(0, |c| c.sends);
        let number = id << 20 | u64::from(sends) << 4 | leg;
        Seed::new(Seed::new(self.chance ^ number).next())
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
