//! Mixed traffic: every behaviour there is, as a seed says.

use super::api::{Change, Request, Route, Rule, Token, Trouble};
use super::report::Report;
use super::run::{Limiter, run};
use super::scenario::{START, Setup};
use super::seed::Seed;
use super::world::Network;
use crate::clock::Instant;
use crate::limit::Settings;
use std::time::Duration;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every behaviour there is, some of it shared by name.
fn api(seed: &mut Seed) -> Vec<Route> {
    let sliding = |limit, period, name| Route::new(Rule::sliding(limit, period), name);
    let fixed = |limit, period, name| Route::new(Rule::fixed(limit, period), name);
    let alone = Route {
        alone: true,
        ..sliding(4, 2_000, 10)
    };
    let mut routes = vec![
        sliding(5, 5_000, 1).serial(),
        sliding(5, 5_000, 1).serial(),
        sliding(50, 1_000, 2),
        sliding(1, 250, 3),
        fixed(5, 1_000, 4).serial(),
        fixed(10, 2_000, 5),
        fixed(1, 500, 6),
        Route::new(Rule::Free, 0),
        Route {
            shared_permille: 20,
            ..sliding(3, 1_000, 7).serial()
        },
        Route {
            hidden_permille: 300,
            ..fixed(5, 5_000, 8).serial()
        },
        Route {
            token: Token::Interaction,
            ..sliding(5, 2_000, 9).serial()
        },
        Route {
            token: Token::Webhook,
            ..sliding(5, 2_000, 11).serial()
        },
        alone,
        alone,
        Route {
            unreliable: true,
            ..fixed(4, 3_000, 12).serial()
        },
        Route {
            unexplained_permille: 20,
            ..sliding(6, 3_000, 13).serial()
        },
    ];
    let at = Instant::from_millis(seed.range(5_000, 60_000));
    let changing = |route: Route, rule, name| Route {
        change: Some(Change { at, rule, name }),
        ..route
    };
    let old = Route {
        old_version: true,
        ..sliding(5, 4_000, 14).serial()
    };
    let absurd = Route {
        absurd_permille: 20,
        ..fixed(6, 3_000, 15)
    };
    let rule = Rule::sliding(5, 4_000);
    routes.extend([
        old,
        absurd,
        changing(fixed(8, 4_000, 16), Rule::fixed(4, 4_000), 16),
        changing(sliding(8, 4_000, 17).serial(), rule, 17),
        changing(sliding(5, 4_000, 18), rule, 19),
        // Two that become one.
        changing(sliding(5, 4_000, 20), rule, 22),
        changing(sliding(5, 4_000, 21), rule, 22),
    ]);
    // Now and then an API of more than a hundred routes.
    let more = *seed.pick(&[0, 2, 5, 5, 100]);
    for name in 100..100 + more {
        let (limit, period) = (seed.range(1, 20) as u16, seed.range(200, 8_000));
        let rule = if seed.permille(500) {
            Rule::sliding(limit, period)
        } else {
            Rule::fixed(limit, period)
        };
        let route = Route::new(rule, name);
        routes.push(if seed.permille(500) {
            route.serial()
        } else {
            route
        });
    }
    routes
}

pub(super) fn setup(number: u64, requests: u64, trouble: fn(&mut Seed) -> Trouble) -> Setup {
    let mut seed = Seed::new(number);
    let seed = &mut seed;
    let mut setup = Setup::new(api(seed), 30, seed);
    let delay_min = ms(seed.range(1, 60));
    setup.network = Network {
        delay_min,
        delay_max: delay_min + ms(seed.range(0, 60)),
        loss_permille: *seed.pick(&[0, 0, 5, 20]),
    };
    setup = setup.with_global(*seed.pick(&[50, 50, 20]));
    setup.settings = Settings {
        default_bucket: *seed.pick(&[1, 1, 1, 5]),
        allow_concurrent: seed.permille(250),
        ..setup.settings
    };
    setup.trouble = trouble(seed);
    setup.shards = seed.range(1, 4) as usize;
    // A few bots, or a fleet.
    let (bots, majors, pace_us) = match seed.below(10) {
        0 => (
            seed.range(100, 400),
            seed.range(1, 20),
            seed.range(500, 5_000),
        ),
        _ => (
            seed.range(1, 4),
            seed.range(1, 6),
            seed.range(5_000, 60_000),
        ),
    };
    let mut at = START;
    let mut breath = seed.range(200, 1_500) as usize;
    while (setup.asks.len() as u64) < requests {
        let request = Request {
            id: 0,
            bot: seed.below(bots),
            major: seed.below(majors),
            route: seed.below(setup.routes.len() as u64) as usize,
            touches_hidden: false,
            max_wait: None,
        };
        let hidden = setup.routes[request.route].hidden_permille;
        let burst = if seed.permille(50) {
            seed.range(2, 30)
        } else {
            1
        };
        for _ in 0..burst {
            let patience = seed.permille(200).then(|| seed.exponential(ms(2_000)));
            let touches_hidden = seed.permille(hidden);
            let request = Request {
                touches_hidden,
                ..request
            };
            setup.asks.push((at, request, patience));
        }
        at += seed.exponential(Duration::from_micros(pace_us));
        if setup.asks.len() >= breath {
            // Queues empty; sometimes the limiter forgets what nobody used for ten minutes.
            at += Duration::from_secs(*seed.pick(&[20, 60, 1_000]));
            breath += seed.range(200, 1_500) as usize;
        }
    }
    setup.horizon = at;
    setup
}

/// About `requests` requests in which every behaviour of Discord's occurs, and nothing goes wrong
/// but what always does: jitter, reordering, loss, clients that leave.
pub fn mixed(seed: u64, requests: u64) -> Report {
    let setup = setup(seed, requests, |_| Trouble::default());
    let (mut report, _) = run(&setup, Limiter::Weir);
    if setup.settings.allow_concurrent {
        // The setting lifts that order.
        report.reordered = 0;
    }
    report
}

/// As [`mixed`], with foreign use of the same tokens, clocks that are wrong, headers that come and
/// go, Cloudflare's blocks and tokens that die.
pub fn troubled(seed: u64, requests: u64) -> Report {
    let trouble = |seed: &mut Seed| Trouble {
        foreign_permille: *seed.pick(&[0, 5, 50]),
        step_permille: *seed.pick(&[0, 2]),
        skew_permille: *seed.pick(&[0, 20]),
        bare_permille: *seed.pick(&[0, 5]),
        blocked: seed
            .permille(300)
            .then_some((Instant::from_millis(9_000), Instant::from_millis(12_000))),
        dead_bots_every: 3,
        dead_from: Instant::from_millis(20_000),
        dead_webhooks_every: *seed.pick(&[0, 2]),
        forbidden_every: *seed.pick(&[0, 5]),
        global_by_clock: seed.permille(500),
        failing_permille: *seed.pick(&[0, 10]),
        hiccup_permille: *seed.pick(&[0, 2]),
        block_grows: ms(*seed.pick(&[0, 3_000])),
    };
    run(&setup(seed, requests, trouble), Limiter::Weir).0
}
