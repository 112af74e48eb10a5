//! What Discord does now and then without a word, one thing at a time, and how much it may cost.

use super::api::{Change, Route, Rule, Token, UsedUp};
use super::report::Report;
use super::run::{Limiter, run};
use super::scenario::{START, Setup};
use super::seed::Seed;
use super::subject::Restart;
use crate::clock::Instant;
use std::time::Duration;

/// When it happens: by then everything is known.
const THEN: Instant = Instant::from_millis(61_000);
/// The wait of Discord's daily limits, as it was seen (discord-api-docs #8570).
const A_DAY: Duration = Duration::from_secs(82_721);

/// The most that a run may show; a failing of ours is one more.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// 429s of all kinds.
    pub limited: u64,
    /// Clients that were refused.
    pub refused: u64,
    /// Requests that met Cloudflare.
    pub blocked: u64,
    /// The longest wait of a request that was answered.
    pub wait: Duration,
}

/// Something that happens.
pub struct Surprise {
    /// What.
    pub name: &'static str,
    /// What it may cost.
    pub most: Cost,
    setup: fn(&mut Seed) -> Setup,
}

impl Surprise {
    /// One run.
    pub fn run(&self, seed: u64) -> Report {
        run(&(self.setup)(&mut Seed::new(seed)), Limiter::Weir).0
    }

    /// What cost more than it may, if anything did.
    pub fn complaint(&self, report: &Report) -> Option<String> {
        let (shown, wait) = (&report.shown, report.wait(100));
        let costs = [
            ("avoidable 429s", shown.avoidable(), 0),
            ("429s", shown.limited(), self.most.limited),
            ("refused", report.refused, self.most.refused),
            ("asked of Cloudflare", shown.blocked, self.most.blocked),
            ("leaks", report.leaks, 0),
            ("starved", report.starved, 0),
            (
                "ms waited",
                wait.as_millis() as u64,
                self.most.wait.as_millis() as u64,
            ),
        ];
        let over = costs.iter().filter(|(_, cost, most)| cost > most);
        let list: Vec<_> = over
            .map(|(name, cost, most)| format!("{cost} {name}, at most {most}"))
            .collect();
        (!list.is_empty()).then(|| list.join("; "))
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 429s and a wait; nobody is refused.
const fn cost(limited: u64, wait: Duration) -> Cost {
    Cost {
        limited,
        refused: 0,
        blocked: 0,
        wait,
    }
}

fn any_rule(seed: &mut Seed) -> Rule {
    let (limit, period) = (seed.range(1, 10) as u16, seed.range(1_000, 8_000));
    if seed.permille(500) {
        Rule::sliding(limit, period)
    } else {
        Rule::fixed(limit, period)
    }
}

/// Half a slot a second or more.
fn quick_rule(seed: &mut Seed) -> Rule {
    let (limit, period) = (seed.range(4, 10) as u16, seed.range(1_000, 8_000));
    if seed.permille(500) {
        Rule::sliding(limit, period)
    } else {
        Rule::fixed(limit, period)
    }
}

fn changing(before: Rule, name: u64, to: u64, after: Rule) -> Route {
    let at = THEN;
    Route {
        change: Some(Change {
            at,
            rule: after,
            name: to,
        }),
        path: name,
        ..Route::new(before, name)
    }
}

/// Two channels of one bot, about as busy as a slot a second allows, for two minutes.
fn two_minutes(routes: Vec<Route>, rate: f64, seed: &mut Seed) -> Setup {
    Setup::new(routes, 120, seed).stream(rate, 1, 2, seed)
}

/// What can happen.
pub const SURPRISES: &[Surprise] = &[
    Surprise {
        name: "API v6 and v7: waits in milliseconds",
        most: cost(2, seconds(60)),
        setup: |seed| {
            let old = |rule, name| Route {
                old_version: true,
                ..Route::new(rule, name)
            };
            let used_up = UsedUp {
                from: START,
                until: START + Duration::from_millis(seed.range(1_000, 5_000)),
                bare: seed.permille(500),
            };
            let met = Route {
                used_up: Some(used_up),
                ..old(Rule::fixed(5, 5_000), 3)
            };
            let routes = vec![
                old(Rule::sliding(5, 5_000), 1).serial(),
                old(Rule::fixed(10, 5_000), 2),
                met,
            ];
            two_minutes(routes, 6.0, seed)
        },
    },
    Surprise {
        name: "headers in whole seconds, rounded up",
        most: cost(2, seconds(120)),
        setup: |seed| {
            let whole = |rule, name| Route {
                whole_seconds: true,
                ..Route::new(rule, name)
            };
            let routes = vec![
                whole(Rule::sliding(5, 4_000), 1).serial(),
                whole(Rule::fixed(5, 3_000), 2),
            ];
            two_minutes(routes, 5.0, seed)
        },
    },
    Surprise {
        name: "a limit changes",
        // What was under way, and what the old limit lets go before the first answer.
        most: cost(6, seconds(600)),
        setup: |seed| {
            let (before, after) = (any_rule(seed), any_rule(seed));
            two_minutes(vec![changing(before, 1, 1, after)], 2.0, seed)
        },
    },
    Surprise {
        name: "a bucket gets another name",
        most: cost(0, seconds(120)),
        setup: |seed| {
            let rule = quick_rule(seed);
            two_minutes(vec![changing(rule, 1, 2, rule)], 1.0, seed)
        },
    },
    Surprise {
        name: "two buckets become one",
        // Until each route has told of its new bucket.
        most: cost(10, seconds(120)),
        setup: |seed| {
            let rule = quick_rule(seed);
            let routes = vec![changing(rule, 1, 3, rule), changing(rule, 2, 3, rule)];
            two_minutes(routes, 1.0, seed)
        },
    },
    Surprise {
        name: "a limit that lasts a day",
        // The first request in each channel.
        most: cost(2, seconds(5)),
        setup: |seed| used_up_for_a_day(false, seed),
    },
    Surprise {
        name: "a limit that lasts a day, of a bucket without a name",
        // Nothing says what else it holds for.
        most: cost(2, seconds(5)),
        setup: |seed| used_up_for_a_day(true, seed),
    },
    Surprise {
        name: "Cloudflare blocks, and longer whoever goes on",
        // What was under way, then a probe at each doubled pause.
        most: Cost {
            limited: 0,
            refused: u64::MAX,
            blocked: 20,
            wait: seconds(60),
        },
        setup: |seed| {
            let routes = vec![Route::new(Rule::sliding(5, 5_000), 1).serial()];
            let mut setup = Setup::new(routes, 600, seed).stream(20.0, 10, 10, seed);
            let lasts = seconds(seed.range(10, 300));
            setup.trouble.blocked = Some((THEN, THEN + lasts));
            setup.trouble.block_grows = seconds(seed.range(0, 60));
            setup
        },
    },
    Surprise {
        name: "a server that fails, without headers",
        most: cost(0, seconds(60)),
        setup: |seed| {
            let routes = vec![
                Route::new(Rule::sliding(5, 5_000), 1).serial(),
                Route::new(Rule::fixed(5, 5_000), 2),
            ];
            let mut setup = two_minutes(routes, 2.5, seed);
            setup.trouble.failing_permille = 50;
            setup
        },
    },
    Surprise {
        name: "answers are lost, most of them a bucket's first, which has one slot",
        most: cost(0, seconds(60)),
        setup: |seed| {
            let routes = vec![
                Route::new(Rule::fixed(1, 250), 1).serial(),
                Route::new(Rule::sliding(1, 500), 2),
                Route::new(Rule::fixed(1, 900), 3),
            ];
            let mut setup = Setup::new(routes, 120, seed).stream(30.0, 2, 40, seed);
            setup.network.loss_permille = 100;
            setup
        },
    },
    Surprise {
        name: "401s in passing, of a token that works",
        most: cost(0, seconds(60)),
        setup: |seed| {
            let routes = vec![Route::new(Rule::sliding(5, 5_000), 1).serial()];
            let mut setup = two_minutes(routes, 1.5, seed);
            setup.trouble.hiccup_permille = 20;
            setup
        },
    },
    Surprise {
        name: "headers that make no sense",
        most: cost(10, seconds(60)),
        setup: |seed| {
            let absurd = |rule, name| Route {
                absurd_permille: 50,
                ..Route::new(rule, name)
            };
            let routes = vec![
                absurd(Rule::sliding(5, 5_000), 1).serial(),
                absurd(Rule::fixed(5, 5_000), 2),
            ];
            two_minutes(routes, 2.5, seed)
        },
    },
    Surprise {
        name: "a Reset-After of a hundred years, beside a Reset that is right",
        most: cost(10, seconds(60)),
        setup: |seed| {
            let hundred_years = |rule, name| Route {
                hundred_years_permille: 50,
                ..Route::new(rule, name)
            };
            let routes = vec![
                hundred_years(Rule::sliding(5, 5_000), 1).serial(),
                hundred_years(Rule::fixed(5, 5_000), 2),
            ];
            two_minutes(routes, 2.5, seed)
        },
    },
    Surprise {
        name: "weir restarts under load, and remembers",
        // As long as without a restart, for one of the limits is asked for more than it gives.
        most: cost(0, seconds(80)),
        setup: |seed| restarted(true, seed),
    },
    Surprise {
        name: "interactions counted for their bot, as its token came along",
        // They are said to be exempt, and want as much as the bot has: what is beyond is refused.
        most: cost(1_500, seconds(60)),
        setup: |seed| {
            let needless = Route {
                token: Token::Interaction,
                needless_authorization: true,
                ..Route::new(Rule::sliding(5, 1_000), 2)
            };
            let routes = vec![Route::new(Rule::sliding(5, 1_000), 1), needless];
            Setup::new(routes, 30, seed).stream(55.0, 1, 100, seed)
        },
    },
];

/// More than the global limit of two bots over buckets of all kinds, most of them exhausted when weir
/// restarts in the middle; `kept`: with a state file.
pub(super) fn restarted(kept: bool, seed: &mut Seed) -> Setup {
    let routes = vec![
        Route::new(Rule::sliding(5, 5_000), 1).serial(),
        Route::new(Rule::fixed(5, 8_000), 2),
        Route::new(Rule::sliding(10, 4_000), 3),
        Route::new(Rule::Free, 4),
    ];
    let mut setup = Setup::new(routes, 90, seed).stream(90.0, 2, 15, seed);
    setup.restart = Some(Restart {
        at: START + Duration::from_millis(seed.range(40_000, 50_000)),
        down: Duration::from_millis(seed.range(20, 900)),
        kept,
    });
    setup
}

/// A bucket that is used up for a day, beside one that is not; `bare`: its 429s do not name it.
fn used_up_for_a_day(bare: bool, seed: &mut Seed) -> Setup {
    let used_up = UsedUp {
        from: START,
        until: START + A_DAY,
        bare,
    };
    let daily = Route {
        used_up: Some(used_up),
        ..Route::new(Rule::fixed(2, 86_400_000), 1)
    };
    let other = Route::new(Rule::sliding(50, 1_000), 2);
    impatient(two_minutes(vec![daily, other], 4.0, seed))
}

/// Everybody leaves after half a minute.
fn impatient(mut setup: Setup) -> Setup {
    for ask in &mut setup.asks {
        ask.2 = Some(seconds(30));
    }
    setup
}
