//! A model of Discord: counts what arrives by its rules, answers with headers, and judges every
//! refusal. It knows everything the limiter has to guess, and shares no code with it.

use super::seed::Seed;
use crate::clock::Instant;
use crate::limit::Answer;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// A slot that is promised now may be used so much later: its request waits for the global window.
const PROMISE: Duration = Duration::from_secs(2);
const SECOND_NS: u64 = 1_000_000_000;

/// What goes wrong in a run; nothing by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// Of 1,000 requests, so many are followed by one of somebody else who uses the same token.
    pub(super) foreign_permille: u64,
    /// Of 1,000 answers, so many come from a server whose clock is seconds off.
    pub(super) clock_permille: u64,
    /// Of 1,000 answers, so many have no limit headers.
    pub(super) bare_permille: u64,
    /// Cloudflare blocks from then to then.
    pub(super) blocked: Option<(Instant, Instant)>,
    /// From then on this bot's token is refused.
    pub(super) dead_bot: Option<(u64, Instant)>,
    /// The global limit counts by the clock's seconds.
    pub(super) global_by_clock: bool,
}

/// How a bucket counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    /// Leaks one slot each `period / limit`.
    Sliding { limit: u16, period: Duration },
    /// All slots return at the end of a window that begins with its first request.
    Fixed { limit: u16, period: Duration },
    /// No bucket, no headers.
    Free,
}

/// One route of the model's API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) rule: Rule,
    /// Routes of one name share a counter (per bot and major), unless they count alone.
    pub(super) name: u64,
    pub(super) alone: bool,
    /// A method that changes something.
    pub(super) serial: bool,
    /// Of 1,000 requests, so many meet a limit that others used up.
    pub(super) shared_permille: u64,
    /// Of 1,000 requests, so many touch a field with its own hidden limit (2 in 10 minutes).
    pub(super) hidden_permille: u64,
    pub(super) interaction: bool,
}

/// A request as it arrives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) bot: u64,
    pub(super) major: u64,
    pub(super) route: usize,
    pub(super) touches_hidden: bool,
}

/// Why the model refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Refusal {
    /// A bucket whose route was known to the limiter here: must not happen.
    Avoidable,
    /// Nobody could know: no answer of this route and major had come yet, or such a request had
    /// just taken a slot of a bucket that it was not known to share.
    FirstContact,
    Hidden,
    Shared,
    /// More than the global limit: must not happen.
    Global,
}

#[derive(Default)]
struct Counter {
    /// Sliding: when it has leaked empty. Fixed: when the window ends.
    until_ns: u64,
    used: u16,
}

/// See the module's documentation.
pub(super) struct Discord {
    pub(super) routes: Vec<Route>,
    global_limit: usize,
    /// The server's clock minus ours.
    clock_ahead_ns: u64,
    counters: HashMap<(u64, u64, u64), Counter>,
    /// When a request of a route that was not known yet was counted last.
    intruders: HashMap<(u64, u64, u64), Instant>,
    hidden: HashMap<(u64, u64, usize), VecDeque<Instant>>,
    global: HashMap<u64, VecDeque<Instant>>,
    pub(super) trouble: Trouble,
    /// Routes of which an answer has come back.
    pub(super) met: HashSet<(u64, u64, usize)>,
    pub(super) refusals: HashMap<Refusal, u64>,
    /// Requests that were counted, and when the first and the last of them were.
    pub(super) accepted: u64,
    pub(super) accepted_first: Instant,
    pub(super) accepted_last: Instant,
    /// Answers from Cloudflare, and 401s.
    pub(super) blocked: u64,
    pub(super) unauthorized: u64,
    /// The first refusal that should not have been, for the report.
    pub(super) complaint: Option<(String, Request)>,
}

struct State {
    limit: u16,
    remaining: u16,
    reset_after_ns: u64,
    /// The wait for one slot, if refused.
    refused_ns: Option<u64>,
}

impl Discord {
    pub(super) fn new(routes: Vec<Route>, global_limit: usize, seed: &mut Seed) -> Self {
        Self {
            routes,
            global_limit,
            clock_ahead_ns: 1_700_000_000 * SECOND_NS + seed.below(SECOND_NS),
            counters: HashMap::new(),
            intruders: HashMap::new(),
            hidden: HashMap::new(),
            global: HashMap::new(),
            trouble: Trouble::default(),
            met: HashSet::new(),
            refusals: HashMap::new(),
            accepted: 0,
            accepted_first: Instant::FAR,
            accepted_last: Instant::ZERO,
            blocked: 0,
            unauthorized: 0,
            complaint: None,
        }
    }

    pub(super) fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(&why).copied().unwrap_or(0)
    }

    /// A request arrives and is answered. `known`: the limiter had met its route here when it sent.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        request: &Request,
        known: bool,
        seed: &mut Seed,
    ) -> Answer {
        let route = self.routes[request.route];
        if let Some(answer) = self.outage(now, request) {
            return answer;
        }
        if seed.permille(self.trouble.foreign_permille) {
            self.take(now, request);
        }
        if seed.permille(self.trouble.clock_permille) {
            self.clock_ahead_ns += seed.below(3 * SECOND_NS);
            self.clock_ahead_ns -= seed.below(3 * SECOND_NS);
        }
        if !route.interaction && !self.take_global(now, request.bot) {
            self.refuse(Refusal::Global, now, request, "global");
            let mut answer = Answer::new(429);
            answer.header(b"Via", b"1.1 google");
            answer.header(b"Retry-After", b"1");
            answer.header(b"X-RateLimit-Global", b"true");
            answer.header(b"X-RateLimit-Scope", b"global");
            answer.error_body(br#"{"message": "limited", "retry_after": 0.5, "global": true}"#);
            return answer;
        }
        let counter = (request.bot, request.major, self.counter(request.route));
        let intruded = self
            .intruders
            .get(&counter)
            .is_some_and(|&at| now < at + PROMISE);
        if !known {
            self.intruders.insert(counter, now);
        }
        let Some(state) = self.take(now, request) else {
            self.accept(now);
            let mut answer = Answer::new(200);
            answer.header(b"Via", b"1.1 google");
            return answer;
        };
        if let Some(wait_ns) = state.refused_ns {
            let why = if known && !intruded {
                Refusal::Avoidable
            } else {
                Refusal::FirstContact
            };
            self.refuse(why, now, request, "bucket");
            return self.answer_429(now, &route, &state, wait_ns, "user");
        }
        if seed.permille(route.shared_permille) {
            self.refuse(Refusal::Shared, now, request, "shared");
            let wait_ns = seed.range(SECOND_NS / 10, 3 * SECOND_NS);
            return self.answer_429(now, &route, &state, wait_ns, "shared");
        }
        if request.touches_hidden {
            let key = (request.bot, request.major, request.route);
            let uses = self.hidden.entry(key).or_default();
            while uses
                .front()
                .is_some_and(|&at| at + Duration::from_secs(600) <= now)
            {
                uses.pop_front();
            }
            if let Some(&first) = uses.front().filter(|_| uses.len() >= 2) {
                let wait = (first + Duration::from_secs(600)).saturating_duration_since(now);
                self.refuse(Refusal::Hidden, now, request, "hidden");
                return self.answer_429(now, &route, &state, wait.as_nanos() as u64, "user");
            }
            uses.push_back(now);
        }
        self.accept(now);
        let mut answer = Answer::new(200);
        answer.header(b"Via", b"1.1 google");
        if !seed.permille(self.trouble.bare_permille) {
            self.headers(now, &route, &state, &mut answer);
        }
        answer
    }

    /// Answers that come from before any limit.
    fn outage(&mut self, now: Instant, request: &Request) -> Option<Answer> {
        if self
            .trouble
            .blocked
            .is_some_and(|(from, to)| from <= now && now < to)
        {
            self.blocked += 1;
            let mut answer = Answer::new(429);
            answer.header(b"Retry-After", b"2");
            answer.error_body(b"error code: 1015");
            return Some(answer);
        }
        if self.dead(now, request.bot) && !self.routes[request.route].interaction {
            self.unauthorized += 1;
            let mut answer = Answer::new(401);
            answer.header(b"Via", b"1.1 google");
            return Some(answer);
        }
        None
    }

    /// Whether the bot's token is refused.
    pub(super) fn dead(&self, now: Instant, bot: u64) -> bool {
        self.trouble
            .dead_bot
            .is_some_and(|(dead, since)| dead == bot && since <= now)
    }

    fn accept(&mut self, now: Instant) {
        self.accepted += 1;
        self.accepted_first = self.accepted_first.min(now);
        self.accepted_last = self.accepted_last.max(now);
    }

    fn refuse(&mut self, why: Refusal, now: Instant, request: &Request, what: &str) {
        *self.refusals.entry(why).or_default() += 1;
        if matches!(why, Refusal::Avoidable | Refusal::Global) && self.complaint.is_none() {
            let route = self.routes[request.route];
            self.complaint = Some((
                format!("{what} at {now:?}: {request:?} {route:?}"),
                *request,
            ));
        }
    }

    fn take_global(&mut self, now: Instant, bot: u64) -> bool {
        let sent = self.global.entry(bot).or_default();
        let second = |at: Instant| at.as_nanos() / SECOND_NS;
        let by_clock = self.trouble.global_by_clock;
        while sent.front().is_some_and(|&at| {
            at + Duration::from_secs(1) <= now || by_clock && second(at) < second(now)
        }) {
            sent.pop_front();
        }
        if sent.len() >= self.global_limit {
            return false;
        }
        sent.push_back(now);
        true
    }

    /// Which counter of a bot's channel a route falls under.
    fn counter(&self, route: usize) -> u64 {
        if self.routes[route].alone {
            1_000_000 + route as u64
        } else {
            self.routes[route].name
        }
    }

    fn take(&mut self, now: Instant, request: &Request) -> Option<State> {
        let tail = self.counter(request.route);
        let route = self.routes[request.route];
        let counter = self
            .counters
            .entry((request.bot, request.major, tail))
            .or_default();
        let now_ns = now.as_nanos();
        match route.rule {
            Rule::Free => None,
            Rule::Sliding { limit, period } => {
                let slot = period.as_nanos() as u64 / u64::from(limit);
                let full = slot * u64::from(limit);
                let level = counter.until_ns.max(now_ns) - now_ns;
                if level + slot > full {
                    let refused_ns = Some(level + slot - full);
                    return Some(State {
                        limit,
                        remaining: 0,
                        reset_after_ns: level,
                        refused_ns,
                    });
                }
                counter.until_ns = now_ns + level + slot;
                let remaining = ((full - level - slot) / slot) as u16;
                Some(State {
                    limit,
                    remaining,
                    reset_after_ns: level + slot,
                    refused_ns: None,
                })
            }
            Rule::Fixed { limit, period } => {
                if counter.until_ns <= now_ns {
                    *counter = Counter {
                        until_ns: now_ns + period.as_nanos() as u64,
                        used: 0,
                    };
                }
                let reset_after_ns = counter.until_ns - now_ns;
                if counter.used >= limit {
                    return Some(State {
                        limit,
                        remaining: 0,
                        reset_after_ns,
                        refused_ns: Some(reset_after_ns),
                    });
                }
                counter.used += 1;
                Some(State {
                    limit,
                    remaining: limit - counter.used,
                    reset_after_ns,
                    refused_ns: None,
                })
            }
        }
    }

    fn headers(&self, now: Instant, route: &Route, state: &State, answer: &mut Answer) {
        let reset_ns = self.clock_ahead_ns + now.as_nanos() + state.reset_after_ns;
        let seconds = |ns: u64| format!("{:.3}", ns as f64 / SECOND_NS as f64);
        answer.header(b"Via", b"1.1 google");
        answer.header(
            b"X-RateLimit-Bucket",
            format!("{:016x}", route.name).as_bytes(),
        );
        answer.header(b"X-RateLimit-Limit", state.limit.to_string().as_bytes());
        answer.header(
            b"X-RateLimit-Remaining",
            state.remaining.to_string().as_bytes(),
        );
        answer.header(b"X-RateLimit-Reset", seconds(reset_ns).as_bytes());
        answer.header(
            b"X-RateLimit-Reset-After",
            seconds(state.reset_after_ns).as_bytes(),
        );
    }

    fn answer_429(
        &self,
        now: Instant,
        route: &Route,
        state: &State,
        wait_ns: u64,
        scope: &str,
    ) -> Answer {
        let mut answer = Answer::new(429);
        self.headers(now, route, state, &mut answer);
        answer.header(b"X-RateLimit-Scope", scope.as_bytes());
        answer.header(
            b"Retry-After",
            wait_ns.div_ceil(SECOND_NS).to_string().as_bytes(),
        );
        let wait = wait_ns as f64 / SECOND_NS as f64;
        let body = format!(
            r#"{{"message": "You are being rate limited.", "retry_after": {wait:.3}, "global": false}}"#
        );
        answer.error_body(body.as_bytes());
        answer
    }

    /// The shortest time in which `count` requests of one full bucket can be counted.
    pub(super) fn shortest(&self, route: usize, count: u64) -> Duration {
        let after = |limit: u16| count.saturating_sub(u64::from(limit)) as u32;
        match self.routes[route].rule {
            Rule::Sliding { limit, period } => period / u32::from(limit) * after(limit),
            Rule::Fixed { limit, period } => period * after(limit).div_ceil(u32::from(limit)),
            Rule::Free => Duration::ZERO,
        }
    }
}
