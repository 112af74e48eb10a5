//! nirn-proxy, as it behaves: a global window per bot that is taken before the queue and whose
//! second begins with its first request; then one queue per path, whose requests go one at a time;
//! after an answer with nothing remaining, or a 429, the queue sleeps for `Reset-After`
//! (`Retry-After` on 429s of another scope than `user`). 429s are the client's. One 401 locks a bot
//! for good, one 404 a webhook's path.

use super::Timers;
use crate::clock::Instant;
use crate::limit::{Answer, Scope};
use crate::sim::api::Token;
use crate::sim::subject::{Action, Asked, Fate, Subject};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Bot, major parameter, path.
type Path = (u64, u64, u64);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<u64>,
    /// On the wire, or asleep.
    busy: bool,
    dead: bool,
}

struct Global {
    remaining: usize,
    resets: Instant,
    waiting: VecDeque<(u64, Path)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Global(u64),
    Wakes(Path),
}

/// See the module's documentation.
pub(in crate::sim) struct Nirn {
    limit: usize,
    global: HashMap<u64, Global>,
    queues: HashMap<Path, Queue>,
    locked: HashSet<u64>,
    left: HashSet<u64>,
    timers: Timers<Timer>,
}

fn path_of(asked: &Asked) -> Path {
    (asked.request.bot, asked.request.major, asked.route.path)
}

impl Nirn {
    pub(in crate::sim) fn new(limit: usize) -> Self {
        Self {
            limit,
            global: HashMap::new(),
            queues: HashMap::new(),
            locked: HashSet::new(),
            left: HashSet::new(),
            timers: Timers::default(),
        }
    }

    fn enqueue(&mut self, id: u64, path: Path, actions: &mut Vec<Action>) {
        self.queues.entry(path).or_default().waiting.push_back(id);
        self.pump(path, actions);
    }

    fn pump(&mut self, path: Path, actions: &mut Vec<Action>) {
        let locked = self.locked.contains(&path.0);
        let Some(queue) = self.queues.get_mut(&path) else {
            return;
        };
        while !queue.busy
            && let Some(id) = queue.waiting.pop_front()
        {
            if self.left.remove(&id) {
                continue;
            }
            if queue.dead || locked {
                actions.push(Action::Refuse(id, None));
                continue;
            }
            queue.busy = true;
            actions.push(Action::Send(id));
        }
    }

    fn take_global(&mut self, now: Instant, bot: u64) -> Result<(), Instant> {
        let limit = self.limit;
        let global = self.global.entry(bot).or_insert_with(|| Global {
            remaining: limit,
            resets: now + SECOND,
            waiting: VecDeque::new(),
        });
        if now >= global.resets {
            global.remaining = limit;
            global.resets = now + SECOND;
        }
        if global.remaining == 0 {
            return Err(global.resets);
        }
        global.remaining -= 1;
        Ok(())
    }

    fn woken(&mut self, path: Path, actions: &mut Vec<Action>) {
        if let Some(queue) = self.queues.get_mut(&path) {
            queue.busy = false;
        }
        self.pump(path, actions);
    }
}

impl Subject for Nirn {
    fn ask(&mut self, now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        let (id, bot, path) = (asked.request.id, asked.request.bot, path_of(asked));
        if asked.route.token != Token::Bot {
            return self.enqueue(id, path, actions);
        }
        match self.take_global(now, bot) {
            Ok(()) => self.enqueue(id, path, actions),
            Err(resets) => {
                self.timers.set(resets, Timer::Global(bot));
                if let Some(global) = self.global.get_mut(&bot) {
                    global.waiting.push_back((id, path));
                }
            }
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        asked: &Asked,
        answer: &Answer,
        actions: &mut Vec<Action>,
    ) -> Fate {
        let path = path_of(asked);
        let h = &answer.headers;
        let user = h.scope == Scope::User;
        let reset_after = match (h.reset_after, h.retry_after) {
            (None, retry) => retry,
            (_, Some(retry)) if !user => Some(retry),
            (reset, _) => reset,
        };
        let pause = reset_after.map_or(Duration::ZERO, |wait| {
            Duration::from_millis(wait.as_millis() as u64)
        });
        // Absent headers read as nothing remaining and no time to wait.
        let remaining = h.limit.and(h.remaining).unwrap_or(0);
        if answer.status == 401 && asked.route.token == Token::Bot {
            self.locked.insert(asked.request.bot);
        }
        if let Some(queue) = self.queues.get_mut(&path) {
            queue.dead |= answer.status == 404 && asked.route.token == Token::Webhook;
        }
        let shared_reaction = h.scope == Scope::Shared && asked.route.shared_permille > 0;
        let sleeps = (remaining == 0 || answer.status == 429) && !shared_reaction;
        if sleeps && !pause.is_zero() {
            self.timers.set(now + pause, Timer::Wakes(path));
        } else {
            self.woken(path, actions);
        }
        Fate::Client
    }

    fn lost(&mut self, _now: Instant, asked: &Asked, actions: &mut Vec<Action>) {
        self.woken(path_of(asked), actions);
    }

    fn leaves(&mut self, _now: Instant, asked: &Asked, _actions: &mut Vec<Action>) {
        self.left.insert(asked.request.id);
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Wakes(path) => self.woken(path, actions),
                Timer::Global(bot) => {
                    while let Some(front) = self.global.get_mut(&bot) {
                        let Some(&(id, path)) = front.waiting.front() else {
                            break;
                        };
                        if !self.left.contains(&id)
                            && let Err(resets) = self.take_global(now, bot)
                        {
                            self.timers.set(resets, Timer::Global(bot));
                            break;
                        }
                        if let Some(global) = self.global.get_mut(&bot) {
                            global.waiting.pop_front();
                        }
                        if !self.left.remove(&id) {
                            self.enqueue(id, path, actions);
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
