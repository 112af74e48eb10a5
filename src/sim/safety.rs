//! Scenarios with a verdict of their own: cold start, the ban of an address, a hidden limit.

use super::api::{Refusal, Route, Rule, Token};
use super::report::Report;
use super::run::{Limiter, run};
use super::scenario::{START, Setup};
use super::seed::Seed;
use std::time::Duration;

/// 20 requests at once, or within half a second, on routes that share a bucket nobody knows, in an
/// order by chance; `others`: while up to three other buckets are learned in between.
pub fn cold_start(seed: u64, others: bool, limiter: Limiter) -> Report {
    let mut seed = Seed::new(seed);
    let rule = Rule::sliding(seed.range(1, 5) as u16, 5_000);
    let route = |path| Route {
        path,
        ..Route::new(rule, 1).serial()
    };
    let mut routes: Vec<Route> = (0..20).map(route).collect();
    let others = if others { seed.range(1, 3) } else { 0 };
    routes.extend((0..others).map(|n| Route::new(Rule::sliding(10, 1_000), 100 + n)));
    let mut setup = Setup::new(routes, 60, &mut seed);
    let spread = Duration::from_millis(seed.below(500));
    let mut order: Vec<usize> = (0..setup.routes.len()).collect();
    for n in (1..order.len()).rev() {
        order.swap(n, seed.below(n as u64 + 1) as usize);
    }
    for route in order {
        let at = START + seed.duration(Duration::ZERO, spread);
        setup.ask(at, 1, 1, route);
    }
    run(&setup, limiter).0
}

/// 20 requests at once on one route and major parameter that nobody knows.
pub fn cold_start_of_one_route(seed: u64, limiter: Limiter) -> Report {
    let mut seed = Seed::new(seed);
    let limit = seed.range(1, 5) as u16;
    let rule = if seed.permille(500) {
        Rule::sliding(limit, 5_000)
    } else {
        Rule::fixed(limit, 5_000)
    };
    let route = Route::new(rule, 1);
    let route = if seed.permille(500) {
        route.serial()
    } else {
        route
    };
    let setup = Setup::new(vec![route], 60, &mut seed).burst(20, 1);
    run(&setup, limiter).0
}

/// What a fleet with dead members showed.
pub struct Safety {
    /// The run with its dead tokens, dead webhooks and missing permissions.
    pub report: Report,
    /// Of what is counted for the rest of the fleet when nothing is dead, the part that is counted.
    pub healthy: f64,
}

/// A fleet of `bots` for `seconds`: each 20th bot's token is dead, each 20th of its webhooks, and
/// in each 100th channel a bot may not do what it tries to.
pub fn ban_safety(bots: u64, seconds: u64, rate: f64, seed: u64, limiter: Limiter) -> Safety {
    let fleet = || {
        let mut seed = Seed::new(seed);
        let webhook = Route {
            token: Token::Webhook,
            ..Route::new(Rule::sliding(5, 2_000), 3).serial()
        };
        let routes = vec![
            Route::new(Rule::sliding(5, 5_000), 1).serial(),
            Route::new(Rule::fixed(10, 2_000), 2),
            webhook,
        ];
        Setup::new(routes, seconds, &mut seed).stream(rate, bots, 20, &mut seed)
    };
    let mut sick = fleet();
    sick.trouble.dead_bots_every = 20;
    sick.trouble.dead_webhooks_every = 20;
    sick.trouble.forbidden_every = 100;
    let mut well = fleet();
    well.asks.retain(|(at, request, _)| {
        let route = &well.routes[request.route];
        !sick.trouble.is_hopeless(*at, request, route)
    });
    let (report, counted) = run(&sick, limiter);
    let (_, possible) = run(&well, limiter);
    Safety {
        report,
        healthy: counted as f64 / possible.max(1) as f64,
    }
}

/// A channel is renamed until its hidden limit speaks, while its other edits go on. Of these, what
/// part of the model's pace is reached?
pub fn renamed_channel(seed: u64, limiter: Limiter) -> (f64, Report) {
    let mut seed = Seed::new(seed);
    let rule = Rule::fixed(5, 5_000);
    let mut setup = Setup::new(vec![Route::new(rule, 1).serial()], 60, &mut seed).burst(60, 1);
    // Four of the first nine, of which the model takes two.
    for n in [1, 3, 5, 8] {
        setup.asks[n].1.touches_hidden = true;
    }
    let (report, _) = run(&setup, limiter);
    let first = report.shown.accepted_first.unwrap_or(START);
    let taken = report.shown.accepted_last.saturating_duration_since(first);
    let asked = report.shown.accepted + report.shown.refused(Refusal::Hidden);
    let ideal = rule.shortest(asked);
    (ideal.as_secs_f64() / taken.as_secs_f64(), report)
}
