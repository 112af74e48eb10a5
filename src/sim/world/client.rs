//! The life of a request: its client asks, it is sent, counted, answered, or it leaves.

use super::World;
use super::event::{Event, chance_of};
use crate::clock::Instant;
use crate::limit::Answer;
use crate::sim::subject::{Action, Asked, Fate, Subject};
use std::time::Duration;

/// A client asks again so often when it is handed a 429 that says when, and waits so long for it.
const CLIENT_TRIES: u32 = 30;
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Has not asked yet, or will ask again.
    Away,
    Waiting,
    /// On the wire; whether the limiter had met its route here when it sent it.
    Sent {
        known: bool,
    },
    Done,
}

pub(super) struct Client {
    pub(super) asked: Asked,
    pub(super) since: Instant,
    sent: Instant,
    arrived: Instant,
    /// The limiter had met its route here when it asked.
    known: bool,
    left: bool,
    tries: u32,
    sends: u32,
    pub(super) state: State,
    /// When it went first.
    pub(super) gone: Option<Instant>,
    /// The wait that it was told, when it was refused first.
    pub(super) told: Option<Duration>,
}

impl Client {
    /// One that will ask at `at`.
    pub(super) const fn new(at: Instant, asked: Asked) -> Self {
        Self {
            asked,
            since: at,
            sent: at,
            arrived: at,
            known: false,
            left: false,
            tries: 0,
            sends: 0,
            state: State::Away,
            gone: None,
            told: None,
        }
    }
}

impl<S: Subject> World<S> {
    pub(super) fn ask(&mut self, id: u64) {
        let client = &mut self.clients[id as usize];
        if client.left {
            return;
        }
        if self.now < self.closed_until {
            return self.schedule(self.closed_until, Event::Ask(id));
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
        client.gone.get_or_insert(now);
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

    pub(super) fn arrives(&mut self, id: u64) {
        let client = &mut self.clients[id as usize];
        client.arrived = self.now;
        let State::Sent { known } = client.state else {
            panic!("what arrives was sent")
        };
        let (asked, sent, sends) = (client.asked, client.sent, client.sends);
        let request = asked.request;
        if asked.route.serial && sends == 1 {
            let last = self.last_counted.entry(request.place()).or_insert(id);
            self.report.reordered += u64::from(*last > id);
            *last = id.max(*last);
        }
        let mut chance = chance_of(self.chance, id, sends, 2);
        let answer = self
            .discord
            .handle(self.now, sent, &request, known, &mut chance);
        self.note(id, "counted", Some(answer));
        let (delay, lost) = self.way(id, 1);
        let event = if lost {
            Event::Lost(id)
        } else {
            Event::Answered(id, Box::new(answer))
        };
        self.schedule(self.now + delay, event);
    }

    pub(super) fn answered(&mut self, id: u64, answer: &Answer) {
        let asked = self.back(id);
        self.note(id, "answered", None);
        let made = self.clients[id as usize].arrived;
        self.discord.told(self.now, made, &asked.request, answer);
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

    pub(super) fn leaves(&mut self, id: u64) {
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

    /// The limiter's process is to end: it takes nobody in, and what is under way comes back.
    pub(super) fn drains(&mut self) {
        let Some(restart) = self.restart else {
            return;
        };
        let ended = self.now + self.network.delay_max * 2 + Duration::from_millis(1);
        self.closed_until = ended + restart.down;
        self.schedule(ended, Event::Restarts);
        self.send_away();
    }

    /// Whoever waits is told to ask again when the next process serves.
    pub(super) fn send_away(&mut self) {
        for id in 0..self.clients.len() as u64 {
            let client = &mut self.clients[id as usize];
            if client.state == State::Waiting {
                client.state = State::Away;
                let asked = client.asked;
                self.waiting -= 1;
                self.subject.leaves(self.now, &asked, &mut self.actions);
                self.schedule(self.closed_until, Event::Ask(id));
            }
        }
    }

    /// A request comes back from the wire.
    pub(super) fn back(&mut self, id: u64) -> Asked {
        let client = &mut self.clients[id as usize];
        assert!(
            matches!(client.state, State::Sent { .. }),
            "one answer a request: #{id}"
        );
        client.state = State::Done;
        self.travelling -= 1;
        client.asked
    }

    pub(super) fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(id) => self.send(id),
                Action::Refuse(id, wait) => {
                    let client = &mut self.clients[id as usize];
                    assert_eq!(client.state, State::Waiting, "only who waits is refused");
                    client.state = State::Done;
                    client.told = client.told.or(wait);
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

    /// How long a leg of a request's way takes, and whether it is lost on it.
    fn way(&self, id: u64, leg: u64) -> (Duration, bool) {
        let sends = self.clients.get(id as usize).map_or(0, |c| c.sends);
        self.network.way(self.chance, id, sends, leg)
    }
}
