//! Where requests of routes go whose bucket nobody has named yet.

use super::*;

fn declared(width: u16) -> Local {
    let settings = Settings {
        default_buckets: [(5, width)].into(),
        ..Settings::default()
    };
    Limiter::new(&settings, 2)
}

fn going(limiter: &Local, now: u64, route: u64, asks: u32, out: &mut Outputs) -> Vec<Permit> {
    (0..asks)
        .filter_map(|slot| {
            match limiter.acquire(ms(now), &ask(100 * route as u32 + slot, route), out) {
                Decision::Go(permit) => Some(permit),
                Decision::Wait => None,
                Decision::Refuse(refusal) => panic!("{refusal:?}"),
            }
        })
        .collect()
}

#[test]
fn a_declared_route_begins_with_its_width_and_beside_the_lane() {
    let (limiter, mut out) = (declared(5), Outputs::new());
    let lane = going(&limiter, 1000, 1, 3, &mut out);
    assert_eq!(lane.len(), 1, "undeclared routes go one at a time");
    let wide = going(&limiter, 1000, 5, 8, &mut out);
    assert_eq!(wide.len(), 5);
    // What is under way stays in the bucket that the first answer names, and counts there.
    let mut wide = wide.into_iter();
    let first = wide.next().unwrap();
    limiter.report(ms(1040), first, &answer(7, 6, 5006.0, 5.0), &mut out);
    assert_eq!(goes(&mut out).len(), 2, "seven less five");
    for (left, permit) in (2..6).rev().zip(wide) {
        limiter.report(ms(1041), permit, &answer(7, left, 5006.0, 5.0), &mut out);
    }
    assert!(goes(&mut out).is_empty());
    assert_eq!(limiter.census(ms(1041)).waiting_for_bucket, 2 + 1);
}

#[test]
fn a_declared_width_holds_in_the_next_channel_too_and_ends_with_the_first_answer() {
    let (limiter, mut out) = (declared(4), Outputs::new());
    for major in [1, 2] {
        let mut permits = Vec::new();
        for slot in 0..6 {
            let mut ask = ask(10 * major + slot, 5);
            ask.key.major = u64::from(major);
            if let Decision::Go(permit) = limiter.acquire(ms(1000), &ask, &mut out) {
                permits.push(permit);
            }
        }
        assert_eq!(permits.len(), 4, "{major}");
        for permit in permits {
            let mut alone = answer(1, 0, 5030.0, 29.0);
            alone.header(b"X-RateLimit-Bucket", b"one");
            limiter.report(ms(1040), permit, &alone, &mut out);
        }
        assert!(goes(&mut out).is_empty(), "its limit is one");
    }
}

/// Cold: each of `routes` is asked for, and answered from one of two buckets, in turn.
fn refusals_of_two_shared_buckets(limits: [u32; 2]) -> [u32; 2] {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let (mut used, mut refused) = ([0; 2], [0; 2]);
    for route in 0..12_usize {
        let decision = limiter.acquire(ms(1000), &ask(route as u32, 100 + route as u64), &mut out);
        let Decision::Go(permit) = decision else {
            break;
        };
        let bucket = route % 2;
        let mut answered = if used[bucket] < limits[bucket] {
            used[bucket] += 1;
            answer(
                limits[bucket],
                limits[bucket] - used[bucket],
                61_000.0,
                60.0,
            )
        } else {
            refused[bucket] += 1;
            let mut limited = answer(limits[bucket], 0, 61_000.0, 60.0);
            limited.status = 429;
            limited.error_body(br#"{"retry_after": 60.0}"#);
            limited
        };
        answered.header(b"X-RateLimit-Bucket", [b"even", b"odd."][bucket]);
        limiter.report(ms(1000), permit, &answered, &mut out);
    }
    refused
}

#[test]
fn that_a_bucket_is_shared_is_learned_by_one_429_however_many_buckets_there_are() {
    assert_eq!(
        refusals_of_two_shared_buckets([1, 1]),
        [1, 0],
        "one bucket stops the lane"
    );
    assert_eq!(refusals_of_two_shared_buckets([1, 6]), [1, 0]);
    assert_eq!(
        refusals_of_two_shared_buckets([2, 6]),
        [0, 0],
        "two routes showed it without"
    );
    assert_eq!(refusals_of_two_shared_buckets([6, 6]), [0, 0]);
}

#[test]
fn a_lost_request_of_an_unknown_route_counts_in_every_bucket_it_may_have_fallen_into() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), first, &answer(2, 1, 6_000.0, 5.0), &mut out);
    let unknown = go(limiter.acquire(ms(1100), &ask(2, 9), &mut out));
    limiter.no_answer(ms(1140), unknown, true, &mut out);
    let known = limiter.acquire(ms(1150), &ask(3, 1), &mut out);
    assert!(matches!(known, Decision::Wait), "its slot may be gone");
}

#[test]
fn a_slot_that_went_while_its_request_stood_in_line_is_not_used() {
    let settings = Settings {
        global_default: 2,
        ..Settings::default()
    };
    for (told, at_once) in [(1, 1), (3, 3)] {
        let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
        let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
        limiter.report(ms(1040), first, &answer(4, 3, 5_100.0, 100.0), &mut out);
        let second = go(limiter.acquire(ms(1050), &ask(2, 1), &mut out));
        // Two slots of the bucket are left for those who stand in line for the global window.
        for slot in 3..5 {
            let decision = limiter.acquire(ms(1060), &ask(slot, 1), &mut out);
            assert!(matches!(decision, Decision::Wait));
        }
        assert_eq!(limiter.census(ms(1060)).waiting_for_global, 2);
        // Others used the bucket meanwhile, or nobody did.
        limiter.report(ms(1090), second, &answer(4, told, 5_100.0, 99.9), &mut out);
        limiter.set_global_limit(ms(1100), 1, 50, &mut out);
        let gone: Vec<u32> = goes(&mut out).iter().map(|(slot, _)| *slot).collect();
        assert_eq!(gone, [3, 4][..at_once.min(2)], "in order");
        let census = limiter.census(ms(1100));
        assert_eq!(census.waiting_for_bucket, 2 - gone.len());
        assert_eq!(census.waiting_for_global, 0);
    }
}
