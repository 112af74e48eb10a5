//! A run: clients, the limiter, a network and the model, under virtual time.
//!
//! The world plays the shell: it calls the limiter exactly as the workers do, keeps one armed
//! deadline per shard, and checks after every step what it can see from outside: order, permits,
//! deadlines. The limiter checks itself in the same steps.

use super::discord::{Discord, Request};
use super::seed::Seed;
use crate::clock::Instant;
use crate::limit::{
    Answer, Ask, BucketKey, Census, ClientClass, Decision, Limiter, Output, Outputs, Permit,
    Settings, Ticket, Unlocked, Verdict,
};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

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
    Lost(u64, bool),
    Leaves(u64),
    Tick(usize),
    Confirmed(u64),
}

enum State {
    Waiting,
    Sent(Permit, bool),
    Done,
}

struct Client {
    request: Request,
    asked: Instant,
    /// The limiter had met its route here when it asked.
    known: bool,
    state: State,
    retries: u8,
    ticket: Ticket,
}

/// What a run showed.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) asked: u64,
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) refused: u64,
    pub(super) left: u64,
    pub(super) longest_wait: Duration,
    pub(super) waited: Duration,
}

/// See the module's documentation.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) seed: Seed,
    pub(super) discord: Discord,
    pub(super) limiter: Limiter<Unlocked>,
    pub(super) report: Report,
    network: Network,
    retries_max: u8,
    wide_lane: bool,
    out: Outputs,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: HashMap<u64, Event>,
    serial: u64,
    clients: HashMap<u64, Client>,
    armed: Vec<Instant>,
    /// The last request that was sent, per bot, major and route.
    last_sent: HashMap<(u64, u64, usize), u64>,
    /// Each route's key; two routes may be one to the limiter's user.
    keys: u64,
    /// The last events of each bot and major, for the report of a failure.
    history: HashMap<(u64, u64), VecDeque<String>>,
}

impl World {
    pub(super) fn new(
        mut seed: Seed,
        discord: Discord,
        network: Network,
        settings: &Settings,
        shards: usize,
    ) -> Self {
        let keys = seed.next();
        Self {
            now: Instant::from_millis(1000),
            seed,
            discord,
            limiter: Limiter::new(settings, shards),
            report: Report::default(),
            network,
            retries_max: 1,
            wide_lane: settings.default_bucket > 1,
            out: Outputs::new(),
            events: BinaryHeap::new(),
            pending: HashMap::new(),
            serial: 0,
            clients: HashMap::new(),
            armed: vec![Instant::FAR; shards],
            last_sent: HashMap::new(),
            keys,
            history: HashMap::new(),
        }
    }

    /// A client will ask at `at`, and leave after `patience` if it still waits then.
    pub(super) fn client(&mut self, at: Instant, mut request: Request, patience: Option<Duration>) {
        self.serial += 1;
        request.id = self.serial;
        let ticket = Ticket {
            worker: 0,
            slot: request.id as u32,
            generation: (request.id >> 32) as u32,
        };
        let client = Client {
            request,
            asked: at,
            known: false,
            state: State::Done,
            retries: 0,
            ticket,
        };
        self.clients.insert(request.id, client);
        self.schedule(at, Event::Ask(request.id));
        if let Some(patience) = patience {
            self.schedule(at + patience, Event::Leaves(request.id));
        }
    }

    /// Runs until `end`, or until nothing happens any more.
    pub(super) fn run(&mut self, end: Instant) {
        while let Some(&Reverse((at, serial))) = self.events.peek() {
            if at > end {
                self.now = end;
                return;
            }
            self.events.pop();
            assert!(at >= self.now, "time goes forward");
            self.now = at;
            if let Some(event) = self.pending.remove(&serial) {
                self.step(event);
            }
        }
    }

    pub(super) fn census(&self) -> Census {
        self.limiter.census(self.now)
    }

    /// What happened around a bot's channel last, one line an event.
    pub(super) fn history(&self, bot: u64, major: u64) -> String {
        let lines = self.history.get(&(bot, major)).into_iter().flatten();
        lines.fold(String::new(), |all, line| all + line + "\n")
    }

    fn note(&mut self, request: &Request, what: &str) {
        let lines = self
            .history
            .entry((request.bot, request.major))
            .or_default();
        if self.discord.complaint.is_none() {
            let ms = self.now.as_nanos() / 10_000;
            lines.push_back(format!(
                "{ms} #{} route {} {what}",
                request.id, request.route
            ));
        }
        if lines.len() > 120 {
            lines.pop_front();
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial)));
        self.pending.insert(self.serial, event);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Ask(id) => self.ask(id),
            Event::Arrives(id) => self.arrives(id),
            Event::Answered(id, answer) => self.answered(id, &answer),
            Event::Lost(id, sent) => {
                if let Some(permit) = self.permit(id) {
                    self.note(&self.clients[&id].request.clone(), "lost");
                    self.limiter
                        .no_answer(self.now, permit, sent, &mut self.out);
                }
            }
            Event::Leaves(id) => self.leaves(id),
            Event::Confirmed(bot) => {
                let valid = !self.discord.dead(self.now, bot);
                self.limiter.confirmed(self.now, self.keys ^ bot, valid);
            }
            Event::Tick(shard) => {
                if self.armed[shard] <= self.now {
                    self.limiter.tick(self.now, shard, &mut self.out);
                    self.arm(shard);
                }
            }
        }
        self.drain();
    }

    fn arm(&mut self, shard: usize) {
        let next = self.limiter.next_deadline(shard);
        if let Some(at) = next {
            assert!(at > self.now, "after a tick the next deadline lies ahead");
            self.schedule(at, Event::Tick(shard));
        }
        self.armed[shard] = next.unwrap_or(Instant::FAR);
    }

    fn ask(&mut self, id: u64) {
        let ask = self.ask_of(id);
        self.report.asked += 1;
        let request = self.clients[&id].request;
        let known = self
            .discord
            .met
            .contains(&(request.bot, request.major, request.route));
        if let Some(client) = self.clients.get_mut(&id) {
            client.state = State::Waiting;
            client.known = known;
        }
        match self.limiter.acquire(self.now, &ask, &mut self.out) {
            Decision::Go(permit) => self.send(id, permit),
            Decision::Wait => {}
            Decision::Refuse(_) => self.finish_refused(id),
        }
    }

    fn ask_of(&self, id: u64) -> Ask {
        let request = self.clients[&id].request;
        let route = self.discord.routes[request.route];
        let client = if route.interaction {
            ClientClass::Interaction
        } else {
            ClientClass::Bot {
                user_id: Some(request.bot),
            }
        };
        Ask {
            ticket: self.clients[&id].ticket,
            key: BucketKey {
                identity: self.keys ^ request.bot,
                major: request.major,
                route: self.keys.wrapping_add(request.route as u64),
            },
            client,
            counts_globally: !route.interaction,
            serial: route.serial,
            max_wait: None,
        }
    }

    fn send(&mut self, id: u64, permit: Permit) {
        let request = self.clients[&id].request;
        let key = (request.bot, request.major, request.route);
        let client = &self.clients[&id];
        // With a wide lane several go blindly; which ones is decided before they are sent.
        let known = self.discord.met.contains(&key) && (client.known || !self.wide_lane);
        assert!(
            matches!(client.state, State::Waiting),
            "only who waits may go: {request:?}"
        );
        let wait = self.now.saturating_duration_since(client.asked);
        if client.retries == 0 {
            self.report.waited += wait;
            self.report.longest_wait = self.report.longest_wait.max(wait);
            let last = self.last_sent.insert(key, id).unwrap_or(0);
            assert!(
                last < id,
                "first come, first served: {last} before {id} {request:?}"
            );
        }
        self.report.sent += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            client.state = State::Sent(permit, known);
        }
        self.note(&request, "sent");
        let arrival = self.now + self.delay();
        if self.seed.permille(self.network.loss_permille) {
            self.schedule(arrival, Event::Lost(id, true));
        } else {
            self.schedule(arrival, Event::Arrives(id));
        }
    }

    fn arrives(&mut self, id: u64) {
        let client = &self.clients[&id];
        let State::Sent(_, known) = client.state else {
            panic!("what arrives was sent")
        };
        let request = client.request;
        let answer = self
            .discord
            .handle(self.now, &request, known, &mut self.seed);
        let h = answer.headers;
        self.note(
            &request,
            &format!(
                "counted {} {:?}/{:?} {:?}",
                answer.status, h.remaining, h.limit, h.reset_after
            ),
        );
        let back = self.now + self.delay();
        if self.seed.permille(self.network.loss_permille) {
            self.schedule(back, Event::Lost(id, true));
        } else {
            self.schedule(back, Event::Answered(id, Box::new(answer)));
        }
    }

    fn answered(&mut self, id: u64, answer: &Answer) {
        let Some(permit) = self.permit(id) else {
            panic!("one answer a request")
        };
        let request = self.clients[&id].request;
        self.note(&request, "answered");
        self.discord
            .met
            .insert((request.bot, request.major, request.route));
        let again = match answer.verdict() {
            Verdict::Pass => false,
            Verdict::Retry | Verdict::RetryShared => self.clients[&id].retries < self.retries_max,
        };
        if again {
            let ask = self.ask_of(id);
            if let Some(client) = self.clients.get_mut(&id) {
                client.retries += 1;
                client.state = State::Waiting;
            }
            self.limiter
                .requeue(self.now, permit, answer, &ask, &mut self.out);
        } else {
            self.report.ok += u64::from(answer.status == 200);
            self.limiter.report(self.now, permit, answer, &mut self.out);
        }
    }

    fn leaves(&mut self, id: u64) {
        let key = self.ask_of(id).key;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if matches!(client.state, State::Waiting) {
            client.state = State::Done;
            let ticket = client.ticket;
            self.report.left += 1;
            self.limiter.cancel(self.now, &key, ticket, &mut self.out);
        }
    }

    fn finish_refused(&mut self, id: u64) {
        self.report.refused += 1;
        if let Some(client) = self.clients.get_mut(&id) {
            client.state = State::Done;
        }
    }

    fn permit(&mut self, id: u64) -> Option<Permit> {
        let client = self.clients.get_mut(&id)?;
        match std::mem::replace(&mut client.state, State::Done) {
            State::Sent(permit, _) => Some(permit),
            State::Waiting | State::Done => None,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => {
                    let id = u64::from(ticket.slot) | u64::from(ticket.generation) << 32;
                    if matches!(self.clients[&id].state, State::Waiting) {
                        self.send(id, permit);
                    } else {
                        self.limiter
                            .no_answer(self.now, permit, false, &mut self.out);
                    }
                }
                Output::Refuse { ticket, .. } => {
                    let id = u64::from(ticket.slot) | u64::from(ticket.generation) << 32;
                    self.finish_refused(id);
                }
                Output::Deadline { shard, at } => {
                    if at < self.armed[shard] {
                        self.armed[shard] = at;
                        self.schedule(at.max(self.now), Event::Tick(shard));
                    }
                }
                Output::Confirm { identity, key } => {
                    assert_eq!(identity, key.identity);
                    let bot = identity ^ self.keys;
                    let back = self.now + self.delay() + self.delay();
                    self.schedule(back, Event::Confirmed(bot));
                }
            }
        }
    }

    fn delay(&mut self) -> Duration {
        self.seed
            .duration(self.network.delay_min, self.network.delay_max)
    }
}
