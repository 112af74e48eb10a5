//! The scenarios and what must hold in them.

use super::discord::{Discord, Refusal, Request, Route, Rule, Trouble};
use super::seed::Seed;
use super::world::{Network, World};
use crate::clock::Instant;
use crate::limit::{Census, Settings};
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs of the mixed scenario in `cargo test`.
const SEEDS: u64 = 150;

/// Runs of the scenario in which things go wrong.
const TROUBLED_SEEDS: u64 = 50;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn route(rule: Rule, name: u64) -> Route {
    Route {
        rule,
        name,
        alone: false,
        serial: false,
        shared_permille: 0,
        hidden_permille: 0,
        interaction: false,
    }
}

const fn sliding(limit: u16, period_ms: u64) -> Rule {
    Rule::Sliding {
        limit,
        period: ms(period_ms),
    }
}

const fn fixed(limit: u16, period_ms: u64) -> Rule {
    Rule::Fixed {
        limit,
        period: ms(period_ms),
    }
}

/// The routes of the mixed scenario: every behaviour there is, some of it shared by name.
fn api(seed: &mut Seed) -> Vec<Route> {
    let serial = |route: Route| Route {
        serial: true,
        ..route
    };
    let mut routes = vec![
        serial(route(sliding(5, 5_000), 1)),
        serial(route(sliding(5, 5_000), 1)),
        route(sliding(50, 1_000), 2),
        route(sliding(1, 250), 3),
        serial(route(fixed(5, 1_000), 4)),
        route(fixed(10, 2_000), 5),
        route(fixed(1, 500), 6),
        route(Rule::Free, 0),
        Route {
            shared_permille: 20,
            ..serial(route(sliding(3, 1_000), 7))
        },
        Route {
            hidden_permille: 300,
            ..serial(route(fixed(5, 5_000), 8))
        },
        Route {
            interaction: true,
            ..serial(route(sliding(5, 2_000), 9))
        },
        Route {
            alone: true,
            ..route(sliding(4, 2_000), 10)
        },
        Route {
            alone: true,
            ..route(sliding(4, 2_000), 10)
        },
    ];
    for name in 100..100 + seed.below(5) {
        let (limit, period) = (seed.range(1, 20) as u16, seed.range(200, 8_000));
        let rule = if seed.permille(500) {
            sliding(limit, period)
        } else {
            fixed(limit, period)
        };
        routes.push(Route {
            serial: seed.permille(500),
            ..route(rule, name)
        });
    }
    routes
}

/// Bots, channels and clients as a seed says, until everything has come to rest.
fn mixed(number: u64, trouble: fn(&mut Seed) -> Trouble) -> World {
    let mut seed = Seed::new(number);
    let routes = api(&mut seed);
    let count = routes.len() as u64;
    let delay_min = ms(seed.range(1, 60));
    let network = Network {
        delay_min,
        delay_max: delay_min + ms(seed.range(0, 60)),
        loss_permille: *seed.pick(&[0, 0, 5, 20]),
    };
    let global_limit = *seed.pick(&[50, 50, 20]) as usize;
    let settings = Settings {
        global_default: global_limit as u32,
        default_bucket: *seed.pick(&[1, 1, 1, 5]),
        allow_concurrent: seed.permille(250),
        ..Settings::default()
    };
    let mut discord = Discord::new(routes, global_limit, &mut seed);
    discord.trouble = trouble(&mut seed);
    let shards = seed.range(1, 4) as usize;
    let (bots, majors) = (seed.range(1, 4), seed.range(1, 6));
    let pace = ms(seed.range(5, 60));
    let mut world = World::new(Seed::new(seed.next()), discord, network, &settings, shards);
    let mut at = Instant::from_millis(1_000);
    while at < Instant::from_millis(31_000) {
        let request = Request {
            id: 0,
            bot: seed.below(bots),
            major: seed.below(majors),
            route: seed.below(count) as usize,
            touches_hidden: false,
        };
        let hidden = world.discord.routes[request.route].hidden_permille;
        let burst = if seed.permille(50) {
            seed.range(2, 30)
        } else {
            1
        };
        for _ in 0..burst {
            let patience = seed.permille(200).then(|| seed.exponential(ms(2_000)));
            let touches_hidden = seed.permille(hidden);
            world.client(
                at,
                Request {
                    touches_hidden,
                    ..request
                },
                patience,
            );
        }
        at += seed.exponential(pace);
    }
    world.run(Instant::from_millis(100_000_000));
    world
}

fn check_rest(world: &World) {
    let census = world.census();
    let report = &world.report;
    assert_eq!(
        census,
        Census {
            invalid: census.invalid,
            ..Census::default()
        },
        "nothing leaks"
    );
    if let Some((complaint, request)) = &world.discord.complaint {
        println!("{}", world.history(request.bot, request.major));
        panic!("an avoidable 429: {complaint}");
    }
    assert!(report.ok > 0 && report.refused == 0, "{report:?}");
}

/// Runs `scenario`; its failure names the seed.
fn named<T>(seed: u64, scenario: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(scenario)).unwrap_or_else(|panic| {
        println!("seed {seed}");
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn no_avoidable_429_no_leak_and_order_in_mixed_traffic() {
    let (mut sent, mut excused) = (0, BTreeMap::<Refusal, u64>::new());
    for number in 0..SEEDS {
        let world = named(number, || {
            let world = mixed(number, |_| Trouble::default());
            check_rest(&world);
            world
        });
        sent += world.report.sent;
        world
            .discord
            .refusals
            .iter()
            .for_each(|(&why, n)| *excused.entry(why).or_default() += n);
    }
    println!("{sent} requests over {SEEDS} seeds; 429s that nobody could avoid: {excused:?}");
    assert!(
        excused[&Refusal::FirstContact] * 200 < sent,
        "the excuse stays rare"
    );
}

#[test]
fn trouble_is_survived_and_nothing_leaks() {
    let mut refused = BTreeMap::<Refusal, u64>::new();
    let (mut sent, mut blocked, mut unauthorized) = (0, 0, 0);
    for number in 0..TROUBLED_SEEDS {
        let world = named(number, || {
            let world = mixed(number, |seed| Trouble {
                foreign_permille: *seed.pick(&[0, 5, 50]),
                clock_permille: *seed.pick(&[0, 2]),
                bare_permille: *seed.pick(&[0, 5]),
                blocked: seed
                    .permille(300)
                    .then_some((Instant::from_millis(9_000), Instant::from_millis(12_000))),
                dead_bot: Some((0, Instant::from_millis(20_000))),
                global_by_clock: seed.permille(500),
            });
            let census = world.census();
            assert_eq!(
                census,
                Census {
                    invalid: census.invalid,
                    ..Census::default()
                }
            );
            world
        });
        sent += world.report.sent;
        blocked += world.discord.blocked;
        unauthorized += world.discord.unauthorized;
        world
            .discord
            .refusals
            .iter()
            .for_each(|(&why, n)| *refused.entry(why).or_default() += n);
    }
    println!(
        "{sent} requests in trouble: {refused:?}, {blocked} blocked, {unauthorized} unauthorized"
    );
    // What was under way when it began, and a probe a lock or a block.
    assert!(blocked < 60 * TROUBLED_SEEDS && unauthorized < 60 * TROUBLED_SEEDS);
    let unexpected: u64 = [Refusal::Avoidable, Refusal::Global]
        .iter()
        .filter_map(|why| refused.get(why))
        .sum();
    assert!(unexpected * 50 < sent, "{unexpected} of {sent}");
}

/// One bot wants as much of one bucket as five minutes allow; what part of the model's pace does it
/// reach?
fn goodput(number: u64, rule: Rule, serial: bool) -> f64 {
    let mut seed = Seed::new(number);
    let network = Network {
        delay_min: ms(10),
        delay_max: ms(30),
        loss_permille: 0,
    };
    let route = Route {
        serial,
        ..route(rule, 1)
    };
    let discord = Discord::new(vec![route], 10_000, &mut seed);
    let settings = Settings {
        global_default: 10_000,
        ..Settings::default()
    };
    let count = (1..4_000)
        .find(|&n| discord.shortest(0, n) > ms(300_000))
        .unwrap_or(4_000);
    let ideal = discord.shortest(0, count);
    let mut world = World::new(Seed::new(seed.next()), discord, network, &settings, 2);
    let request = Request {
        id: 0,
        bot: 1,
        major: 1,
        route: 0,
        touches_hidden: false,
    };
    for _ in 0..count {
        world.client(Instant::from_millis(1_000), request, None);
    }
    world.run(Instant::from_millis(10_000_000));
    check_rest(&world);
    assert_eq!(world.discord.accepted, count);
    let taken = world
        .discord
        .accepted_last
        .saturating_duration_since(world.discord.accepted_first);
    ideal.as_secs_f64() / taken.as_secs_f64()
}

#[test]
fn what_buckets_allow_is_used() {
    let rules = [
        (sliding(5, 5_000), true, 0.99),
        (sliding(50, 2_000), false, 0.99),
        (sliding(1, 1_000), false, 0.97),
        (sliding(3, 330), false, 0.99),
        (sliding(3, 330), true, 0.99),
        (fixed(5, 5_000), true, 0.99),
        (fixed(1, 5_000), false, 0.99),
        (fixed(10, 1_000), false, 0.97),
        (fixed(3, 330), false, 0.92),
    ];
    for (rule, serial, least) in rules {
        let sum: f64 = (0..10).map(|number| goodput(number, rule, serial)).sum();
        println!("{rule:?}: {:.2} % of what the model allows", sum * 10.0);
        assert!(sum / 10.0 >= least, "{rule:?}: {sum}");
    }
}

#[test]
fn what_the_global_limit_allows_is_used() {
    let mut sum = 0.0;
    for number in 0..10 {
        let mut seed = Seed::new(number);
        let network = Network {
            delay_min: ms(10),
            delay_max: ms(30),
            loss_permille: 0,
        };
        let discord = Discord::new(vec![route(sliding(5, 1_000), 1)], 50, &mut seed);
        let mut world = World::new(seed, discord, network, &Settings::default(), 2);
        for n in 0..3_200 {
            let request = Request {
                id: 0,
                bot: 1,
                major: n % 200,
                route: 0,
                touches_hidden: false,
            };
            world.client(Instant::from_millis(1_000), request, None);
        }
        world.run(Instant::from_millis(61_000));
        assert_eq!(world.discord.refused(Refusal::Global), 0);
        assert_eq!(world.discord.refused(Refusal::Avoidable), 0);
        sum += world.discord.accepted as f64 / (50.0 * 60.0);
    }
    println!("global: {:.2} % of what the model allows", sum * 10.0);
    assert!(sum / 10.0 >= 0.97, "{sum}");
}

#[test]
fn routes_that_share_a_bucket_nobody_knows_cost_no_429_at_cold_start() {
    for number in 0..20 {
        named(number, || {
            let mut seed = Seed::new(number);
            let network = Network {
                delay_min: ms(10),
                delay_max: ms(30),
                loss_permille: 0,
            };
            let discord = Discord::new(vec![route(sliding(5, 5_000), 1); 20], 50, &mut seed);
            let mut world = World::new(seed, discord, network, &Settings::default(), 1);
            for route in 0..20 {
                let request = Request {
                    id: 0,
                    bot: 1,
                    major: 1,
                    route,
                    touches_hidden: false,
                };
                world.client(Instant::from_millis(1_000), request, None);
            }
            world.run(Instant::from_millis(10_000_000));
            assert_eq!((world.report.ok, world.discord.refusals.len()), (20, 0));
            check_rest(&world);
        });
    }
}
