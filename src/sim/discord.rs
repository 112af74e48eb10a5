//! A model of Discord: counts what arrives by its rules, answers with headers, and judges every
//! refusal. It knows everything the limiter has to guess, and shares no code with it.

mod answer;
mod blame;
mod tally;

pub use tally::Tally;

use super::api::{Place, Refusal, Request, Route, Token, Trouble};
use super::counter::{Counter, State, Window};
use super::seed::Seed;
use crate::clock::Instant;
use crate::limit::Answer;
use answer::Writer;
use blame::Blame;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;

type CounterKey = (u64, u64, u64);

/// See the module's documentation.
pub(super) struct Discord {
    pub(super) routes: Vec<Route>,
    pub(super) trouble: Trouble,
    global_limit: usize,
    /// The server's clock minus ours.
    pub(super) clock_ahead_ns: u64,
    /// Nobody may ask before.
    blocked_until: Instant,
    counters: HashMap<CounterKey, Counter>,
    /// Buckets that somebody else has used up.
    used_up: HashSet<CounterKey>,
    /// Resources (major parameter and name) that others used up, and until when.
    shared: HashMap<(u64, u64), Instant>,
    hidden: HashMap<Place, Window>,
    global: HashMap<u64, Window>,
    invalid: Window,
    blame: Blame,
    pub(super) tally: Tally,
    /// The first refusal that should not have been, for the report.
    pub(super) complaint: Option<(String, Request)>,
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
            blocked_until: Instant::ZERO,
            counters: HashMap::new(),
            used_up: HashSet::new(),
            shared: HashMap::new(),
            hidden: HashMap::new(),
            global: HashMap::new(),
            invalid: Window::default(),
            blame: Blame::default(),
            tally: Tally::default(),
            complaint: None,
        }
    }

    /// A request arrives and is answered. `known`: the limiter had met its route here when it sent
    /// it, at `sent`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        sent: Instant,
        request: &Request,
        known: bool,
        seed: &mut Seed,
    ) -> Answer {
        let known = known && !self.routes[request.route].changed(sent, now);
        let route = self.routes[request.route].as_of(now);
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
        if let Some(answer) = self.before_limits(now, request, route, seed) {
            return answer;
        }
        self.disturb(now, request, route, seed);
        let writer = self.writer(now, route);
        if route.token == Token::Bot || route.needless_authorization {
            if route.needless_authorization {
                self.blame.used_globally(now, request.bot);
            }
            if !self.take_global(now, request.bot) {
                let why = self.blame.of_global(now, request.bot);
                self.refuse(why, now, request);
                return writer.limited_globally();
            }
        }
        let key = self.counter_key(now, request);
        let why = self.blame.of_bucket(now, key, route, known);
        let counter = self.counters.entry(key).or_default();
        if let Some(used_up) = route.used_up
            && used_up.from <= now
            && now < used_up.until
            && self.used_up.insert(key)
        {
            counter.use_up(now, route.rule, used_up.until);
            self.blame.used_by_others(now, key);
        }
        let Some(mut state) = counter.take(now, route.rule) else {
            self.accept(now);
            return writer.status(200);
        };
        if let Some(wait_ns) = state.refused_ns {
            self.refuse(why, now, request);
            let bare = route.used_up.is_some_and(|used_up| used_up.bare);
            return writer.limited((!bare).then_some(&state), wait_ns, "user");
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
        let mut answer = writer.status(200);
        if seed.permille(bare) {
            return answer;
        }
        let mut writer = writer;
        if seed.permille(self.trouble.skew_permille) {
            self.blame.clock_was_wrong(now, key);
            writer.server_ns += 2 * SECOND_NS;
        }
        if seed.permille(route.absurd_permille) {
            self.blame.made_no_sense(now, key);
            writer.nonsense(&state, &mut answer, seed);
        } else {
            writer.limits(&state, &mut answer);
        }
        if seed.permille(route.hundred_years_permille) {
            self.blame.made_no_sense(now, key);
            answer.header(b"X-RateLimit-Reset-After", b"4294967296.5");
        }
        answer
    }

    /// Answers that come from before any limit.
    fn before_limits(
        &mut self,
        now: Instant,
        request: &Request,
        route: &Route,
        seed: &mut Seed,
    ) -> Option<Answer> {
        if self.is_blocked(now) {
            self.tally.blocked += 1;
            let mut answer = Answer::new(429);
            answer.header(b"Retry-After", b"2");
            answer.error_body(b"error code: 1015");
            return Some(answer);
        }
        let (failing, hiccup) = (self.trouble.failing_permille, self.trouble.hiccup_permille);
        if failing > 0 && seed.permille(failing) {
            self.tally.failed += 1;
            return Some(Answer::new(*seed.pick(&[500, 502, 503, 504])));
        }
        let writer = self.writer(now, route);
        if route.token == Token::Bot && hiccup > 0 && seed.permille(hiccup) {
            self.tally.hiccups += 1;
            let mut answer = writer.status(401);
            answer.error_body(br#"{"message": "401: Unauthorized", "code": 0}"#);
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
        let mut answer = writer.status(status);
        answer.error_body(body);
        Some(answer)
    }

    /// Cloudflare's block, which may grow with each request that meets it.
    fn is_blocked(&mut self, now: Instant) -> bool {
        let Some((from, to)) = self.trouble.blocked else {
            return false;
        };
        let blocked = from <= now && now < to.max(self.blocked_until);
        if blocked {
            self.blocked_until = self.blocked_until.max(now + self.trouble.block_grows);
        }
        blocked
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
        let writer = self.writer(now, route);
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
            return Some(writer.limited(Some(state), wait_ns, "shared"));
        }
        if seed.permille(route.unexplained_permille) {
            self.refuse(Refusal::Unexplained, now, request);
            let mut answer = writer.status(429);
            writer.limits(state, &mut answer);
            answer.error_body(br#"{"message": "Maximum number of edits", "code": 30046}"#);
            return Some(answer);
        }
        if request.touches_hidden {
            let uses = self.hidden.entry(request.place()).or_default();
            if let Err(wait) = uses.take_hidden(now, 2) {
                self.refuse(Refusal::Hidden, now, request);
                let wait_ns = wait.as_nanos() as u64;
                return Some(writer.limited(Some(state), wait_ns, "user"));
            }
        }
        None
    }

    fn disturb(&mut self, now: Instant, request: &Request, route: &Route, seed: &mut Seed) {
        if seed.permille(self.trouble.foreign_permille) {
            let key = self.counter_key(now, request);
            self.counters.entry(key).or_default().take(now, route.rule);
            self.take_global(now, request.bot);
            self.blame.used_by_others(now, key);
        }
        if seed.permille(self.trouble.step_permille) {
            self.clock_ahead_ns += seed.below(3 * SECOND_NS);
            self.clock_ahead_ns -= seed.below(3 * SECOND_NS);
            self.blame.clock_was_set(now);
        }
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

    fn writer<'a>(&self, now: Instant, route: &'a Route) -> Writer<'a> {
        let server_ns = self.clock_ahead_ns + now.as_nanos();
        Writer { route, server_ns }
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
    pub(super) fn counter_key(&self, now: Instant, request: &Request) -> CounterKey {
        let route = self.routes[request.route].as_of(now);
        let tail = if route.alone {
            1_000_000 + request.route as u64
        } else {
            route.name
        };
        (request.bot, request.major, tail)
    }

    /// An answer that was made at `made` reached the limiter.
    pub(super) fn told(&mut self, now: Instant, made: Instant, request: &Request, answer: &Answer) {
        let route = &self.routes[request.route];
        let key = self.counter_key(made, request);
        self.blame.told(now, made, key, request, route, answer);
    }

    /// Whether a limiter knows the route there.
    pub(super) fn is_known(&self, now: Instant, place: &Place) -> bool {
        self.blame.is_known(now, place, &self.routes[place.2])
    }
}
