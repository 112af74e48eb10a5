//! Whether refusals tell the truth: what a request with `max_wait` is told, against when its patient
//! twin goes.
//!
//! A run is made twice from one seed. In the first a client would not wait at all, and is refused
//! with a wait; in the second it waits, and goes when it goes. Everything else is the same. A wait
//! is true if it differs by at most 5 %, or 50 ms.
//!
//! Nobody can foretell clients that leave, nor the next packets' delays. Where requests wait for each
//! other's answers these add up: of `n` trips each off by a fifth, the sum is off by a fifth of
//! `1/√n`, so that most such waits are true, but not all. All others have to be. What comes later
//! queues behind, and changes nothing.

use super::api::{Request, Route, Rule, Trouble, UsedUp};
use super::mixed;
use super::run::watch;
use super::scenario::{START, Setup};
use super::seed::Seed;
use std::time::Duration;

/// What may be told wrongly, of the wait or at all.
const PART: u32 = 20;
const GRAIN: Duration = Duration::from_millis(50);
/// How long the limiter has to learn its bucket, and to come to rest.
const WARM_UP: Duration = Duration::from_secs(60);

/// What a client was told, and how long its twin waited.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// The refusal's wait.
    pub told: Duration,
    /// The twin's.
    pub waited: Duration,
}

impl Wait {
    /// Whether so many wrong ones of `of` are few enough.
    pub const fn allows(&self, wrong: usize, of: usize) -> bool {
        (of - wrong) * 100 >= self.least * of
    }
}

impl Told {
    /// How wrong it was.
    pub fn error(&self) -> Duration {
        self.told.abs_diff(self.waited)
    }

    /// Within 5 %, or 50 ms.
    pub fn is_true(&self) -> bool {
        self.error() <= (self.waited / PART).max(GRAIN)
    }
}

/// A kind of wait.
pub struct Wait {
    /// What is waited for.
    pub name: &'static str,
    /// Of a hundred, so many must be true: all where nothing interferes, none where it is only shown
    /// how many are.
    pub least: usize,
    /// The last of its requests is the one that is refused.
    setup: fn(&mut Seed) -> Setup,
}

/// The kinds of waits of which it is shown whether refusals tell them.
pub const WAITS: &[Wait] = &[
    Wait {
        name: "a sliding bucket",
        least: 100,
        setup: |seed| {
            let rule = Rule::sliding(limit(seed), seed.range(1_000, 10_000));
            behind(Route::new(rule, 1), seed)
        },
    },
    Wait {
        name: "a fixed bucket",
        least: 100,
        setup: |seed| {
            let rule = Rule::fixed(limit(seed), seed.range(1_000, 10_000));
            behind(Route::new(rule, 1), seed)
        },
    },
    Wait {
        name: "POSTs one by one, a way of 20 ± 2 ms",
        least: 100,
        setup: |seed| {
            let mut setup = one_by_one(seed);
            setup.network.delay_min = Duration::from_millis(18);
            setup.network.delay_max = Duration::from_millis(22);
            setup
        },
    },
    Wait {
        name: "POSTs one by one, a way of 20 ± 10 ms",
        least: 90,
        setup: one_by_one,
    },
    Wait {
        name: "the global limit",
        least: 100,
        setup: |seed| {
            let routes = vec![Route::new(Rule::Free, 1)];
            let mut setup = Setup::new(routes, 60, seed);
            setup.ask(START, 1, 0, 0);
            let at = START + WARM_UP;
            let count = seed.range(60, 1_000);
            (0..count).for_each(|n| setup.ask(at, 1, n % 300, 0));
            // Who comes later goes later.
            for n in 0..300 {
                setup.ask(at + Duration::from_millis(n * 20), 1, n, 0);
            }
            let left = count * 1_000 / 50 - 1_000;
            setup.ask(at + Duration::from_millis(seed.below(left)), 1, 999, 0);
            setup
        },
    },
    Wait {
        name: "a bucket paused by a 429",
        least: 100,
        setup: |seed| {
            let (limit, period) = (limit(seed), seed.range(1_000, 10_000));
            let from = START + WARM_UP;
            let until = from + Duration::from_millis(period);
            let (rule, bare) = if seed.permille(500) {
                (Rule::sliding(limit, period), false)
            } else {
                (Rule::fixed(limit, period), seed.permille(500))
            };
            let route = Route {
                used_up: Some(UsedUp { from, until, bare }),
                ..Route::new(rule, 1)
            };
            let mut setup = Setup::new(vec![route], 60, seed);
            (0..2 * limit + 2).for_each(|_| setup.ask(START, 1, 1, 0));
            // Some stand behind the one that is refused.
            (0..seed.range(1, 4)).for_each(|_| setup.ask(from, 1, 1, 0));
            setup.ask(from + Duration::from_millis(100), 1, 1, 0);
            setup
        },
    },
    Wait {
        name: "anything, in mixed traffic that leaves",
        least: 0,
        setup: |seed| {
            let mut setup = mixed::setup(seed.next(), 800, |_| Trouble::default());
            let mut probe = *seed.pick(&setup.asks);
            probe.2 = None;
            setup.asks.push(probe);
            setup
        },
    },
];

fn limit(seed: &mut Seed) -> u16 {
    *seed.pick(&[1, 1, 2, 3, 5, 5, 10, 20, 50])
}

/// Many want one bucket that is known, at once and then as fast as it allows; one more comes while
/// they wait.
fn behind(route: Route, seed: &mut Seed) -> Setup {
    let (limit, period) = match route.rule {
        Rule::Sliding { limit, period } | Rule::Fixed { limit, period } => (limit, period),
        Rule::Free => (1, Duration::from_millis(40)),
    };
    let mut setup = Setup::new(vec![route], 300, seed).with_global(10_000);
    for _ in 0..2 * limit + 2 {
        setup.ask(START, 1, 1, 0);
    }
    let begin = START + WARM_UP;
    let count = u64::from(limit) + seed.range(1, 150);
    (0..count).for_each(|_| setup.ask(begin, 1, 1, 0));
    let takes = match route.rule {
        Rule::Free => period * count as u32,
        Rule::Sliding { .. } | Rule::Fixed { .. } => route.rule.shortest(count),
    };
    let pace = takes / count as u32;
    let mut at = begin;
    while at < begin + takes {
        at += seed.exponential(pace);
        setup.ask(at, 1, 1, 0);
    }
    setup.ask(begin + seed.duration(Duration::ZERO, takes), 1, 1, 0);
    setup
}

fn one_by_one(seed: &mut Seed) -> Setup {
    let mut setup = behind(Route::new(Rule::Free, 1).serial(), seed);
    // How long answers take is known from many.
    let request = setup.asks[0].1;
    let many = (0..150).map(|n| (START + Duration::from_millis(n * 200), request, None));
    setup.asks.splice(0..0, many);
    setup
}

/// What a client of that kind's run is told, if it is not sent at once.
pub fn truth(wait: &Wait, seed: u64) -> Option<Told> {
    let mut setup = (wait.setup)(&mut Seed::new(seed));
    let last = setup.asks.len() - 1;
    let bound = |setup: &mut Setup, max_wait| {
        let request = &mut setup.asks[last].1;
        *request = Request {
            max_wait,
            ..*request
        };
    };
    bound(&mut setup, Some(Duration::ZERO));
    let (_, told) = watch(&setup);
    let told = told?;
    bound(&mut setup, None);
    let (gone, _) = watch(&setup);
    let waited = gone?.saturating_duration_since(setup.asks[last].0);
    Some(Told { told, waited })
}
