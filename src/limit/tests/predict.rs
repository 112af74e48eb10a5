//! Predicted waits, against when a twin of the refused request went: a small server, constant ways
//! there and back that vary a little, and time that jumps from event to event.

use super::*;
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, Copy, Debug)]
enum Rule {
    Fixed(u32, u64),
    Sliding(u32, u64),
    Free,
}

enum Event {
    Arrives(u32),
    Answered(u32, Box<Answer>),
    Tick,
}

/// Limiter and server.
struct Twin {
    limiter: Local,
    out: Outputs,
    now: Instant,
    rule: Rule,
    events: BTreeMap<(Instant, u32), Event>,
    number: u32,
    sent: HashMap<u32, (Permit, Instant)>,
    gone: HashMap<u32, Instant>,
    /// Per major: when the window ends, or the bucket has leaked empty; and slots used.
    counters: HashMap<u64, (Instant, u32)>,
    asks: HashMap<u32, Ask>,
    /// The next so many requests are refused with that wait and nothing else.
    pause: Option<(Duration, u32)>,
    /// Somebody else uses slots too.
    foreign: bool,
}

impl Twin {
    fn new(rule: Rule, global: u32) -> Self {
        let settings = Settings {
            global_default: global,
            ..Settings::default()
        };
        Self {
            limiter: Limiter::new(&settings, 1),
            out: Outputs::new(),
            now: ms(1000),
            rule,
            events: BTreeMap::new(),
            number: 0,
            sent: HashMap::new(),
            gone: HashMap::new(),
            counters: HashMap::new(),
            asks: HashMap::new(),
            pause: None,
            foreign: false,
        }
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(20 + u64::from(self.number * 7 % 5))
    }

    /// A client asks now.
    fn ask(&mut self, major: u64, serial: bool) -> u32 {
        self.number += 1;
        let slot = self.number;
        let mut ask = Ask {
            serial,
            ..ask(slot, 1)
        };
        ask.key.major = major;
        self.asks.insert(slot, ask);
        if let Decision::Go(permit) = self.limiter.acquire(self.now, &ask, &mut self.out) {
            self.send(slot, permit);
        }
        self.drain();
        slot
    }

    /// What a request is told that will not wait at all, and the error of that.
    fn check(&mut self, major: u64, serial: bool, what: &str) {
        let mut bounded = Ask {
            serial,
            ..ask(0, 1)
        };
        bounded.key.major = major;
        bounded.max_wait = Some(Duration::ZERO);
        let refusal = match self.limiter.acquire(self.now, &bounded, &mut self.out) {
            Decision::Go(permit) => {
                // It need not wait.
                self.limiter
                    .no_answer(self.now, permit, false, &mut self.out);
                return self.drain();
            }
            decision => refused(decision),
        };
        assert_eq!(refusal.reason, Reason::TooLong);
        self.drain();
        let asked = self.now;
        let twin = self.ask(major, serial);
        while !self.gone.contains_key(&twin) {
            self.step();
        }
        let waited = self.gone[&twin].saturating_duration_since(asked);
        let error = waited.abs_diff(refusal.retry_after);
        assert!(
            error <= (waited / 20).max(Duration::from_millis(50)),
            "{what}, {:?}: told {:?}, waited {waited:?}",
            self.rule,
            refusal.retry_after
        );
    }

    fn send(&mut self, slot: u32, permit: Permit) {
        self.gone.entry(slot).or_insert(self.now);
        self.sent.insert(slot, (permit, self.now));
        let at = self.now + self.delay();
        self.at(at, Event::Arrives(slot));
    }

    fn drain(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => self.send(ticket.slot, permit),
                Output::Deadline { at, .. } => self.at(at.max(self.now), Event::Tick),
                other => panic!("{other:?}"),
            }
        }
    }

    fn until(&mut self, end: Instant) {
        while self
            .events
            .first_key_value()
            .is_some_and(|(&(at, _), _)| at <= end)
        {
            self.step();
        }
        self.now = end;
    }

    /// Until nobody waits, and then until all windows have ended.
    fn rest(&mut self) {
        while self.limiter.census(self.now) != self.resting() {
            self.step();
        }
        let end = self.now + Duration::from_secs(20);
        self.until(end);
    }

    /// What is held when nobody waits and nothing is under way.
    fn resting(&self) -> Census {
        Census {
            waiting_for_bucket: 0,
            waiting_for_global: 0,
            under_way: 0,
            ..self.limiter.census(self.now)
        }
    }

    fn step(&mut self) {
        let Some(((at, _), event)) = self.events.pop_first() else {
            panic!("nothing more happens");
        };
        self.now = at;
        match event {
            Event::Arrives(slot) => {
                let answer = Box::new(self.count(self.asks[&slot].key.major));
                let back = at + self.delay();
                self.at(back, Event::Answered(slot, answer));
            }
            Event::Answered(slot, answer) => {
                let (permit, _) = self.sent.remove(&slot).unwrap();
                if answer.status == 429 {
                    let ask = self.asks[&slot];
                    self.limiter
                        .requeue(at, permit, &answer, &ask, &mut self.out);
                } else {
                    self.limiter.report(at, permit, &answer, &mut self.out);
                }
            }
            Event::Tick => {
                self.limiter.tick(at, 0, &mut self.out);
                if let Some(next) = self.limiter.next_deadline(0) {
                    self.at(next, Event::Tick);
                }
            }
        }
        self.drain();
    }

    /// The server counts a request.
    fn count(&mut self, major: u64) -> Answer {
        let now = self.now;
        if let Some((wait, more)) = self.pause.take() {
            self.pause = (more > 1).then(|| (wait, more - 1));
            let mut refused = plain(429);
            refused.error_body(format!("{{\"retry_after\": {}}}", wait.as_secs_f64()).as_bytes());
            return refused;
        }
        let (until, used) = self.counters.entry(major).or_insert((now, 0));
        let mut refused = None;
        let (limit, remaining) = match self.rule {
            Rule::Free => return plain(200),
            Rule::Fixed(limit, window) => {
                if *until <= now {
                    (*until, *used) = (now + Duration::from_millis(window), 0);
                }
                if *used < limit {
                    *used += 1;
                } else {
                    refused = Some(until.saturating_duration_since(now));
                }
                (limit, limit - *used)
            }
            Rule::Sliding(limit, period) => {
                let slot = Duration::from_millis(period) / limit;
                let level = until.saturating_duration_since(now) + slot;
                if level <= slot * limit {
                    *until = now + level;
                } else {
                    refused = Some(level - slot * limit);
                }
                let level = until.saturating_duration_since(now);
                let left = (slot * limit).saturating_sub(level).as_nanos() / slot.as_nanos();
                (limit, left as u32)
            }
        };
        assert!(refused.is_none() || self.foreign, "an avoidable 429");
        let after = until.saturating_duration_since(now).as_secs_f64();
        let reset = until.as_nanos() as f64 / 1e9 + 5_000.0;
        let mut answer = answer(limit, remaining, reset, after);
        if let Some(wait) = refused {
            answer.status = 429;
            answer.error_body(format!("{{\"retry_after\": {}}}", wait.as_secs_f64()).as_bytes());
        }
        answer
    }

    /// Somebody else takes all slots.
    fn use_up(&mut self, major: u64) {
        let full = match self.rule {
            Rule::Fixed(limit, window) => (self.now + Duration::from_millis(window), limit),
            Rule::Sliding(_, period) => (self.now + Duration::from_millis(period), 0),
            Rule::Free => (self.now, 0),
        };
        self.counters.insert(major, full);
        self.foreign = true;
    }
}

const RULES: [Rule; 6] = [
    Rule::Fixed(5, 5_000),
    Rule::Fixed(10, 1_000),
    Rule::Fixed(1, 2_000),
    Rule::Sliding(5, 5_000),
    Rule::Sliding(1, 1_000),
    Rule::Sliding(50, 2_000),
];

/// A server of that rule, whose kind the limiter has found out.
fn known(rule: Rule, global: u32) -> Twin {
    let mut twin = Twin::new(rule, global);
    for n in 0..30 {
        twin.ask(1, n % 2 == 0);
    }
    twin.rest();
    twin
}

#[test]
fn a_refusal_tells_when_its_twin_goes_through_a_known_bucket() {
    for rule in RULES {
        for (burst, serial) in [
            (20, false),
            (20, true),
            (100, false),
            (100, true),
            (400, false),
        ] {
            let mut twin = known(rule, 10_000);
            // At once, and when some of what was sent is answered.
            for later in [0, 30, 700, 9_000] {
                twin.rest();
                let begin = twin.now;
                for _ in 0..burst {
                    twin.ask(1, serial);
                }
                twin.until(begin + Duration::from_millis(later));
                if twin.limiter.census(twin.now).waiting_for_bucket > 0 {
                    twin.check(1, serial, &format!("{burst} before, {later} ms later"));
                }
            }
        }
    }
}

#[test]
fn a_refusal_tells_when_its_twin_goes_through_a_queue_that_goes_one_by_one() {
    let mut twin = known(Rule::Free, 10_000);
    for n in 0..5_u64 {
        twin.rest();
        for _ in 0..10 + 40 * n {
            twin.ask(1, true);
        }
        let later = twin.now + Duration::from_millis(20 * n);
        twin.until(later);
        twin.check(1, true, "one by one");
    }
    // Nobody waits, one is under way.
    twin.rest();
    twin.ask(1, true);
    twin.check(1, true, "behind one");
}

#[test]
fn a_refusal_tells_when_its_twin_goes_through_the_global_window() {
    for (before, later) in [
        (60, 0),
        (60, 30),
        (200, 0),
        (200, 500),
        (1_000, 0),
        (1_000, 3_333),
    ] {
        let mut twin = known(Rule::Free, 50);
        for major in 0..before {
            twin.ask(major + 2, false);
        }
        let at = twin.now + Duration::from_millis(later);
        twin.until(at);
        twin.check(
            before + 9,
            false,
            &format!("{before} before, {later} ms later"),
        );
    }
}

#[test]
fn a_refusal_tells_when_its_twin_goes_after_a_pause() {
    for rule in [Rule::Free, Rule::Sliding(5, 5_000), Rule::Fixed(5, 5_000)] {
        let mut twin = known(rule, 50);
        twin.pause = Some((Duration::from_secs(7), 1));
        twin.ask(1, true);
        let later = twin.now + Duration::from_millis(100);
        twin.until(later);
        for _ in 0..3 {
            twin.check(1, true, "paused bucket");
        }
    }
    let mut twin = known(Rule::Free, 50);
    let mut global = plain(429);
    global.header(b"X-RateLimit-Global", b"true");
    global.error_body(br#"{"retry_after": 3.5, "global": true}"#);
    let permit = go(twin.limiter.acquire(twin.now, &ask(7, 1), &mut twin.out));
    twin.limiter
        .report(twin.now, permit, &global, &mut twin.out);
    twin.drain();
    twin.check(5, false, "paused identity");
}

#[test]
fn a_refusal_tells_when_its_twin_goes_after_others_used_the_bucket_up() {
    for rule in [
        Rule::Sliding(5, 5_000),
        Rule::Sliding(10, 3_000),
        Rule::Fixed(5, 5_000),
    ] {
        for together in [1, 3, 5] {
            let mut twin = known(rule, 50);
            twin.use_up(1);
            for _ in 0..together {
                twin.ask(1, false);
            }
            let later = twin.now + Duration::from_millis(100);
            twin.until(later);
            for _ in 0..3 {
                twin.check(1, false, &format!("{together} refused"));
            }
        }
    }
}

#[test]
fn a_refusal_tells_when_its_twin_goes_after_refusals_that_tell_nothing_of_the_bucket() {
    for (rule, wait) in [(Rule::Fixed(5, 5_000), 7), (Rule::Fixed(10, 1_000), 3)] {
        for together in [1, 4, 5] {
            let mut twin = known(rule, 50);
            twin.pause = Some((Duration::from_secs(wait), together));
            for _ in 0..together {
                twin.ask(1, false);
            }
            let later = twin.now + Duration::from_millis(100);
            twin.until(later);
            for _ in 0..3 {
                twin.check(1, false, &format!("{together} refused without a word"));
            }
        }
    }
}

#[test]
fn a_wait_within_what_is_allowed_is_waited() {
    let mut twin = known(Rule::Sliding(5, 5_000), 50);
    for _ in 0..10 {
        twin.ask(1, false);
    }
    for (max_ms, refuses) in [(5_500, true), (6_500, false)] {
        let mut bounded = ask(90 + max_ms as u32, 1);
        bounded.max_wait = Some(Duration::from_millis(max_ms));
        let decision = twin.limiter.acquire(twin.now, &bounded, &mut twin.out);
        assert_eq!(
            matches!(decision, Decision::Refuse(_)),
            refuses,
            "{decision:?}"
        );
    }
}

#[test]
fn a_refusal_tells_when_its_twin_goes_behind_the_queues_of_its_bots_other_buckets() {
    for (rule, majors, each) in [
        (Rule::Free, 20, 30),
        (Rule::Sliding(5, 1_000), 100, 8),
        (Rule::Sliding(5, 5_000), 200, 4),
        // These buckets, not the window, keep most of those before waiting.
        (Rule::Sliding(1, 1_000), 10, 60),
        (Rule::Fixed(10, 10_000), 30, 20),
    ] {
        for later in [200, 700, 4_000] {
            let mut twin = known(rule, 50);
            for n in 0..majors * each {
                twin.ask(2 + n % majors, true);
                twin.now += Duration::from_micros(1);
            }
            let at = twin.now + Duration::from_millis(later);
            twin.until(at);
            let what = format!("{each} in each of {majors}, {later} ms later");
            // A bucket of its own, and behind one of those queues.
            for major in [1_000, 2] {
                twin.check(major, true, &what);
            }
        }
    }
}
