//! twilight-http-ratelimiting, as it behaves: one queue per endpoint until an answer names its
//! bucket, then one per bucket and major parameter; a queue has one request in flight; with nothing
//! remaining it stops until `Reset`. The global second begins with its first request and is counted
//! at sending; webhooks and interactions are exempt. A shared 429 is taken as an empty bucket. Its
//! HTTP client sends a 429 again through the limiter, and stops at the first 401.

use super::Timers;
use crate::clock::Instant;
use crate::limit::{Answer, Scope};
use crate::sim::api::{Place, Token};
use crate::sim::subject::{Action, Asked, Fate, Subject};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The bucket's name, or the route while that is not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tail {
    Endpoint(usize),
    Bucket(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    bot: u64,
    major: u64,
    tail: Tail,
}

impl Key {
    const fn new((bot, major, _): Place, tail: Tail) -> Self {
        Self { bot, major, tail }
    }
}

#[derive(Default)]
struct Queue {
    in_flight: bool,
    pending: VecDeque<Asked>,
    reset: Option<Instant>,
    remaining: u16,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Global(u64),
    Reset(Key),
}

/// See the module's documentation.
pub(in crate::sim) struct Twilight {
    limit: usize,
    /// Sent in the second that began with the first of them.
    global: HashMap<u64, usize>,
    names: HashMap<Place, u64>,
    queues: BTreeMap<Key, Queue>,
    left: HashSet<u64>,
    stopped: HashSet<u64>,
    timers: Timers<Timer>,
}

impl Twilight {
    pub(in crate::sim) fn new(limit: usize) -> Self {
        Self {
            limit,
            global: HashMap::new(),
            names: HashMap::new(),
            queues: BTreeMap::new(),
            left: HashSet::new(),
            stopped: HashSet::new(),
            timers: Timers::default(),
        }
    }

    fn key(&self, asked: &Asked) -> Key {
        let place = asked.request.place();
        match self.names.get(&place) {
            Some(&name) => Key::new(place, Tail::Bucket(name)),
            None => Key::new(place, Tail::Endpoint(place.2)),
        }
    }

    fn pop(&mut self, now: Instant, key: Key, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(&key) else {
            return;
        };
        while let Some(asked) = queue.pending.front().copied() {
            let counted = asked.route.token == Token::Bot;
            let used = self.global.entry(key.bot).or_default();
            let id = asked.request.id;
            if self.left.remove(&id) {
                queue.pending.pop_front();
                continue;
            }
            if counted && *used >= self.limit {
                return;
            }
            if counted {
                if *used == 0 {
                    self.timers.set(now + SECOND, Timer::Global(key.bot));
                }
                *used += 1;
            }
            queue.pending.pop_front();
            queue.in_flight = true;
            actions.push(Action::Send(id));
            return;
        }
    }

    fn enqueue(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let key = self.key(asked);
        let queue = self.queues.entry(key).or_default();
        queue.pending.push_back(*asked);
        if !(queue.in_flight || queue.remaining == 0 && queue.reset.is_some()) {
            self.pop(now, key, actions);
        }
    }

    fn completed(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) {
        let h = &answer.headers;
        let headers = match (h.bucket, h.scope, h.retry_after) {
            (Some(name), Scope::Shared, Some(retry)) => Some((name, 0, retry)),
            (Some(name), _, _) => h
                .reset_after
                .map(|reset| (name, h.remaining.unwrap_or(0), reset)),
            (None, _, _) => None,
        };
        let old = self.key(asked);
        let Some((name, remaining, reset_after)) = headers else {
            return self.idle(now, old, actions);
        };
        let place = asked.request.place();
        let key = Key::new(place, Tail::Bucket(name));
        if key != old {
            let moved = self.queues.get_mut(&old).map(|queue| {
                queue.in_flight = false;
                let (moved, kept) = std::mem::take(&mut queue.pending)
                    .into_iter()
                    .partition::<VecDeque<_>, _>(|other| other.request.place() == place);
                queue.pending = kept;
                moved
            });
            self.pop(now, old, actions);
            self.names.insert(place, name);
            let queue = self.queues.entry(key).or_default();
            queue.pending.extend(moved.unwrap_or_default());
            if queue.in_flight {
                return;
            }
        }
        let queue = self.queues.entry(key).or_default();
        queue.in_flight = false;
        queue.remaining = remaining;
        if let Some(at) = queue.reset.replace(now + reset_after) {
            self.timers.clear(at, Timer::Reset(key));
        }
        self.timers.set(now + reset_after, Timer::Reset(key));
        if remaining > 0 {
            self.pop(now, key, actions);
        }
    }

    fn idle(&mut self, now: Instant, key: Key, actions: &mut Vec<Action>) {
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.in_flight = false;
        }
        self.pop(now, key, actions);
    }
}

impl Subject for Twilight {
    fn ask(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        if self.stopped.contains(&asked.request.bot) && asked.route.token == Token::Bot {
            actions.push(Action::Refuse(asked.request.id, None));
        } else {
            self.enqueue(now, asked, actions);
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) -> Fate {
        if answer.status == 401 {
            self.stopped.insert(asked.request.bot);
        }
        self.completed(now, asked, answer, actions);
        // A hidden limit's 429 would be sent again without end; our client gives up on it.
        let wait = answer.retry_after().unwrap_or(Duration::MAX);
        if answer.status == 429 && wait < Duration::from_secs(60) && asked.sends < 30 {
            self.enqueue(now, asked, actions);
            return Fate::Again;
        }
        Fate::Client
    }

    fn lost(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let used = self.global.entry(asked.request.bot).or_default();
        *used = used.saturating_sub(1);
        self.idle(now, self.key(asked), actions);
    }

    fn leaves(&mut self, _now: Instant, asked: &Asked, _actions: &mut Vec<Action>) {
        self.left.insert(asked.request.id);
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Global(bot) => {
                    self.global.insert(bot, 0);
                    let first = |bot| Key::new((bot, 0, 0), Tail::Endpoint(0));
                    let own = self.queues.range(first(bot)..first(bot + 1));
                    let stopped = own.filter(|(_, queue)| {
                        !queue.in_flight && (queue.remaining > 0 || queue.reset.is_none())
                    });
                    let stopped: Vec<Key> = stopped.map(|(&key, _)| key).collect();
                    for key in stopped {
                        self.pop(now, key, actions);
                    }
                }
                Timer::Reset(key) => {
                    if let Some(queue) = self.queues.get_mut(&key) {
                        queue.reset = None;
                        if queue.remaining == 0 && !queue.in_flight {
                            self.pop(now, key, actions);
                        }
                    }
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timers.next()
    }
}
