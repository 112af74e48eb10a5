//! What clients want, of which Discord, over which network: one seed, one setup. The same setup is
//! run against every limiter.

use super::api::{Request, Route, Rule, Token, Trouble};
use super::run::Limiter;
use super::seed::Seed;
use super::subject::Restart;
use super::world::Network;
use crate::clock::Instant;
use crate::limit::Settings;
use std::time::Duration;

/// When every run begins.
pub(super) const START: Instant = Instant::from_millis(1_000);

/// Everything about a run but its limiter.
pub(super) struct Setup {
    pub(super) routes: Vec<Route>,
    pub(super) network: Network,
    pub(super) global_limit: usize,
    pub(super) trouble: Trouble,
    pub(super) settings: Settings,
    pub(super) shards: usize,
    /// When, what, and how long its client waits for its turn.
    pub(super) asks: Vec<(Instant, Request, Option<Duration>)>,
    /// Goodput is counted up to here.
    pub(super) horizon: Instant,
    /// The seed of the network's and the model's chance.
    pub(super) chance: u64,
    pub(super) restart: Option<Restart>,
}

impl Setup {
    /// A way of 10 to 30 ms, Discord's global limit, two shards, nothing wrong.
    pub(super) fn new(routes: Vec<Route>, seconds: u64, seed: &mut Seed) -> Self {
        Self {
            routes,
            network: Network {
                delay_min: Duration::from_millis(10),
                delay_max: Duration::from_millis(30),
                loss_permille: 0,
            },
            global_limit: 50,
            trouble: Trouble::default(),
            settings: Settings::default(),
            shards: 2,
            asks: Vec::new(),
            horizon: START + Duration::from_secs(seconds),
            chance: seed.next(),
            restart: None,
        }
    }

    pub(super) fn with_global(mut self, limit: usize) -> Self {
        self.global_limit = limit;
        self.settings.global_default = limit as u32;
        self
    }

    pub(super) fn ask(&mut self, at: Instant, bot: u64, major: u64, route: usize) {
        let request = Request {
            id: 0,
            bot,
            major,
            route,
            touches_hidden: false,
            max_wait: None,
        };
        self.asks.push((at, request, None));
    }

    /// `rate` requests a second until the horizon, by chance: of any of `bots`, `majors`, routes.
    pub(super) fn stream(mut self, rate: f64, bots: u64, majors: u64, seed: &mut Seed) -> Self {
        let mut at = START;
        let pace = Duration::from_secs_f64(1.0 / rate);
        while at < self.horizon {
            let route = seed.below(self.routes.len() as u64) as usize;
            self.ask(at, seed.below(bots), seed.below(majors), route);
            at += seed.exponential(pace);
        }
        self.touch_hidden(seed);
        self
    }

    /// As many of one request at once as `count` says.
    pub(super) fn burst(mut self, count: u64, majors: u64) -> Self {
        for n in 0..count {
            self.ask(START, 1, n % majors, 0);
        }
        self
    }

    fn touch_hidden(&mut self, seed: &mut Seed) {
        for (_, request, _) in &mut self.asks {
            request.touches_hidden = seed.permille(self.routes[request.route].hidden_permille);
        }
    }
}

/// A kind of traffic.
pub struct Scenario {
    /// What it is.
    pub name: &'static str,
    pub(super) setup: fn(&mut Seed) -> Setup,
}

/// The row of [`SCENARIOS`] in which nirn waits less than ours, and may.
///
/// Its whole advantage is one second: it counts by the clock's seconds as this Discord does, so what
/// is left of the first one when the run begins is one more window for it. A window of a second that
/// slides cannot use that, and is right where Discord's slides. Nirn pays with 429s, where ours draws
/// none, but fewer than the excuse for a faster one asks for.
const BY_THE_CLOCK: &str = "the same, the limit counted by the clock's second";

impl Scenario {
    /// Whether it is known that this reference waits less here, and why.
    pub fn is_exception(&self, reference: Limiter) -> bool {
        self.name == BY_THE_CLOCK && reference == Limiter::Nirn
    }
}

const fn get(rule: Rule, name: u64) -> Route {
    Route::new(rule, name)
}

const fn post(rule: Rule, name: u64) -> Route {
    Route::new(rule, name).serial()
}

/// The scenarios of the comparison.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "messages of 8 channels, 90 % of their sliding limit",
        setup: |seed| {
            let routes = vec![post(Rule::sliding(5, 5_000), 1)];
            Setup::new(routes, 120, seed).stream(7.2, 1, 8, seed)
        },
    },
    Scenario {
        name: "one channel wants twice its sliding limit",
        setup: |seed| {
            let routes = vec![post(Rule::sliding(5, 5_000), 1)];
            Setup::new(routes, 120, seed).stream(2.0, 1, 1, seed)
        },
    },
    Scenario {
        name: "a guild's roles want twice their fixed limit",
        setup: |seed| {
            let routes = vec![post(Rule::fixed(10, 10_000), 1)];
            Setup::new(routes, 120, seed).stream(2.0, 1, 1, seed)
        },
    },
    Scenario {
        name: "GETs of one large bucket, in parallel",
        setup: |seed| {
            let routes = vec![get(Rule::sliding(50, 1_000), 1)];
            Setup::new(routes, 60, seed)
                .with_global(500)
                .stream(45.0, 1, 1, seed)
        },
    },
    Scenario {
        name: "200 channels want 150 % of the global limit",
        setup: |seed| {
            let routes = vec![post(Rule::sliding(5, 1_000), 1)];
            Setup::new(routes, 30, seed).stream(75.0, 1, 200, seed)
        },
    },
    Scenario {
        name: BY_THE_CLOCK,
        setup: |seed| {
            let routes = vec![post(Rule::sliding(5, 1_000), 1)];
            let mut setup = Setup::new(routes, 30, seed).stream(75.0, 1, 200, seed);
            setup.trouble.global_by_clock = true;
            setup
        },
    },
    Scenario {
        name: "interactions while the global limit is exhausted",
        setup: |seed| {
            let interaction = Route {
                token: Token::Interaction,
                ..post(Rule::sliding(5, 2_000), 2)
            };
            let routes = vec![post(Rule::sliding(5, 1_000), 1), interaction];
            Setup::new(routes, 30, seed).stream(120.0, 1, 200, seed)
        },
    },
    Scenario {
        name: "cold start: 20 unknown routes share one bucket",
        setup: |seed| {
            let route = |path| Route {
                path,
                ..post(Rule::sliding(5, 5_000), 1)
            };
            let mut setup = Setup::new((0..20).map(route).collect(), 20, seed);
            (0..20).for_each(|route| setup.ask(START, 1, 1, route));
            setup
        },
    },
    Scenario {
        name: "6 routes of one bucket, 90 % of its limit",
        setup: |seed| {
            let route = |path| Route {
                path,
                ..get(Rule::sliding(10, 5_000), 1)
            };
            let routes = (0..6).map(route).collect();
            Setup::new(routes, 120, seed).stream(3.6, 1, 2, seed)
        },
    },
    Scenario {
        name: "4 routes of one name with a counter each",
        setup: |seed| {
            let route = |path| Route {
                alone: true,
                path,
                ..get(Rule::sliding(5, 5_000), 1)
            };
            let routes = (0..4).map(route).collect();
            Setup::new(routes, 120, seed).stream(6.4, 1, 2, seed)
        },
    },
    Scenario {
        name: "channel edits, 20 % of them renames (hidden limit)",
        setup: |seed| {
            let route = Route {
                hidden_permille: 200,
                ..post(Rule::fixed(5, 5_000), 1)
            };
            Setup::new(vec![route], 120, seed).stream(1.6, 1, 2, seed)
        },
    },
    Scenario {
        name: "reactions, 2 % meet a shared limit",
        setup: |seed| {
            let route = Route {
                shared_permille: 20,
                ..post(Rule::sliding(1, 250), 1)
            };
            Setup::new(vec![route], 120, seed).stream(4.8, 1, 2, seed)
        },
    },
    Scenario {
        name: "emoji routes, whose headers say anything",
        setup: |seed| {
            let route = Route {
                unreliable: true,
                ..post(Rule::fixed(5, 10_000), 1)
            };
            Setup::new(vec![route], 120, seed).stream(0.8, 1, 2, seed)
        },
    },
    Scenario {
        name: "headers that come and go, and routes without",
        setup: |seed| {
            let bare = Route {
                bare_permille: 100,
                ..get(Rule::sliding(5, 5_000), 1)
            };
            let routes = vec![bare, get(Rule::Free, 2)];
            Setup::new(routes, 120, seed).stream(3.2, 1, 2, seed)
        },
    },
    Scenario {
        name: "a long way (80 to 250 ms), 1 % lost",
        setup: |seed| {
            let routes = vec![
                get(Rule::sliding(5, 5_000), 1),
                get(Rule::fixed(5, 5_000), 2),
            ];
            let mut setup = Setup::new(routes, 120, seed).stream(6.0, 1, 4, seed);
            setup.network = Network {
                delay_min: Duration::from_millis(80),
                delay_max: Duration::from_millis(250),
                loss_permille: 5,
            };
            setup
        },
    },
    Scenario {
        name: "server clocks 2 s apart that are set now and then",
        setup: |seed| {
            let routes = vec![
                get(Rule::sliding(5, 5_000), 1),
                get(Rule::fixed(5, 5_000), 2),
            ];
            let mut setup = Setup::new(routes, 120, seed).stream(6.0, 1, 4, seed);
            setup.trouble.skew_permille = 50;
            setup.trouble.step_permille = 5;
            setup
        },
    },
    Scenario {
        name: "200 bots, 20 channels each, 60 routes, in bursts",
        setup: |seed| {
            let routes = (0..60).map(|name| {
                let (limit, period) = (seed.range(2, 20) as u16, seed.range(1_000, 8_000));
                let rule = if seed.permille(500) {
                    Rule::sliding(limit, period)
                } else {
                    Rule::fixed(limit, period)
                };
                let route = if seed.permille(500) { post } else { get };
                route(rule, name)
            });
            let routes = routes.collect();
            let mut setup = Setup::new(routes, 30, seed).stream(100.0, 200, 20, seed);
            for (at, request, patience) in setup.asks.clone() {
                let more = seed.range(0, 15) as usize;
                let again = std::iter::repeat_n((at, request, patience), more);
                setup.asks.extend(again);
            }
            setup.asks.sort_by_key(|ask| ask.0);
            setup
        },
    },
];
