//! Requests whose bucket turns out otherwise while they stand in line or are under way.

use super::*;

fn of_global(global_default: u32, default_bucket: u16) -> (Local, Outputs) {
    let settings = Settings {
        global_default,
        default_bucket,
        ..Settings::default()
    };
    (Limiter::new(&settings, 1), Outputs::new())
}

fn named(mut answer: Answer, name: &[u8]) -> Answer {
    answer.header(b"X-RateLimit-Bucket", name);
    answer
}

fn waits(decision: Decision) {
    match decision {
        Decision::Wait => {}
        other => panic!("{other:?}"),
    }
}

fn slots(out: &mut Outputs) -> Vec<u32> {
    goes(out).iter().map(|(slot, _)| *slot).collect()
}

fn serial(slot: u32) -> Ask {
    Ask {
        serial: true,
        ..ask(slot, 1)
    }
}

#[test]
fn those_who_come_back_from_the_line_stand_where_they_stood_and_hold_nothing() {
    let (limiter, mut out) = of_global(2, 1);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), first, &answer(4, 3, 5_100.0, 100.0), &mut out);
    let second = go(limiter.acquire(ms(1050), &ask(2, 1), &mut out));
    // Two in line for the global window, one behind them in the bucket.
    waits(limiter.acquire(ms(1060), &ask(3, 1), &mut out));
    waits(limiter.acquire(ms(1061), &serial(4), &mut out));
    waits(limiter.acquire(ms(1062), &serial(5), &mut out));
    assert_eq!(limiter.census(ms(1062)).waiting_for_global, 2);
    limiter.report(ms(1090), second, &answer(4, 0, 5_100.0, 99.9), &mut out);
    limiter.set_global_limit(ms(1100), 1, 4, &mut out);
    assert!(slots(&mut out).is_empty());
    let census = limiter.census(ms(1100));
    assert_eq!((census.waiting_for_bucket, census.under_way), (3, 0));
    // Their slots of the window are others' now.
    for major in [50, 51] {
        let mut other = ask(major, 1);
        other.key.major = u64::from(major);
        let other = go(limiter.acquire(ms(1110), &other, &mut out));
        limiter.no_answer(ms(1120), other, false, &mut out);
    }
    limiter.tick(ms(102_000), 0, &mut out);
    let gone = goes(&mut out);
    let order: Vec<u32> = gone.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(order, [3, 4]);
    for (_, permit) in gone {
        limiter.no_answer(ms(102_010), permit, false, &mut out);
    }
    assert_eq!(slots(&mut out), [5]);
}

#[test]
fn a_request_in_line_whose_route_moved_waits_in_its_new_bucket() {
    let (limiter, mut out) = of_global(2, 3);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    let second = go(limiter.acquire(ms(1000), &ask(2, 1), &mut out));
    waits(limiter.acquire(ms(1000), &ask(3, 1), &mut out));
    let empty = answer(2, 0, 5_100.0, 100.0);
    limiter.report(ms(1040), first, &empty, &mut out);
    limiter.report(ms(1045), second, &empty, &mut out);
    limiter.set_global_limit(ms(1050), 1, 50, &mut out);
    assert!(slots(&mut out).is_empty());
    let census = limiter.census(ms(1050));
    assert_eq!((census.waiting_for_bucket, census.under_way), (1, 0));
    limiter.tick(ms(102_000), 0, &mut out);
    assert_eq!(slots(&mut out), [3]);
}

/// Two routes of one bucket, `abc`, with `limit` slots, all free again at 20 s.
fn shared(global: u32, limit: u32) -> (Local, Outputs) {
    let (limiter, mut out) = of_global(global, 1);
    for route in [1, 2] {
        let permit = go(limiter.acquire(ms(1000), &ask(route, u64::from(route)), &mut out));
        let counted = answer(limit, limit - route, 5_006.0, 5.0);
        limiter.report(ms(1040), permit, &counted, &mut out);
    }
    (limiter, out)
}

#[test]
fn an_unknown_route_goes_when_a_slot_of_the_shared_bucket_is_given_back() {
    let (limiter, mut out) = shared(50, 2);
    let one = go(limiter.acquire(ms(20_000), &ask(3, 1), &mut out));
    let _other = go(limiter.acquire(ms(20_000), &ask(4, 2), &mut out));
    waits(limiter.acquire(ms(20_000), &ask(5, 9), &mut out));
    limiter.no_answer(ms(20_010), one, false, &mut out);
    assert_eq!(slots(&mut out), [5]);
}

#[test]
fn a_slot_that_an_unknown_route_did_not_need_goes_to_who_waits_for_it() {
    let (limiter, mut out) = shared(50, 3);
    let unknown = go(limiter.acquire(ms(1100), &ask(5, 9), &mut out));
    waits(limiter.acquire(ms(1100), &ask(3, 1), &mut out));
    let elsewhere = named(answer(5, 4, 5_006.1, 5.0), b"elsewhere");
    limiter.report(ms(1140), unknown, &elsewhere, &mut out);
    assert_eq!(slots(&mut out), [3]);
}

#[test]
fn an_unknown_route_in_line_is_not_sent_into_a_shared_bucket_that_filled_up() {
    let (limiter, mut out) = shared(3, 4);
    let known = go(limiter.acquire(ms(1100), &ask(3, 1), &mut out));
    waits(limiter.acquire(ms(1100), &ask(5, 9), &mut out));
    assert_eq!(limiter.census(ms(1100)).waiting_for_global, 1);
    limiter.report(ms(1140), known, &answer(4, 0, 5_006.0, 4.9), &mut out);
    limiter.set_global_limit(ms(1150), 1, 50, &mut out);
    assert!(slots(&mut out).is_empty());
    assert_eq!(limiter.census(ms(1150)).waiting_for_bucket, 1);
    limiter.tick(ms(7_000), 0, &mut out);
    assert_eq!(slots(&mut out), [5]);
}

#[test]
fn a_route_that_moved_waits_for_what_unknown_routes_hold_where_it_was_and_no_longer() {
    let (limiter, mut out) = of_global(50, 1);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), first, &answer(5, 4, 5_006.0, 5.0), &mut out);
    let one = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
    let other = go(limiter.acquire(ms(1100), &ask(3, 1), &mut out));
    let unknown = go(limiter.acquire(ms(1100), &ask(4, 9), &mut out));
    let renamed = |left| named(answer(5, left, 5_006.1, 5.0), b"renamed");
    limiter.report(ms(1140), one, &renamed(4), &mut out);
    waits(limiter.acquire(ms(1141), &ask(5, 1), &mut out));
    limiter.report(ms(1142), other, &renamed(3), &mut out);
    assert!(slots(&mut out).is_empty());
    limiter.no_answer(ms(1150), unknown, false, &mut out);
    assert_eq!(slots(&mut out), [5]);
}

#[test]
fn a_lost_request_counts_once_where_its_route_points_by_now() {
    let (limiter, mut out) = taught();
    let lost = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
    limiter.no_answer(ms(1140), lost, true, &mut out);
    let _permits = [3, 4, 5].map(|slot| go(limiter.acquire(ms(1150), &ask(slot, 1), &mut out)));
    waits(limiter.acquire(ms(1150), &ask(6, 1), &mut out));
    // From the lane of unknown routes, which has nothing to count.
    let (limiter, mut out) = of_global(50, 2);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    let lost = go(limiter.acquire(ms(1000), &ask(2, 1), &mut out));
    limiter.report(ms(1040), first, &answer(3, 2, 5_006.0, 5.0), &mut out);
    limiter.no_answer(ms(1050), lost, true, &mut out);
    let _permit = go(limiter.acquire(ms(1060), &ask(3, 1), &mut out));
    waits(limiter.acquire(ms(1060), &ask(4, 1), &mut out));
}

#[test]
fn a_declared_route_does_not_wait_for_what_unknown_routes_have_under_way() {
    let settings = Settings {
        default_bucket: 2,
        default_buckets: [(5, 1)].into(),
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let _one = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    let _other = go(limiter.acquire(ms(1000), &ask(2, 2), &mut out));
    waits(limiter.acquire(ms(1000), &ask(3, 3), &mut out));
    let _declared = go(limiter.acquire(ms(1000), &ask(4, 5), &mut out));
}

#[test]
fn a_named_route_is_free_after_many_answers_without_headers_in_a_row() {
    let (limiter, mut out) = taught();
    let there = |slot| {
        let mut there = ask(slot, 1);
        there.key.major = 77;
        there
    };
    for n in 0..9 {
        let permit = go(limiter.acquire(ms(1100 + n), &there(2), &mut out));
        limiter.report(ms(1101 + n), permit, &plain(200), &mut out);
    }
    let _free = [3, 4, 5].map(|slot| go(limiter.acquire(ms(1200), &there(slot), &mut out)));
}

#[test]
fn a_route_that_was_free_in_one_channel_is_free_after_one_answer_in_the_next() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    for n in 0..2 {
        let unnamed = go(limiter.acquire(ms(1000 + n), &ask(1, 1), &mut out));
        limiter.report(ms(1040 + n), unnamed, &plain(200), &mut out);
    }
    let there = |slot| {
        let mut there = ask(slot, 1);
        there.key.major = 77;
        there
    };
    let first = go(limiter.acquire(ms(1100), &there(2), &mut out));
    waits(limiter.acquire(ms(1100), &there(3), &mut out));
    limiter.report(ms(1140), first, &plain(200), &mut out);
    assert_eq!(slots(&mut out), [3]);
    let _free = [4, 5].map(|slot| go(limiter.acquire(ms(1150), &there(slot), &mut out)));
}

#[test]
fn what_was_counted_twice_from_one_route_is_not_shared() {
    let (limiter, mut out) = of_global(50, 2);
    let two = [1, 2].map(|slot| go(limiter.acquire(ms(1000), &ask(slot, 1), &mut out)));
    for (left, permit) in [1, 0].into_iter().zip(two) {
        limiter.report(ms(1040), permit, &answer(2, left, 5_006.0, 5.0), &mut out);
    }
    let _unknown = go(limiter.acquire(ms(1050), &ask(3, 9), &mut out));
}

#[test]
fn two_answers_without_headers_free_a_route_when_both_were_under_way_unknown() {
    let (limiter, mut out) = of_global(50, 2);
    let two = [1, 2].map(|slot| go(limiter.acquire(ms(1000), &ask(slot, 1), &mut out)));
    for permit in two {
        limiter.report(ms(1040), permit, &plain(200), &mut out);
    }
    let _free = [3, 4, 5].map(|slot| go(limiter.acquire(ms(1050), &ask(slot, 1), &mut out)));
}

#[test]
fn late_answers_to_a_route_that_counts_alone_teach_its_own_bucket() {
    let (limiter, mut out) = shared(50, 9);
    let of = |slot, route, out: &mut Outputs| go(limiter.acquire(ms(1100), &ask(slot, route), out));
    let (other, one, two) = (of(3, 1, &mut out), of(4, 2, &mut out), of(5, 2, &mut out));
    let last = of(13, 1, &mut out);
    limiter.report(ms(1140), other, &answer(9, 6, 5_006.0, 4.9), &mut out);
    let next = go(limiter.acquire(ms(1150), &ask(6, 2), &mut out));
    // In a shared counter it would have fallen.
    limiter.report(ms(1190), next, &answer(9, 7, 5_006.0, 4.83), &mut out);
    limiter.report(ms(1190), last, &answer(9, 1, 5_006.0, 4.88), &mut out);
    limiter.report(ms(1191), one, &answer(9, 6, 5_006.0, 4.88), &mut out);
    limiter.report(ms(1192), two, &answer(9, 5, 5_006.0, 4.88), &mut out);
    let _left = [7, 8, 9, 10, 11].map(|slot| of(slot, 2, &mut out));
    waits(limiter.acquire(ms(1200), &ask(12, 2), &mut out));
}

#[test]
fn a_request_lost_before_the_first_answer_counts_after_it() {
    let settings = Settings {
        default_buckets: [(5, 2)].into(),
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let [lost, first] = [1, 2].map(|slot| go(limiter.acquire(ms(1000), &ask(slot, 5), &mut out)));
    limiter.no_answer(ms(1030), lost, true, &mut out);
    limiter.report(ms(1040), first, &answer(5, 2, 5_006.0, 5.0), &mut out);
    // Nothing was known of the window when it was lost.
    waits(limiter.acquire(ms(1050), &ask(3, 5), &mut out));
    waits(limiter.acquire(ms(1050), &ask(4, 5), &mut out));
    limiter.tick(ms(2029), 0, &mut out);
    assert!(slots(&mut out).is_empty());
    limiter.tick(ms(2031), 0, &mut out);
    assert_eq!(slots(&mut out), [3]);
}

#[test]
fn a_global_429_to_an_interaction_pauses_its_bucket() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let interaction = |slot| Ask {
        client: ClientClass::Interaction,
        counts_globally: false,
        ..ask(slot, 7)
    };
    let permit = go(limiter.acquire(ms(1000), &interaction(1), &mut out));
    limiter.report(ms(1040), permit, &answer(9, 8, 5_006.0, 5.0), &mut out);
    let permit = go(limiter.acquire(ms(1100), &interaction(2), &mut out));
    let mut limited = named(plain(429), b"abc");
    limited.error_body(br#"{"retry_after": 0.8, "global": true}"#);
    limiter.report(ms(1140), permit, &limited, &mut out);
    waits(limiter.acquire(ms(1150), &interaction(3), &mut out));
    (0..2).for_each(|shard| limiter.tick(ms(1939), shard, &mut out));
    assert!(slots(&mut out).is_empty());
    (0..2).for_each(|shard| limiter.tick(ms(1941), shard, &mut out));
    assert_eq!(slots(&mut out), [3]);
}

#[test]
fn a_429_of_others_making_may_have_been_counted_and_pauses_for_seconds_at_most() {
    for (body, after_s) in [
        (&br#"{"retry_after": 0.5, "global": true}"#[..], 1),
        (br#"{"retry_after": 3600, "code": 20028}"#, 11),
    ] {
        let (limiter, mut out) = (limiter(), Outputs::new());
        let permit = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
        limiter.report(ms(1040), permit, &answer(5, 4, 5_100.0, 99.0), &mut out);
        let permit = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
        let mut limited = named(plain(429), b"abc");
        limited.error_body(body);
        limiter.report(ms(1140), permit, &limited, &mut out);
        let later = ms(1200 + 1000 * after_s);
        let _left = [3, 4, 5].map(|slot| go(limiter.acquire(later, &ask(slot, 1), &mut out)));
        waits(limiter.acquire(later, &ask(6, 1), &mut out));
    }
}

#[test]
fn an_absorbed_429_keeps_its_place_in_the_line_for_the_global_window() {
    for asked in [1000, 1010] {
        let (limiter, mut out) = of_global(1, 1);
        let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
        let mut other = ask(2, 1);
        other.key.major = 2;
        waits(limiter.acquire(ms(asked), &other, &mut out));
        let mut limited = answer(5, 0, 5_001.3, 0.3);
        limited.status = 429;
        limited.error_body(br#"{"retry_after": 0}"#);
        limiter.requeue(ms(1040), first, &limited, &ask(1, 1), &mut out);
        assert!(slots(&mut out).is_empty());
        // Its bucket lets it go first, the window later.
        limiter.tick(ms(1_500), 0, &mut out);
        limiter.tick(ms(3_000), 0, &mut out);
        assert_eq!(slots(&mut out), [1], "{asked}");
    }
}

#[test]
fn a_route_that_moved_twice_waits_for_what_is_under_way_from_its_first_place() {
    let (limiter, mut out) = of_global(50, 3);
    let permits = [1, 2, 3].map(|slot| go(limiter.acquire(ms(1000), &ask(slot, 1), &mut out)));
    let [one, two, three] = permits;
    limiter.report(ms(1040), one, &answer(5, 4, 5_006.0, 5.0), &mut out);
    let renamed = named(answer(5, 4, 5_006.0, 5.0), b"renamed");
    limiter.report(ms(1050), two, &renamed, &mut out);
    waits(limiter.acquire(ms(1060), &ask(4, 1), &mut out));
    limiter.no_answer(ms(1070), three, false, &mut out);
    assert_eq!(slots(&mut out), [4]);
}

#[test]
fn who_goes_back_from_the_line_leaves_the_slots_that_an_unknown_route_held() {
    let (limiter, mut out) = of_global(2, 2);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), first, &answer(3, 2, 5_100.0, 100.0), &mut out);
    let unknown = go(limiter.acquire(ms(1050), &ask(2, 9), &mut out));
    // In line with the last slot of a bucket it may fall into.
    waits(limiter.acquire(ms(1051), &ask(3, 9), &mut out));
    waits(limiter.acquire(ms(1052), &ask(4, 1), &mut out));
    waits(limiter.acquire(ms(1053), &ask(5, 1), &mut out));
    let elsewhere = named(answer(5, 4, 5_100.0, 99.9), b"elsewhere");
    limiter.report(ms(1090), unknown, &elsewhere, &mut out);
    limiter.set_global_limit(ms(1100), 1, 50, &mut out);
    let mut gone = slots(&mut out);
    gone.sort_unstable();
    assert_eq!(gone, [3, 4, 5]);
}
