//! Runs of one setup against one limiter.

use super::api::{Route, Rule};
use super::clairvoyant;
use super::discord::Discord;
use super::ideal;
use super::reference::{Hikari, Nirn, Twilight};
use super::report::Report;
use super::scenario::{START, Scenario, Setup};
use super::seed::Seed;
use super::subject::Subject;
use super::weir::Weir;
use super::world::World;
use crate::clock::Instant;
use std::time::Duration;

/// By then everything has come to rest: locks of an hour included.
const END: Instant = Instant::from_millis(100_000_000);

/// A limiter of the comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limiter {
    /// Ours.
    Weir,
    /// Ours with `ALLOW_CONCURRENT_REQUESTS`: no order among what changes something.
    WeirConcurrent,
    /// nirn-proxy's.
    Nirn,
    /// twilight's.
    Twilight,
    /// hikari's.
    Hikari,
}

impl Limiter {
    /// All, ours first.
    pub const ALL: [Self; 5] = [
        Self::Weir,
        Self::WeirConcurrent,
        Self::Nirn,
        Self::Twilight,
        Self::Hikari,
    ];

    /// What the table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::WeirConcurrent => "weir, concurrent",
            Self::Nirn => "nirn",
            Self::Twilight => "twilight",
            Self::Hikari => "hikari",
        }
    }

    /// Whether it is a model of somebody else's.
    pub const fn is_reference(self) -> bool {
        matches!(self, Self::Nirn | Self::Twilight | Self::Hikari)
    }
}

/// Runs a setup to its end; the second number is what was counted by the horizon.
pub(super) fn run(setup: &Setup, limiter: Limiter) -> (Report, u64) {
    let mut seed = Seed::new(setup.chance);
    let discord = discord_of(setup, &mut seed);
    let mut settings = setup.settings.clone();
    settings.allow_concurrent |= limiter == Limiter::WeirConcurrent;
    let limit = setup.global_limit;
    match limiter {
        Limiter::Weir | Limiter::WeirConcurrent => {
            let weir = Weir::new(&settings, setup.shards, seed.next());
            run_subject(setup, discord, weir)
        }
        Limiter::Nirn => run_subject(setup, discord, Nirn::new(limit)),
        Limiter::Twilight => run_subject(setup, discord, Twilight::new(limit)),
        Limiter::Hikari => {
            let clock_ahead_ns = discord.clock_ahead_ns;
            run_subject(setup, discord, Hikari::new(clock_ahead_ns))
        }
    }
}

fn run_subject<S: Subject>(setup: &Setup, discord: Discord, subject: S) -> (Report, u64) {
    let mut world = World::of(setup, discord, subject);
    world.run(setup.horizon);
    let counted = world.discord.tally.accepted;
    world.run(END);
    world.close();
    (world.report, counted)
}

/// When the request of the last client of a setup goes with our limiter, and the wait that it is told
/// if it is refused at once.
pub(super) fn watch(setup: &Setup) -> (Option<Instant>, Option<Duration>) {
    let mut seed = Seed::new(setup.chance);
    let discord = discord_of(setup, &mut seed);
    let weir = Weir::new(&setup.settings, setup.shards, seed.next());
    let mut world = World::of(setup, discord, weir);
    let last = setup.asks.len() - 1;
    let asked = setup.asks[last].0;
    for end in [asked, asked + Duration::from_secs(60), END] {
        world.run(end);
        let (gone, told) = world.outcome(last as u64);
        if gone.is_some() || told.is_some() {
            return (gone, told);
        }
    }
    (None, None)
}

fn discord_of(setup: &Setup, seed: &mut Seed) -> Discord {
    let routes = setup.routes.clone();
    Discord::new(routes, setup.global_limit, setup.trouble, seed)
}

/// Runs a scenario with one seed. The numbers are what was counted within the scenario's time, and
/// what could have been.
pub fn compare(scenario: &Scenario, limiter: Limiter, seed: u64) -> (Report, u64, u64) {
    let setup = (scenario.setup)(&mut Seed::new(seed));
    let (report, counted) = run(&setup, limiter);
    (report, counted, ideal::countable(&setup, setup.horizon))
}

/// A kind of bucket that is used as fast as the model allows.
pub struct Kind {
    /// What it is.
    pub name: &'static str,
    /// The part of the model's pace to reach at least: what was reached, less the seeds' scatter, so
    /// that a change for the worse shows.
    pub least: f64,
    route: Route,
}

const fn kind(name: &'static str, rule: Rule, serial: bool, least: f64) -> Kind {
    let route = Route::new(rule, 1);
    let route = if serial { route.serial() } else { route };
    Kind { name, least, route }
}

/// The kinds of buckets of which goodput is shown.
pub const KINDS: &[Kind] = &[
    kind(
        "sliding 5 in 5 s, in order",
        Rule::sliding(5, 5_000),
        true,
        0.9999,
    ),
    kind("sliding 5 in 5 s", Rule::sliding(5, 5_000), false, 0.9999),
    kind("sliding 50 in 2 s", Rule::sliding(50, 2_000), false, 0.9998),
    kind("sliding 1 in 1 s", Rule::sliding(1, 1_000), false, 0.983),
    kind(
        "sliding 3 in 0.33 s, in order",
        Rule::sliding(3, 330),
        true,
        0.9999,
    ),
    kind("sliding 3 in 0.33 s", Rule::sliding(3, 330), false, 0.9998),
    kind(
        "fixed 5 in 5 s, in order",
        Rule::fixed(5, 5_000),
        true,
        0.9965,
    ),
    kind("fixed 30 in 10 s", Rule::fixed(30, 10_000), false, 0.9993),
    kind("fixed 1 in 5 s", Rule::fixed(1, 5_000), false, 0.995),
    kind("fixed 10 in 1 s", Rule::fixed(10, 1_000), false, 0.994),
    kind("fixed 3 in 0.33 s", Rule::fixed(3, 330), false, 0.974),
];

/// What a saturated bucket gave, as parts of what the model allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goodput {
    /// What we reached.
    pub ours: f64,
    /// What a sender reaches that is never early and knows all but the future.
    pub clairvoyant: f64,
}

/// Where the clairvoyant itself reaches less than this, it is the measure.
const WITHIN_REACH: f64 = 0.992;
/// The least part to reach, of what the model allows or of what can be had.
const TARGET: f64 = 0.99;
/// Nobody that is never early has more than the clairvoyant but for the run's two ends.
const NOISE: f64 = 1.005;

impl Goodput {
    /// The mean of several runs.
    pub fn mean(runs: &[Self]) -> Self {
        let of = |part: fn(&Self) -> f64| runs.iter().map(part).sum::<f64>() / runs.len() as f64;
        Self {
            ours: of(|run| run.ours),
            clairvoyant: of(|run| run.clairvoyant),
        }
    }

    /// Our part of the clairvoyant's.
    pub fn ratio(&self) -> f64 {
        self.ours / self.clairvoyant
    }

    /// 99 % of what the model allows; where that is out of reach, 99 % of what can be had.
    pub fn holds(&self) -> bool {
        let reached = self.ours >= TARGET;
        let out_of_reach = self.clairvoyant < WITHIN_REACH;
        (reached || out_of_reach && self.ratio() >= TARGET) && self.is_bounded()
    }

    /// Whether the clairvoyant is the bound that it must be.
    pub fn is_bounded(&self) -> bool {
        self.ratio() <= NOISE
    }
}

/// One bot wants as much of one bucket as five minutes allow; what part of the model's pace does it
/// reach, and what part could be had?
pub fn goodput(kind: &Kind, seed: u64) -> (Goodput, Report) {
    let mut seed = Seed::new(seed);
    let rule = kind.route.rule;
    let long = |&n: &u64| rule.shortest(n) > Duration::from_secs(300);
    let count = (1..4_000).find(long).unwrap_or(4_000);
    let setup = Setup::new(vec![kind.route], 300, &mut seed)
        .with_global(10_000)
        .burst(count, 1);
    let (report, _) = run(&setup, Limiter::Weir);
    let first = report.shown.accepted_first.unwrap_or(START);
    let taken = report.shown.accepted_last.saturating_duration_since(first);
    let ideal = rule.shortest(report.shown.accepted).as_secs_f64();
    let goodput = Goodput {
        ours: ideal / taken.as_secs_f64(),
        clairvoyant: ideal / clairvoyant::takes(&setup).as_secs_f64(),
    };
    (goodput, report)
}

/// The part of the global limit to reach at least.
pub const GLOBAL_LEAST: f64 = 0.9995;

/// One bot wants a minute of its global limit, in 200 channels; what part of it does it get?
pub fn global_goodput(by_clock: bool, seed: u64) -> (f64, Report) {
    let mut seed = Seed::new(seed);
    let routes = vec![Route::new(Rule::sliding(5, 1_000), 1)];
    let mut setup = Setup::new(routes, 60, &mut seed).burst(3_300, 200);
    setup.trouble.global_by_clock = by_clock;
    let (report, counted) = run(&setup, Limiter::Weir);
    (counted as f64 / (50.0 * 60.0), report)
}
