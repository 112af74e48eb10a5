//! What must hold in every run.

use super::*;
use std::collections::BTreeMap;

/// Runs of mixed traffic in `cargo test`.
const SEEDS: u64 = 200;
/// Runs in which things go wrong.
const TROUBLED_SEEDS: u64 = 60;
const REQUESTS: u64 = 800;
/// Runs of each surprise.
const SURPRISE_SEEDS: u64 = 20;
/// Runs of each kind of wait.
const TRUTH_SEEDS: u64 = 100;

fn assert_at_rest(seed: u64, report: &Report) {
    assert_eq!(report.leaks, 0, "seed {seed}: nothing leaks");
    assert_eq!(report.starved, 0, "seed {seed}: nobody starves");
    assert_eq!(
        report.unbounded, 0,
        "seed {seed}: no more buckets than routes"
    );
}

fn assert_clean(seed: u64, report: &Report) {
    if report.shown.avoidable() > 0 {
        println!("{}", report.history);
        panic!("seed {seed}: an avoidable 429: {}", report.complaint);
    }
    assert_at_rest(seed, report);
    assert_eq!(report.overtaken, 0, "seed {seed}: first come, first served");
    assert_eq!(
        report.reordered, 0,
        "seed {seed}: what changes something, too"
    );
    assert_eq!(report.refused, 0, "seed {seed}: nobody is refused");
    assert!(report.ok > 0, "seed {seed}");
}

#[test]
fn no_avoidable_429_no_leak_and_order_in_mixed_traffic() {
    let mut all = Report::default();
    for seed in 0..SEEDS {
        let report = mixed(seed, REQUESTS);
        assert_clean(seed, &report);
        all.add(&report);
    }
    let excused: &BTreeMap<Refusal, u64> = &all.shown.refusals;
    println!(
        "{} requests over {SEEDS} seeds; 429s that nobody could avoid: {excused:?}",
        all.sent
    );
    assert!(
        excused[&Refusal::FirstContact] * 200 < all.sent,
        "the excuse stays rare"
    );
}

#[test]
fn trouble_is_survived_and_nothing_leaks() {
    let mut all = Report::default();
    for seed in 0..TROUBLED_SEEDS {
        let report = troubled(seed, REQUESTS);
        assert_at_rest(seed, &report);
        all.add(&report);
    }
    let shown = &all.shown;
    println!("{} requests in trouble: {shown:?}", all.sent);
    // What was under way when it began, and a probe a lock or a block.
    assert!(shown.blocked < 60 * TROUBLED_SEEDS && shown.unauthorized < 200 * TROUBLED_SEEDS);
    assert!(
        shown.avoidable() * 50 < all.sent,
        "{} of {}",
        shown.avoidable(),
        all.sent
    );
}

#[test]
fn what_buckets_allow_is_used() {
    for kind in KINDS {
        let run = |seed| {
            let (goodput, report) = goodput(kind, seed);
            assert_clean(seed, &report);
            goodput
        };
        let runs: Vec<_> = (0..10).map(run).collect();
        let mean = Goodput::mean(&runs);
        println!("{}: {mean:?}, ratio {:.4}", kind.name, mean.ratio());
        assert!(mean.holds(), "{}: {mean:?}", kind.name);
        assert!(mean.ours >= kind.least, "{}: {mean:?}", kind.name);
        // Not even the luckiest run beats who knows all but the future.
        assert!(runs.iter().all(Goodput::is_bounded), "{}", kind.name);
    }
}

#[test]
fn what_the_global_limit_allows_is_used() {
    for by_clock in [false, true] {
        let mut sum = 0.0;
        for seed in 0..5 {
            let (part, report) = global_goodput(by_clock, seed);
            assert_clean(seed, &report);
            sum += part;
        }
        println!("global: {:.2} % of what the model allows", sum * 20.0);
        assert!(sum / 5.0 >= GLOBAL_LEAST, "{sum}");
    }
}

#[test]
fn what_discord_changes_without_a_word_costs_no_more_than_it_must() {
    let mut failed = Vec::new();
    for surprise in SURPRISES {
        let mut all = Report::default();
        for seed in 0..SURPRISE_SEEDS {
            let report = surprise.run(seed);
            let complaint = surprise.complaint(&report);
            failed.extend(complaint.map(|it| format!("{}, seed {seed}: {it}", surprise.name)));
            all.add(&report);
        }
        println!(
            "{}: {} sent, {:?}, refused {}, wait {:?} {:?}",
            surprise.name,
            all.sent,
            all.shown,
            all.refused,
            all.wait(99),
            all.wait(100)
        );
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_restart_costs_429s_only_if_nothing_is_remembered() {
    let (mut kept, mut forgotten) = (0, 0);
    for seed in 0..SURPRISE_SEEDS {
        let shown = |kept| {
            let setup = surprise::restarted(kept, &mut seed::Seed::new(seed));
            let report = run::run(&setup, Limiter::Weir).0;
            assert_at_rest(seed, &report);
            report.shown.limited()
        };
        kept += shown(true);
        forgotten += shown(false);
    }
    println!("429s over {SURPRISE_SEEDS} restarts: {kept} remembered, {forgotten} forgotten");
    assert_eq!(kept, 0);
    assert!(forgotten >= SURPRISE_SEEDS, "the test can fail");
}

#[test]
fn a_refusal_tells_when_its_patient_twin_goes() {
    for wait in WAITS.iter().filter(|wait| wait.least > 0) {
        let runs = (0..TRUTH_SEEDS).filter_map(|seed| Some((truth(wait, seed)?, seed)));
        let runs: Vec<_> = runs.collect();
        let wrong: Vec<_> = runs.iter().filter(|(told, _)| !told.is_true()).collect();
        let (of, name) = (runs.len(), wait.name);
        println!("{name}: {} of {of} wrong, {wrong:?}", wrong.len());
        assert!(of as u64 * 2 > TRUTH_SEEDS, "{name}: {of} refused");
        assert!(wait.allows(wrong.len(), of), "{name}: {wrong:?}");
    }
}

#[test]
fn routes_that_share_a_bucket_nobody_knows_cost_at_most_one_429_at_cold_start() {
    for seed in 0..200 {
        let report = cold_start(seed, false, Limiter::Weir);
        assert_at_rest(seed, &report);
        assert!(
            report.ok >= 20 && report.shown.limited() <= 1,
            "seed {seed}: {:?}",
            report.shown
        );
    }
}

#[test]
fn a_route_nobody_knows_costs_no_429_at_cold_start() {
    for seed in 0..50 {
        let report = cold_start_of_one_route(seed, Limiter::Weir);
        assert_clean(seed, &report);
        assert_eq!((report.ok, report.shown.limited()), (20, 0), "seed {seed}");
    }
}

#[test]
fn a_fleet_with_dead_members_stays_far_from_a_ban() {
    let safety = ban_safety(40, 660, 25.0, 1, Limiter::Weir);
    let shown = &safety.report.shown;
    println!("healthy {:.2} %, {shown:?}", safety.healthy * 100.0);
    assert!(shown.invalid_max < 400, "{}", shown.invalid_max);
    assert!(safety.healthy >= 0.95, "{}", safety.healthy);
    assert_at_rest(1, &safety.report);
}

#[test]
fn a_renamed_channel_s_hidden_limit_leaves_its_other_edits_unhindered() {
    for seed in 0..20 {
        let (part, report) = renamed_channel(seed, Limiter::Weir);
        assert_clean(seed, &report);
        assert_eq!(report.shown.refused(Refusal::Hidden), 2);
        assert!(part >= 0.98, "seed {seed}: {part}");
    }
}

#[test]
fn no_reference_waits_less_at_the_99th_percent_unless_it_draws_429s_or_reorders() {
    for scenario in SCENARIOS.iter().filter(|s| !s.name.starts_with("200 bots")) {
        let shows = |limiter| {
            let mut all = Report::default();
            (0..2).for_each(|seed| all.add(&compare(scenario, limiter, seed).0));
            all
        };
        let ours = shows(Limiter::Weir);
        assert_clean(0, &ours);
        for limiter in [Limiter::Nirn, Limiter::Twilight, Limiter::Hikari] {
            let theirs = shows(limiter);
            let comparison = ours.against(&theirs);
            println!(
                "{}: {comparison:?}, {:?} and {:?} of {}",
                scenario.name,
                ours.wait(99),
                theirs.wait(99),
                limiter.name()
            );
            let worse = comparison == Comparison::Worse;
            assert!(
                !worse || scenario.is_exception(limiter),
                "{}",
                scenario.name
            );
        }
    }
}
