use super::*;
use crate::limit::headers::RateLimitHeaders;

const fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Headers of a server whose clock is ours: `Reset` at `reset_ms`, counted at `at_ms`.
fn headers(limit: u16, remaining: u16, reset_ms: u64, at_ms: u64) -> RateLimitHeaders {
    RateLimitHeaders {
        limit: Some(limit),
        remaining: Some(remaining),
        reset_ms: Some(1_000_000 + reset_ms),
        reset_after: Some(Duration::from_millis(reset_ms - at_ms)),
        ..RateLimitHeaders::default()
    }
}

/// One request sent at `at − 20`, counted at `at`, answered at `at + 20`.
fn exchange(bucket: &mut Bucket, at: u64, headers: &RateLimitHeaders) -> Learned {
    bucket.take(ms(at - 20), false);
    answer(bucket, at - 20, at + 20, headers)
}

fn answer(bucket: &mut Bucket, sent: u64, now: u64, headers: &RateLimitHeaders) -> Learned {
    bucket.release(ms(now), false);
    bucket.answer(ms(now), ms(sent), 1, headers, true)
}

fn wait_ms(bucket: &Bucket, now: u64) -> u64 {
    match bucket.slot(ms(now), 1) {
        Slot::Now => 0,
        Slot::At(at) => at.saturating_duration_since(ms(now)).as_millis() as u64,
        Slot::AfterAnswer => u64::MAX,
    }
}

fn predicted(bucket: &Bucket, now: u64, waiting: u32) -> Duration {
    let ahead = Ahead { waiting, serial: 0 };
    bucket.predicted_wait(ms(now), ahead, false, 1, None)
}

fn known(limit: u16, window_ms: u64) -> Bucket {
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    exchange(
        &mut bucket,
        1000,
        &headers(limit, limit - 1, 1000 + window_ms, 1000),
    );
    bucket
}

#[test]
fn a_bucket_takes_88_bytes() {
    assert!(
        size_of::<Option<Bucket>>() <= 88,
        "{}",
        size_of::<Option<Bucket>>()
    );
}

#[test]
fn a_fresh_bucket_sends_one_and_waits_for_its_answer() {
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    assert_eq!(bucket.slot(ms(1000), 9), Slot::Now);
    bucket.take(ms(1000), false);
    assert_eq!(bucket.slot(ms(9000), 9), Slot::AfterAnswer);
}

#[test]
fn the_careful_reading_gives_what_remaining_promised_and_then_waits_for_reset() {
    let mut bucket = known(3, 3000);
    assert_eq!(bucket.kind(), Kind::Careful);
    for _ in 0..2 {
        assert_eq!(wait_ms(&bucket, 1100), 0);
        bucket.take(ms(1100), false);
    }
    let wait = wait_ms(&bucket, 1100);
    assert!((2920..=2925).contains(&wait), "{wait}");
    // One is free at Reset; the two under way may have fallen into the new window.
    bucket.take(ms(4100), false);
    assert_eq!(bucket.slot(ms(4100), 1), Slot::AfterAnswer);
}

#[test]
fn fixed_and_sliding_buckets_are_told_apart_by_reset() {
    let mut fixed = known(5, 5000);
    exchange(&mut fixed, 1500, &headers(5, 3, 6030, 1500));
    assert_eq!(fixed.kind(), Kind::Fixed);
    let mut sliding = known(5, 1000);
    exchange(&mut sliding, 1500, &headers(5, 3, 3000, 1500));
    assert_eq!(sliding.kind(), Kind::Sliding);
    // The old window had ended: a later Reset proves nothing.
    let mut unknown = known(5, 1000);
    exchange(&mut unknown, 2500, &headers(5, 4, 3500, 2500));
    assert_eq!(unknown.kind(), Kind::Careful);
}

#[test]
fn small_steps_of_a_fast_sliding_bucket_add_up_to_proof() {
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    for n in 0..20u64 {
        // 20 ms a slot, asked every 5 ms.
        let at = 1000 + 5 * n;
        let used = (20 + 15 * n).div_ceil(20);
        exchange(
            &mut bucket,
            at,
            &headers(50, 50 - used as u16, 1020 + 20 * n, at),
        );
    }
    assert_eq!(bucket.kind(), Kind::Sliding);
}

#[test]
fn a_sliding_bucket_returns_one_slot_after_the_other() {
    let mut bucket = known(3, 1000);
    exchange(&mut bucket, 1100, &headers(3, 1, 3000, 1100));
    exchange(&mut bucket, 1200, &headers(3, 0, 4000, 1200));
    assert_eq!(bucket.kind(), Kind::Sliding);
    // Reset is 2.8 s away; a request is allowed when it is two slots away.
    let wait = wait_ms(&bucket, 1220);
    assert!((780..=825).contains(&wait), "{wait}");
    bucket.take(ms(2040), false);
    let wait = wait_ms(&bucket, 2040);
    assert!((960..=1005).contains(&wait), "{wait}");
}

#[test]
fn older_answers_change_nothing() {
    let mut bucket = known(5, 1000);
    bucket.take(ms(1100), false);
    bucket.take(ms(1101), false);
    // Counted second, answered first.
    answer(&mut bucket, 1101, 1140, &headers(5, 2, 4000, 1121));
    assert_eq!(bucket.kind(), Kind::Sliding);
    let before = bucket.clone();
    answer(&mut bucket, 1100, 1150, &headers(5, 3, 3000, 1120));
    assert_eq!(
        (bucket.remaining, bucket.reset),
        (before.remaining, before.reset)
    );
    assert_eq!(bucket.in_flight(), 0);
}

#[test]
fn requests_without_an_answer_count() {
    let mut bucket = known(5, 5000);
    bucket.take(ms(1100), false);
    bucket.release(ms(1200), false);
    bucket.count_lost(ms(1200));
    for _ in 0..3 {
        assert_eq!(wait_ms(&bucket, 1200), 0);
        bucket.take(ms(1200), false);
    }
    assert!(wait_ms(&bucket, 1200) > 4000);
    // In the next window, whose beginning nobody saw, it counts for a whole window's length.
    let mut bucket = known(1, 5000);
    bucket.take(ms(7000), false);
    bucket.release(ms(8000), false);
    bucket.count_lost(ms(8000));
    assert!(
        (4999..=5001).contains(&wait_ms(&bucket, 8000)),
        "{}",
        wait_ms(&bucket, 8000)
    );
}

#[test]
fn a_route_that_counts_alone_shows_itself() {
    let mut bucket = known(5, 5000);
    exchange(&mut bucket, 1500, &headers(5, 3, 6000, 1500));
    bucket.take(ms(1600), false);
    bucket.release(ms(1640), false);
    let other = bucket.answer(ms(1640), ms(1600), 2, &headers(5, 4, 6000, 1620), true);
    assert_eq!(other, Learned::CountsAlone);
    // Its second request falls below what the bucket had, which a shared counter does as well.
    let shared = bucket.answer(ms(1640), ms(1600), 2, &headers(5, 2, 6000, 1620), true);
    assert_eq!(shared, Learned::Nothing);
}

#[test]
fn absurd_headers_do_no_harm() {
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    for (limit, remaining, reset, after) in [
        (1, 1, 0, 0),
        (1, 30_000, u64::MAX, 86_400_000),
        (30_000, 0, 5, 86_400_000),
        (5, 5, 1, 1),
    ] {
        let headers = RateLimitHeaders {
            limit: Some(limit),
            remaining: Some(remaining),
            reset_ms: Some(reset),
            reset_after: Some(Duration::from_millis(after)),
            ..RateLimitHeaders::default()
        };
        exchange(&mut bucket, 2000, &headers);
        let _ = (bucket.slot(ms(2100), 1), predicted(&bucket, 2100, u32::MAX));
    }
}

#[test]
fn the_predicted_wait_of_the_nth_request_is_when_it_would_go() {
    let mut bucket = known(5, 1000);
    exchange(&mut bucket, 1100, &headers(5, 3, 3000, 1100));
    assert_eq!(bucket.kind(), Kind::Sliding);
    assert_eq!(predicted(&bucket, 1200, 0), Duration::ZERO);
    let tenth = predicted(&bucket, 1200, 9).as_millis();
    // 1.8 slots are used, the tenth ends at 11.8, of which 5 fit.
    assert!((6780..=6840).contains(&tenth), "{tenth}");
}

#[test]
fn answers_for_different_routes_do_not_tell_fixed_from_sliding() {
    let mut bucket = known(5, 5000);
    exchange(&mut bucket, 1500, &headers(5, 3, 6000, 1500));
    assert_eq!(bucket.kind(), Kind::Fixed);
    // Another route of the same name, whose own window begins shortly before this one ends.
    bucket.take(ms(5480), false);
    bucket.release(ms(5520), false);
    bucket.answer(ms(5520), ms(5480), 2, &headers(5, 4, 10_500, 5500), true);
    assert_eq!(bucket.kind(), Kind::Fixed);
    // The least of both holds.
    assert_eq!(bucket.remaining, 3);
    assert!(bucket.reset > ms(10_490));
}

/// As [`headers`], of a server whose clock is `ahead` of the other's.
fn by_another_clock(headers: &RateLimitHeaders, ahead: u64) -> RateLimitHeaders {
    RateLimitHeaders {
        reset_ms: headers.reset_ms.map(|ms| ms + ahead),
        ..*headers
    }
}

#[test]
fn an_answer_by_another_clock_proves_nothing_and_is_read_by_its_reset_after() {
    let mut bucket = known(5, 5000);
    exchange(&mut bucket, 1500, &headers(5, 3, 6000, 1500));
    assert_eq!(bucket.kind(), Kind::Fixed);
    let other = by_another_clock(&headers(5, 0, 6000, 2000), 2000);
    assert_eq!(exchange(&mut bucket, 2000, &other), Learned::Nothing);
    assert_eq!(bucket.kind(), Kind::Fixed, "its Reset is not later");
    let wait = wait_ms(&bucket, 2100);
    assert!((3900..=3945).contains(&wait), "{wait}");
    // Nor is the first clock's, when it answers again.
    exchange(&mut bucket, 2500, &headers(5, 0, 6000, 2500));
    assert_eq!(bucket.kind(), Kind::Fixed);
}

#[test]
fn another_route_that_takes_the_next_slot_proves_a_sliding_bucket() {
    for (remaining, reset, kind) in [
        (3, 3000, Kind::Sliding),
        // Counts alone, or took more than the next slot: nothing is proven of the first route.
        (4, 3000, Kind::Careful),
        (2, 3000, Kind::Careful),
        (3, 3060, Kind::Careful),
    ] {
        let mut bucket = known(5, 1000);
        bucket.take(ms(1100), false);
        bucket.release(ms(1140), false);
        let headers = headers(5, remaining, reset, 1120);
        bucket.answer(ms(1140), ms(1100), 2, &headers, true);
        assert_eq!(bucket.kind(), kind, "{remaining} {reset}");
    }
}

#[test]
fn a_higher_limit_is_believed_when_it_was_told_twice_and_a_lower_one_at_once() {
    let mut bucket = known(6, 3000);
    exchange(&mut bucket, 1100, &headers(900, 5, 4000, 1100));
    // At the next window's beginning as many go as the limit before allowed.
    for _ in 0..6 {
        assert_eq!(wait_ms(&bucket, 9000), 0);
        bucket.take(ms(9000), false);
    }
    assert_eq!(bucket.slot(ms(9000), 1), Slot::AfterAnswer);
    for n in 0..6 {
        answer(&mut bucket, 9000, 9040, &headers(12, 11 - n, 12_020, 9020));
    }
    for _ in 0..12 {
        assert_eq!(bucket.slot(ms(20_000), 1), Slot::Now);
        bucket.take(ms(20_000), false);
    }
    assert_eq!(bucket.slot(ms(20_000), 1), Slot::AfterAnswer);
    answer(&mut bucket, 20_000, 20_040, &headers(2, 1, 23_020, 20_020));
    (0..11).for_each(|_| bucket.release(ms(20_050), false));
    (0..2).for_each(|_| bucket.take(ms(30_000), false));
    assert_eq!(bucket.slot(ms(30_000), 1), Slot::AfterAnswer);
}

#[test]
fn a_lost_request_may_have_opened_a_window_that_was_guessed() {
    let mut bucket = known(9, 5_000);
    exchange(&mut bucket, 1_500, &headers(9, 7, 6_000, 1_500));
    assert_eq!(bucket.kind(), Kind::Fixed);
    for at in [10_000, 14_000] {
        bucket.take(ms(at), false);
        bucket.release(ms(at + 40), false);
        bucket.count_lost(ms(at + 40));
    }
    // Either of them may have been the first of a window, and the second one's still runs.
    (0..7).for_each(|_| bucket.take(ms(18_000), false));
    assert!(wait_ms(&bucket, 18_000) > 1_000);
}

#[test]
fn whole_seconds_prove_nothing_and_are_waited_out() {
    let whole = |remaining, at: u64| RateLimitHeaders {
        whole_seconds: true,
        ..headers(5, remaining, (at / 1000 + 1) * 1000 + 1000, at)
    };
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    exchange(&mut bucket, 1000, &whole(4, 1000));
    // Rounded up, `Reset` moved by a second although the window is one.
    exchange(&mut bucket, 2100, &whole(3, 2100));
    assert_eq!(bucket.kind(), Kind::Careful);
    assert_eq!(bucket.slot_us, 0, "nor is a slot's length learned");
    (0..3).for_each(|_| bucket.take(ms(2200), false));
    assert!(wait_ms(&bucket, 2200) >= 1800);
}

#[test]
fn a_higher_limit_that_is_told_now_and_then_is_not_believed_and_proves_nothing() {
    let mut bucket = known(6, 3000);
    let told = |bucket: &mut Bucket, at: u64, route, headers: &RateLimitHeaders| {
        bucket.take(ms(at - 20), false);
        bucket.release(ms(at + 20), false);
        bucket.answer(ms(at + 20), ms(at - 20), route, headers, true)
    };
    for (n, route) in [1, 2, 1, 2].into_iter().enumerate() {
        let at = 1100 + 200 * n as u64;
        let absurd = headers(900, 899, 4000, at);
        assert_eq!(told(&mut bucket, at, route, &absurd), Learned::Nothing);
        assert_eq!((bucket.kind(), bucket.limit), (Kind::Careful, 6));
        assert_eq!(bucket.remaining, 5 - n as u16, "the least of both");
        told(
            &mut bucket,
            at + 100,
            1,
            &headers(6, 4 - n as u16, 4000, at + 100),
        );
        bucket.kind = Kind::Careful;
    }
}

#[test]
fn a_limit_that_is_not_believed_teaches_no_slot() {
    let mut bucket = known(6, 1000);
    exchange(&mut bucket, 1100, &headers(6, 4, 3000, 1100));
    let slot = bucket.slot_us;
    // Seven slots' time, of which the known limit would see one used.
    exchange(&mut bucket, 1200, &headers(12, 5, 8000, 1200));
    assert!(bucket.slot_us <= slot, "{} {slot}", bucket.slot_us);
}

#[test]
fn an_answer_ends_the_guess_at_a_window() {
    let mut bucket = known(9, 5_000);
    exchange(&mut bucket, 1_500, &headers(9, 7, 6_000, 1_500));
    let lose = |bucket: &mut Bucket, at: u64| {
        bucket.take(ms(at), false);
        bucket.release(ms(at + 40), false);
        bucket.count_lost(ms(at + 40));
    };
    lose(&mut bucket, 10_000);
    exchange(&mut bucket, 10_500, &headers(9, 7, 15_020, 10_500));
    lose(&mut bucket, 12_000);
    (0..6).for_each(|_| bucket.take(ms(12_100), false));
    let wait = wait_ms(&bucket, 12_100);
    assert!((2_900..3_000).contains(&wait), "{wait}");
}

#[test]
fn of_two_answers_whose_order_no_clock_tells_the_least_holds() {
    let mut bucket = known(5, 5000);
    bucket.take(ms(1100), false);
    bucket.take(ms(1101), false);
    answer(&mut bucket, 1101, 1140, &headers(5, 2, 6000, 1121));
    let other = by_another_clock(&headers(5, 3, 6000, 1120), 2000);
    answer(&mut bucket, 1100, 1150, &other);
    assert_eq!(bucket.remaining, 2);
}

#[test]
fn a_next_slot_proves_nothing_if_others_may_have_been_counted_between() {
    // Under way together.
    let mut bucket = known(5, 1000);
    bucket.take(ms(1010), false);
    bucket.release(ms(1140), false);
    bucket.answer(ms(1140), ms(1010), 2, &headers(5, 3, 3000, 1120), true);
    assert_eq!(bucket.kind(), Kind::Careful);
    // Lost in between.
    let mut bucket = known(5, 1000);
    bucket.take(ms(1040), false);
    bucket.release(ms(1050), false);
    bucket.count_lost(ms(1050));
    bucket.take(ms(1100), false);
    bucket.release(ms(1140), false);
    bucket.answer(ms(1140), ms(1100), 2, &headers(5, 3, 3000, 1120), true);
    assert_eq!(bucket.kind(), Kind::Careful);
    // Slots so short that any answer might look like the next.
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    exchange(&mut bucket, 1000, &headers(5, 2, 1420, 1000));
    bucket.take(ms(1100), false);
    bucket.release(ms(1140), false);
    bucket.answer(ms(1140), ms(1100), 2, &headers(5, 1, 1560, 1120), true);
    assert_eq!(bucket.kind(), Kind::Careful);
}

#[test]
fn a_request_that_is_sent_when_an_answer_comes_is_newer() {
    let mut bucket = known(5, 5000);
    bucket.take(ms(1100), false);
    bucket.release(ms(1200), false);
    bucket.count_lost(ms(1200));
    bucket.take(ms(1200), false);
    answer(&mut bucket, 1200, 1240, &headers(5, 2, 6000, 1220));
    assert_eq!(bucket.lost, 0);
}

#[test]
fn a_bucket_that_waits_for_another_is_not_idle() {
    let mut bucket = Bucket::new(Kind::Fresh, ms(1000));
    assert!(bucket.is_idle(ms(2000)));
    bucket.set(Bucket::HELD, true);
    assert!(!bucket.is_idle(ms(2000)));
}

#[test]
fn a_route_is_not_taken_to_count_alone_while_a_lost_request_may_explain_it() {
    let mut bucket = known(5, 5000);
    exchange(&mut bucket, 1500, &headers(5, 3, 6000, 1500));
    bucket.take(ms(1530), false);
    bucket.release(ms(1540), false);
    bucket.count_lost(ms(1540));
    bucket.take(ms(1600), false);
    bucket.release(ms(1640), false);
    let other = bucket.answer(ms(1640), ms(1600), 2, &headers(5, 4, 6000, 1620), true);
    assert_eq!(other, Learned::Nothing);
}

#[test]
fn a_slot_of_another_limit_is_forgotten() {
    let mut bucket = known(5, 1000);
    assert!(bucket.slot_us > 0);
    exchange(&mut bucket, 1100, &headers(4, 4, 3000, 1100));
    assert_eq!(bucket.slot_us, 0);
}

#[test]
fn a_429_that_asks_to_wait_for_one_slot_proves_a_sliding_bucket() {
    for (wait, whole, kind, least, most) in [
        (940, false, Kind::Sliding, 0, 160),
        // As long as its window, or in seconds that were rounded up: nothing is proven.
        (4_940, false, Kind::Careful, 0, 60),
        (940, true, Kind::Careful, 3_900, 5_000),
    ] {
        let mut bucket = known(5, 5_000);
        bucket.take(ms(1_100), false);
        bucket.release(ms(1_140), false);
        let refusal = RateLimitHeaders {
            whole_seconds: whole,
            ..headers(5, 0, 6_060, 1_120)
        };
        let asked = Duration::from_millis(wait);
        bucket.refused(ms(1_140), ms(1_100), 1, &refusal, asked);
        assert_eq!(bucket.kind(), kind, "{wait} {whole}");
        let waits = wait_ms(&bucket, 1_140 + wait);
        assert!((least..=most).contains(&waits), "{wait} {whole}: {waits}");
    }
}
