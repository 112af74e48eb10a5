//! A model of Discord: counts what arrives by its rules, answers with headers, and judges every
//! refusal. It knows everything the limiter has to guess, and shares no code with it.

use super::api::{Place, Refusal, Request, Route, Rule, Token, Trouble};
use super::counter::{Counter, State, TEN_MINUTES, Window};
use super::seed::Seed;
use crate::clock::Instant;
use crate::limit::Answer;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A slot that is promised now may be used so much later: its request waits for the global window.
const PROMISE: Duration = Duration::from_secs(2);
/// A slot that somebody else used is missed so much later at most.
const FOREIGN: Duration = Duration::from_secs(10);
/// A wrong clock's answer misleads for so long at most: some windows of a bucket.
const DOUBT: Duration = Duration::from_secs(20);
const SECOND_NS: u64 = 1_000_000_000;

type CounterKey = (u64, u64, u64);

/// See the module's documentation.
pub(super) struct Discord {
    pub(super) routes: Vec<Route>,
    pub(super) trouble: Trouble,
    global_limit: usize,
    /// The server's clock minus ours.
    pub(super) clock_ahead_ns: u64,
    counters: HashMap<CounterKey, Counter>,
    /// When a request of a route that was not known yet was counted last.
    intruders: HashMap<CounterKey, Instant>,
    /// When somebody else used a bucket, or a bot's global limit, last.
    foreign: HashMap<CounterKey, Instant>,
    foreign_global: HashMap<u64, Instant>,
    /// Resources (major parameter and name) that others used up, and until when.
    shared: HashMap<(u64, u64), Instant>,
    /// When a bucket's answer came from a wrong clock last, or a clock was set.
    wrong_clock: HashMap<CounterKey, Instant>,
    clock_set: Option<Instant>,
    hidden: HashMap<Place, Window>,
    global: HashMap<u64, Window>,
    invalid: Window,
    /// Routes of which an answer with headers has come back, and when the last one did.
    met: HashMap<Place, Instant>,
    pub(super) tally: Tally,
    /// The first refusal that should not have been, for the report.
    pub(super) complaint: Option<(String, Request)>,
}

/// What the model counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// 429s by kind.
    pub refusals: BTreeMap<Refusal, u64>,
    /// Requests that were counted.
    pub accepted: u64,
    /// When the first of them was.
    pub accepted_first: Option<Instant>,
    /// When the last of them was.
    pub accepted_last: Instant,
    /// Answers from Cloudflare.
    pub blocked: u64,
    /// 401s.
    pub unauthorized: u64,
    /// 403s.
    pub forbidden: u64,
    /// 404s of webhooks that do not exist.
    pub dead_webhooks: u64,
    /// The most invalid requests in any ten minutes.
    pub invalid_max: usize,
}

impl Tally {
    /// 429s of one kind.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(&why).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (&why, n) in &other.refusals {
            *self.refusals.entry(why).or_default() += n;
        }
        self.accepted += other.accepted;
        self.blocked += other.blocked;
        self.unauthorized += other.unauthorized;
        self.forbidden += other.forbidden;
        self.dead_webhooks += other.dead_webhooks;
        self.invalid_max = self.invalid_max.max(other.invalid_max);
    }

    /// 429s of all kinds.
    pub fn limited(&self) -> u64 {
        self.refusals.values().sum()
    }

    /// 429s that should not have been.
    pub fn avoidable(&self) -> u64 {
        self.refused(Refusal::Avoidable) + self.refused(Refusal::Global)
    }
}

impl Discord {
    pub(super) fn new(
        routes: Vec<Route>,
        global_limit: usize,
        trouble: Trouble,
        seed: &mut Seed,
    ) -> Self {
        Self {
            routes,
            trouble,
            global_limit,
            clock_ahead_ns: 1_700_000_000 * SECOND_NS + seed.below(SECOND_NS),
            counters: HashMap::new(),
            intruders: HashMap::new(),
            foreign: HashMap::new(),
            foreign_global: HashMap::new(),
            shared: HashMap::new(),
            wrong_clock: HashMap::new(),
            clock_set: None,
            hidden: HashMap::new(),
            global: HashMap::new(),
            invalid: Window::default(),
            met: HashMap::new(),
            tally: Tally::default(),
            complaint: None,
        }
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
        let answer = self.judge(now, request, &route, known, seed);
        if answer.is_invalid() {
            self.tally.invalid_max = self.tally.invalid_max.max(self.invalid.count(now));
        }
        answer
    }

    fn judge(
        &mut self,
        now: Instant,
        request: &Request,
        route: &Route,
        known: bool,
        seed: &mut Seed,
    ) -> Answer {
        if let Some(answer) = self.before_limits(now, request, route) {
            return answer;
        }
        self.disturb(now, request, route, seed);
        if route.token == Token::Bot && !self.take_global(now, request.bot) {
            let foreign = self.foreign_global.get(&request.bot);
            let foreign = foreign.is_some_and(|&at| now < at + FOREIGN);
            let why = if foreign {
                Refusal::Foreign
            } else {
                Refusal::Global
            };
            self.refuse(why, now, request);
            return global_429();
        }
        let key = self.counter_key(request);
        let intruded = self.intruders.get(&key);
        let intruded = intruded.is_some_and(|&at| now < at + PROMISE);
        if !known {
            self.intruders.insert(key, now);
        }
        let rule = route.rule;
        let Some(mut state) = self.counters.entry(key).or_default().take(now, rule) else {
            self.accept(now);
            return with_status(200);
        };
        if let Some(wait_ns) = state.refused_ns {
            let foreign = self.foreign.get(&key);
            let why = if route.unreliable {
                Refusal::Unreliable
            } else if foreign.is_some_and(|&at| now < at + FOREIGN) {
                Refusal::Foreign
            } else if self.is_clock_doubtful(now, &key) {
                Refusal::Clock
            } else if known && !intruded {
                Refusal::Avoidable
            } else {
                Refusal::FirstContact
            };
            self.refuse(why, now, request);
            return self.answer_429(now, route, &state, wait_ns, "user");
        }
        if let Some(answer) = self.beyond_the_bucket(now, request, route, &state, seed) {
            return answer;
        }
        self.accept(now);
        if route.unreliable {
            state.remaining = seed.below(u64::from(state.limit) + 1) as u16;
            state.reset_after_ns = seed.below(state.reset_after_ns + 1);
        }
        let bare = route.bare_permille + self.trouble.bare_permille;
        let mut answer = with_status(200);
        if !seed.permille(bare) {
            let skewed = seed.permille(self.trouble.skew_permille);
            if skewed {
                self.wrong_clock.insert(key, now);
            }
            self.headers(now, route, &state, &mut answer, skewed);
        }
        answer
    }

    /// Answers that come from before any limit.
    fn before_limits(&mut self, now: Instant, request: &Request, route: &Route) -> Option<Answer> {
        if self
            .trouble
            .blocked
            .is_some_and(|(from, to)| from <= now && now < to)
        {
            self.tally.blocked += 1;
            let mut answer = Answer::new(429);
            answer.header(b"Retry-After", b"2");
            answer.error_body(b"error code: 1015");
            return Some(answer);
        }
        if !self.trouble.is_hopeless(now, request, route) {
            return None;
        }
        let (status, body, count): (u16, &[u8], _) = match route.token {
            Token::Webhook | Token::Interaction => (
                404,
                br#"{"message": "Unknown Webhook", "code": 10015}"#,
                &mut self.tally.dead_webhooks,
            ),
            Token::Bot if self.trouble.is_dead(now, request.bot) => (
                401,
                br#"{"message": "401: Unauthorized", "code": 0}"#,
                &mut self.tally.unauthorized,
            ),
            Token::Bot => (
                403,
                br#"{"message": "Missing Permissions", "code": 50013}"#,
                &mut self.tally.forbidden,
            ),
        };
        *count += 1;
        let mut answer = with_status(status);
        answer.error_body(body);
        Some(answer)
    }

    /// Limits that stand behind the bucket and that no header tells of.
    fn beyond_the_bucket(
        &mut self,
        now: Instant,
        request: &Request,
        route: &Route,
        state: &State,
        seed: &mut Seed,
    ) -> Option<Answer> {
        if seed.permille(route.shared_permille) {
            let wait = seed.duration(Duration::from_millis(100), Duration::from_secs(3));
            self.shared.insert((request.major, route.name), now + wait);
        }
        if let Some(&until) = self.shared.get(&(request.major, route.name))
            && now < until
        {
            self.refuse(Refusal::Shared, now, request);
            // It may overstate (discord-api-docs #7816).
            let wait_ns = until.saturating_duration_since(now).as_nanos() as u64;
            let wait_ns = wait_ns * seed.range(10, 13) / 10;
            return Some(self.answer_429(now, route, state, wait_ns, "shared"));
        }
        if seed.permille(route.unexplained_permille) {
            self.refuse(Refusal::Unexplained, now, request);
            let mut answer = with_status(429);
            self.headers(now, route, state, &mut answer, false);
            answer.error_body(br#"{"message": "Maximum number of edits", "code": 30046}"#);
            return Some(answer);
        }
        if request.touches_hidden {
            let uses = self.hidden.entry(request.place()).or_default();
            if let Err(wait) = uses.take_hidden(now, 2) {
                self.refuse(Refusal::Hidden, now, request);
                let wait_ns = wait.as_nanos() as u64;
                return Some(self.answer_429(now, route, state, wait_ns, "user"));
            }
        }
        None
    }

    fn disturb(&mut self, now: Instant, request: &Request, route: &Route, seed: &mut Seed) {
        if seed.permille(self.trouble.foreign_permille) {
            let key = self.counter_key(request);
            self.counters.entry(key).or_default().take(now, route.rule);
            self.take_global(now, request.bot);
            self.foreign.insert(key, now);
            self.foreign_global.insert(request.bot, now);
        }
        if seed.permille(self.trouble.step_permille) {
            self.clock_ahead_ns += seed.below(3 * SECOND_NS);
            self.clock_ahead_ns -= seed.below(3 * SECOND_NS);
            self.clock_set = Some(now);
        }
    }

    fn is_clock_doubtful(&self, now: Instant, key: &CounterKey) -> bool {
        let wrong = self.wrong_clock.get(key).copied();
        let last = wrong.max(self.clock_set);
        last.is_some_and(|at| now < at + DOUBT)
    }

    fn accept(&mut self, now: Instant) {
        self.tally.accepted += 1;
        self.tally.accepted_first.get_or_insert(now);
        self.tally.accepted_last = now;
    }

    fn refuse(&mut self, why: Refusal, now: Instant, request: &Request) {
        *self.tally.refusals.entry(why).or_default() += 1;
        if matches!(why, Refusal::Avoidable | Refusal::Global) && self.complaint.is_none() {
            let route = self.routes[request.route];
            let what = format!("{why:?} at {now:?}: {request:?} {route:?}");
            self.complaint = Some((what, *request));
        }
    }

    /// What the clock shows at our zero, if the global limit counts by its seconds.
    pub(super) fn clock_that_counts(&self) -> Option<u64> {
        let by_clock = self.trouble.global_by_clock;
        by_clock.then_some(self.clock_ahead_ns)
    }

    fn take_global(&mut self, now: Instant, bot: u64) -> bool {
        let clock_ns = self.clock_that_counts();
        let window = self.global.entry(bot).or_default();
        window.take_global(now, self.global_limit, clock_ns)
    }

    /// Which counter of a bot's channel a request falls under.
    pub(super) fn counter_key(&self, request: &Request) -> CounterKey {
        let route = &self.routes[request.route];
        let tail = if route.alone {
            1_000_000 + request.route as u64
        } else {
            route.name
        };
        (request.bot, request.major, tail)
    }

    fn headers(
        &self,
        now: Instant,
        route: &Route,
        state: &State,
        answer: &mut Answer,
        skewed: bool,
    ) {
        let skew = if skewed { 2 * SECOND_NS } else { 0 };
        let reset_ns = self.clock_ahead_ns + skew + now.as_nanos() + state.reset_after_ns;
        let seconds = |ns: u64| format!("{:.3}", ns as f64 / SECOND_NS as f64);
        let name = format!("{:016x}", route.name);
        for (header, value) in [
            ("X-RateLimit-Bucket", name),
            ("X-RateLimit-Limit", state.limit.to_string()),
            ("X-RateLimit-Remaining", state.remaining.to_string()),
            ("X-RateLimit-Reset", seconds(reset_ns)),
            ("X-RateLimit-Reset-After", seconds(state.reset_after_ns)),
        ] {
            answer.header(header.as_bytes(), value.as_bytes());
        }
    }

    fn answer_429(
        &self,
        now: Instant,
        route: &Route,
        state: &State,
        wait_ns: u64,
        scope: &str,
    ) -> Answer {
        let mut answer = with_status(429);
        self.headers(now, route, state, &mut answer, false);
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

    /// An answer reached the limiter; does it tell what one needs to know of the route?
    pub(super) fn told(&mut self, now: Instant, request: &Request, answer: &Answer) {
        let free = answer.status == 200 && self.routes[request.route].rule == Rule::Free;
        if answer.headers.bucket.is_some() || free {
            self.met.insert(request.place(), now);
        }
    }

    /// Whether a limiter knows the route there: one may forget what nobody used for ten minutes.
    pub(super) fn is_known(&self, now: Instant, place: &Place) -> bool {
        let last = self.met.get(place);
        last.is_some_and(|&at| now < at + TEN_MINUTES)
    }
}

fn with_status(status: u16) -> Answer {
    let mut answer = Answer::new(status);
    answer.header(b"Via", b"1.1 google");
    answer
}

fn global_429() -> Answer {
    let mut answer = with_status(429);
    answer.header(b"Retry-After", b"1");
    answer.header(b"X-RateLimit-Global", b"true");
    answer.header(b"X-RateLimit-Scope", b"global");
    answer.error_body(br#"{"message": "limited", "retry_after": 0.5, "global": true}"#);
    answer
}
