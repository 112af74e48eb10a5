use super::*;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

mod departures;
mod fleet;
mod moves;
mod order;
mod places;
mod predict;

type Local = Limiter<Unlocked>;

const fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn limiter() -> Local {
    Limiter::new(&Settings::default(), 2)
}

fn ask(slot: u32, route: u64) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot,
            generation: 0,
        },
        key: BucketKey {
            identity: 1,
            major: 1,
            route,
        },
        client: ClientClass::Bot { user_id: Some(7) },
        counts_globally: true,
        serial: false,
        max_wait: None,
    }
}

fn answer(limit: u32, remaining: u32, reset_s: f64, after_s: f64) -> Answer {
    let mut answer = Answer::new(200);
    answer.header(b"X-RateLimit-Limit", limit.to_string().as_bytes());
    answer.header(b"X-RateLimit-Remaining", remaining.to_string().as_bytes());
    answer.header(b"X-RateLimit-Reset", format!("{reset_s:.3}").as_bytes());
    answer.header(
        b"X-RateLimit-Reset-After",
        format!("{after_s:.3}").as_bytes(),
    );
    answer.header(b"X-RateLimit-Bucket", b"abc");
    answer.header(b"Via", b"1.1 google");
    answer
}

fn go(decision: Decision) -> Permit {
    match decision {
        Decision::Go(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn goes(out: &mut Outputs) -> Vec<(u32, Permit)> {
    let next = || loop {
        match out.pop()? {
            Output::Go { ticket, permit } => return Some((ticket.slot, permit)),
            Output::Deadline { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn unknown_routes_of_one_major_go_one_at_a_time_until_their_bucket_is_known() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    for slot in 2..5 {
        assert!(matches!(
            limiter.acquire(ms(1000), &ask(slot, 1), &mut out),
            Decision::Wait
        ));
    }
    assert!(matches!(
        limiter.acquire(ms(1000), &ask(5, 2), &mut out),
        Decision::Wait
    ));
    limiter.report(ms(1040), first, &answer(3, 2, 5005.0, 5.0), &mut out);
    let mut gone = goes(&mut out);
    gone.sort_by_key(|(slot, _)| *slot);
    // Two slots are left: for the known route's next two, or one of them for the unknown route.
    assert_eq!(gone.len(), 2);
    assert!(gone.iter().any(|(slot, _)| *slot == 2));
    let census = limiter.census(ms(1040));
    assert_eq!((census.under_way, census.waiting_for_bucket), (2, 2));
}

#[test]
fn the_global_window_holds_the_51st_request_and_not_an_interactions() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    for n in 0..50 {
        let mut ask = ask(n, 1);
        ask.key.major = 100 + u64::from(n);
        let _permit = go(limiter.acquire(ms(1000), &ask, &mut out));
    }
    let mut late = ask(99, 1);
    late.key.major = 999;
    assert!(matches!(
        limiter.acquire(ms(1001), &late, &mut out),
        Decision::Wait
    ));
    let interaction = Ask {
        client: ClientClass::Interaction,
        counts_globally: false,
        ..ask(100, 2)
    };
    let _permit = go(limiter.acquire(ms(1001), &interaction, &mut out));
    let deadline = (0..2)
        .filter_map(|shard| limiter.next_deadline(shard))
        .min()
        .unwrap();
    (0..2).for_each(|shard| limiter.tick(deadline, shard, &mut out));
    assert_eq!(goes(&mut out).len(), 1);
    assert!(deadline >= ms(2000) && deadline <= ms(2300));
}

#[test]
fn a_queued_request_is_dropped_when_its_client_leaves() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    let second = ask(2, 1);
    assert!(matches!(
        limiter.acquire(ms(1000), &second, &mut out),
        Decision::Wait
    ));
    limiter.cancel(ms(1001), &second.key, second.ticket, &mut out);
    limiter.report(ms(1040), first, &answer(5, 4, 5001.0, 1.0), &mut out);
    assert!(goes(&mut out).is_empty());
    assert_eq!(limiter.census(ms(1040)).under_way, 0);
}

#[test]
fn an_absorbed_429_goes_before_those_that_came_later() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let serial = |slot| Ask {
        serial: true,
        ..ask(slot, 1)
    };
    let permit = go(limiter.acquire(ms(1000), &serial(1), &mut out));
    limiter.report(ms(1040), permit, &answer(5, 4, 5001.0, 1.0), &mut out);
    let permit = go(limiter.acquire(ms(1100), &serial(2), &mut out));
    assert!(matches!(
        limiter.acquire(ms(1100), &serial(3), &mut out),
        Decision::Wait
    ));
    let mut refused = answer(5, 0, 5002.0, 2.0);
    refused.status = 429;
    refused.header(b"Retry-After", b"1");
    assert_eq!(refused.verdict(), Verdict::Retry);
    limiter.requeue(ms(1140), permit, &refused, &serial(2), &mut out);
    assert!(goes(&mut out).is_empty());
    (0..2).for_each(|shard| limiter.tick(ms(4000), shard, &mut out));
    let slots: Vec<u32> = goes(&mut out).iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [2]);
}

#[test]
fn an_absorbed_429_without_a_bucket_goes_first_where_its_route_points_by_now() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let serial = |slot, major| {
        let mut ask = ask(slot, 1);
        (ask.key.major, ask.serial) = (major, true);
        ask
    };
    let teacher = go(limiter.acquire(ms(1000), &serial(1, 1), &mut out));
    let first = go(limiter.acquire(ms(1000), &serial(2, 2), &mut out));
    limiter.report(ms(1040), teacher, &answer(5, 4, 5006.0, 5.0), &mut out);
    // Known by now, but the first is still under way in the lane of unknown routes.
    assert!(matches!(
        limiter.acquire(ms(1050), &serial(3, 2), &mut out),
        Decision::Wait
    ));
    let mut limited = plain(429);
    limited.header(b"X-RateLimit-Scope", b"user");
    limited.header(b"Retry-After", b"1");
    limiter.requeue(ms(1060), first, &limited, &serial(2, 2), &mut out);
    assert!(goes(&mut out).is_empty());
    (0..2).for_each(|shard| limiter.tick(ms(2100), shard, &mut out));
    let slots: Vec<u32> = goes(&mut out).iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [2]);
}

/// An answer of `status` with Discord's mark and nothing about limits.
fn plain(status: u16) -> Answer {
    let mut answer = Answer::new(status);
    answer.header(b"Via", b"1.1 google");
    answer
}

fn refused(decision: Decision) -> Refusal {
    match decision {
        Decision::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// The limiter after one answer taught it route 1: 5 slots, 4 left, for 5 seconds.
fn taught() -> (Local, Outputs) {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let permit = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), permit, &answer(5, 4, 5006.0, 5.0), &mut out);
    while out.pop().is_some() {}
    (limiter, out)
}

#[test]
fn a_route_that_one_channel_taught_is_known_in_the_next() {
    let (limiter, mut out) = taught();
    let other = |slot, route| {
        let mut ask = ask(slot, route);
        ask.key.major = 2;
        ask
    };
    // An unknown route holds the lane; the known one need not care, and asks alone in its bucket.
    let lane = go(limiter.acquire(ms(1100), &other(1, 9), &mut out));
    let first = go(limiter.acquire(ms(1100), &other(2, 1), &mut out));
    assert!(matches!(
        limiter.acquire(ms(1100), &other(3, 1), &mut out),
        Decision::Wait
    ));
    limiter.report(ms(1140), first, &answer(5, 4, 5006.1, 5.0), &mut out);
    assert_eq!(goes(&mut out).len(), 1);
    limiter.no_answer(ms(1140), lane, false, &mut out);
}

#[test]
fn a_route_without_headers_is_free_after_its_second_answer() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    for n in 30..33 {
        let decision = limiter.acquire(ms(1000), &ask(n, 1), &mut out);
        assert!(matches!(decision, Decision::Wait));
    }
    limiter.report(ms(1040), first, &plain(200), &mut out);
    let second = goes(&mut out).pop().unwrap().1;
    limiter.report(ms(1045), second, &plain(200), &mut out);
    assert_eq!(goes(&mut out).len(), 2);
    let permits: Vec<Permit> = (3..23)
        .map(|n| go(limiter.acquire(ms(1050), &ask(n, 1), &mut out)))
        .collect();
    // The headers can come later.
    for (n, permit) in permits.into_iter().enumerate() {
        let left = 19u32.saturating_sub(n as u32);
        limiter.report(ms(1090), permit, &answer(20, left, 5006.0, 5.0), &mut out);
    }
    assert!(matches!(
        limiter.acquire(ms(1100), &ask(30, 1), &mut out),
        Decision::Wait
    ));
}

#[test]
fn a_named_route_is_not_freed_by_an_answer_without_headers_and_learns_from_the_next() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    limiter.report(ms(1040), first, &answer(5, 4, 5006.0, 5.0), &mut out);
    // The next channel knows the name, and its first answers say nothing.
    let there = |slot| {
        let mut there = ask(slot, 1);
        there.key.major = 77;
        there
    };
    for n in 0..6 {
        let permit = go(limiter.acquire(ms(1100 + n), &there(2), &mut out));
        let another = limiter.acquire(ms(1100 + n), &there(3), &mut out);
        assert!(matches!(another, Decision::Wait), "{n}");
        limiter.cancel(ms(1100 + n), &there(3).key, there(3).ticket, &mut out);
        limiter.report(ms(1101 + n), permit, &plain(200), &mut out);
        assert!(goes(&mut out).is_empty());
    }
    let permit = go(limiter.acquire(ms(1200), &there(4), &mut out));
    limiter.report(ms(1240), permit, &answer(3, 1, 5006.0, 5.0), &mut out);
    let _last = go(limiter.acquire(ms(1250), &there(5), &mut out));
    let beyond = limiter.acquire(ms(1250), &there(6), &mut out);
    assert!(matches!(beyond, Decision::Wait));
}

#[test]
fn a_change_does_not_overtake_another_when_their_route_turns_out_free() {
    let settings = Settings {
        default_bucket: 2,
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let serial = |slot| Ask {
        serial: true,
        ..ask(slot, 1)
    };
    let first = go(limiter.acquire(ms(1000), &serial(1), &mut out));
    let read = go(limiter.acquire(ms(1000), &ask(2, 1), &mut out));
    assert!(matches!(
        limiter.acquire(ms(1000), &serial(3), &mut out),
        Decision::Wait
    ));
    limiter.report(ms(1040), read, &plain(200), &mut out);
    assert!(goes(&mut out).is_empty());
    limiter.report(ms(1050), first, &plain(200), &mut out);
    assert_eq!(goes(&mut out).len(), 1);
}

#[test]
fn a_change_does_not_overtake_another_when_their_route_moves_twice() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let serial = |slot| Ask {
        serial: true,
        ..ask(slot, 1)
    };
    for n in 0..2 {
        let unnamed = go(limiter.acquire(ms(1000 + n), &ask(1, 1), &mut out));
        limiter.report(ms(1040 + n), unnamed, &plain(200), &mut out);
    }
    let one = go(limiter.acquire(ms(1050), &ask(2, 1), &mut out));
    let other = go(limiter.acquire(ms(1050), &ask(3, 1), &mut out));
    let change = go(limiter.acquire(ms(1050), &serial(4), &mut out));
    // The free route gets a bucket, and then another one, while the change is under way.
    limiter.report(ms(1090), one, &answer(5, 4, 5006.0, 5.0), &mut out);
    assert!(matches!(
        limiter.acquire(ms(1100), &serial(5), &mut out),
        Decision::Wait
    ));
    let mut renamed = answer(5, 4, 5006.0, 5.0);
    renamed.header(b"X-RateLimit-Bucket", b"other");
    limiter.report(ms(1110), other, &renamed, &mut out);
    assert!(goes(&mut out).is_empty());
    limiter.report(ms(1120), change, &renamed, &mut out);
    assert_eq!(goes(&mut out).len(), 1);
}

#[test]
fn errors_that_come_from_before_the_limits_do_not_make_a_route_free() {
    for status in [401, 403, 500, 502] {
        let (limiter, mut out) = (limiter(), Outputs::new());
        let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
        limiter.report(ms(1040), first, &plain(status), &mut out);
        let _held = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
        assert!(
            matches!(
                limiter.acquire(ms(1100), &ask(3, 1), &mut out),
                Decision::Wait
            ),
            "{status}"
        );
    }
}

#[test]
fn a_hidden_limit_does_not_pause_its_bucket_and_a_shared_one_does() {
    for (scope, body, paused) in [("user", "480.0", false), ("shared", "2.0", true)] {
        let (limiter, mut out) = taught();
        let permit = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
        let mut limited = answer(5, 3, 5006.0, 4.9);
        limited.status = 429;
        limited.header(b"X-RateLimit-Scope", scope.as_bytes());
        limited.error_body(format!("{{\"retry_after\": {body}}}").as_bytes());
        limiter.report(ms(1140), permit, &limited, &mut out);
        let next = limiter.acquire(ms(1150), &ask(3, 1), &mut out);
        assert_eq!(matches!(next, Decision::Wait), paused, "{scope}");
    }
}

#[test]
fn a_global_429_pauses_the_identity_and_not_its_interactions() {
    let (limiter, mut out) = taught();
    let permit = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
    let mut limited = plain(429);
    limited.header(b"X-RateLimit-Global", b"true");
    limited.error_body(br#"{"retry_after": 0.8, "global": true}"#);
    limiter.report(ms(1140), permit, &limited, &mut out);
    assert!(matches!(
        limiter.acquire(ms(1150), &ask(3, 1), &mut out),
        Decision::Wait
    ));
    // It waits behind its identity's window, not in its bucket.
    assert_eq!(limiter.census(ms(1150)).waiting_for_global, 1);
    let interaction = Ask {
        client: ClientClass::Interaction,
        counts_globally: false,
        ..ask(4, 7)
    };
    let _permit = go(limiter.acquire(ms(1150), &interaction, &mut out));
    (0..2).for_each(|shard| limiter.tick(ms(1939), shard, &mut out));
    assert!(goes(&mut out).is_empty());
    (0..2).for_each(|shard| limiter.tick(ms(1941), shard, &mut out));
    assert_eq!(goes(&mut out).len(), 1);
}

#[test]
fn a_token_is_locked_after_a_confirmed_401_and_probed_when_the_lock_ends() {
    let (limiter, mut out) = taught();
    let permit = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
    limiter.report(ms(1140), permit, &plain(401), &mut out);
    let confirm = std::iter::from_fn(|| out.pop()).find_map(|output| match output {
        Output::Confirm { identity, .. } => Some(identity),
        _ => None,
    });
    assert_eq!(confirm, Some(1));
    // Not locked before it is confirmed.
    let permit = go(limiter.acquire(ms(1150), &ask(3, 1), &mut out));
    limiter.no_answer(ms(1160), permit, false, &mut out);
    limiter.confirmed(ms(1200), 1, false);
    let refusal = refused(limiter.acquire(ms(1300), &ask(4, 1), &mut out));
    assert_eq!(refusal.reason, Reason::Unauthorized);
    assert_eq!(refusal.retry_after, Duration::from_millis(299_900));
    let probe = go(limiter.acquire(ms(301_200), &ask(5, 1), &mut out));
    assert_eq!(
        refused(limiter.acquire(ms(301_201), &ask(6, 1), &mut out)).reason,
        Reason::Unauthorized
    );
    limiter.report(ms(301_240), probe, &plain(401), &mut out);
    assert!(
        refused(limiter.acquire(ms(600_000), &ask(7, 1), &mut out)).retry_after
            > Duration::from_secs(300)
    );
    let probe = go(limiter.acquire(ms(901_300), &ask(8, 1), &mut out));
    limiter.report(ms(901_340), probe, &plain(200), &mut out);
    let _permit = go(limiter.acquire(ms(901_350), &ask(9, 1), &mut out));
}

#[test]
fn a_401_to_a_webhook_or_interaction_locks_nobody() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    for client in [ClientClass::Webhook { id: None }, ClientClass::Interaction] {
        let ask = Ask {
            client,
            counts_globally: false,
            ..ask(1, 1)
        };
        let permit = go(limiter.acquire(ms(1000), &ask, &mut out));
        limiter.report(ms(1040), permit, &plain(401), &mut out);
        assert!(!std::iter::from_fn(|| out.pop()).any(|o| matches!(o, Output::Confirm { .. })));
    }
}

#[test]
fn a_webhook_is_dead_only_after_a_404_with_code_10015() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    let ask = Ask {
        client: ClientClass::Webhook { id: None },
        counts_globally: false,
        ..ask(1, 1)
    };
    for (code, dead) in [(10_008, false), (10_015, true)] {
        let permit = go(limiter.acquire(ms(1000), &ask, &mut out));
        let mut unknown = plain(404);
        unknown.error_body(format!("{{\"code\": {code}}}").as_bytes());
        limiter.report(ms(1040), permit, &unknown, &mut out);
        match limiter.acquire(ms(2000), &ask, &mut out) {
            Decision::Refuse(refusal) => assert!(dead && refusal.reason == Reason::DeadWebhook),
            Decision::Go(permit) => {
                assert!(!dead);
                limiter.no_answer(ms(2001), permit, false, &mut out);
            }
            Decision::Wait => panic!("nobody is before it"),
        }
    }
}

#[test]
fn cloudflares_block_stops_everybody_until_one_probe_passes() {
    let (limiter, mut out) = taught();
    let permit = go(limiter.acquire(ms(1100), &ask(2, 1), &mut out));
    let mut blocked = Answer::new(429);
    blocked.header(b"Retry-After", b"30");
    blocked.error_body(b"error code: 1015");
    limiter.report(ms(1140), permit, &blocked, &mut out);
    let mut stranger = ask(3, 5);
    stranger.key.identity = 99;
    let refusal = refused(limiter.acquire(ms(1200), &stranger, &mut out));
    assert_eq!(
        (refusal.reason, refusal.retry_after),
        (Reason::Breaker, Duration::from_millis(29_940))
    );
    let probe = go(limiter.acquire(ms(31_140), &ask(4, 1), &mut out));
    assert_eq!(
        refused(limiter.acquire(ms(31_150), &stranger, &mut out)).reason,
        Reason::Breaker
    );
    limiter.report(ms(31_180), probe, &answer(5, 4, 5036.0, 5.0), &mut out);
    let _permit = go(limiter.acquire(ms(31_190), &stranger, &mut out));
    assert_eq!(limiter.census(ms(31_190)).under_way, 1);
}

#[test]
fn the_budget_of_invalid_requests_stops_everything_short_of_the_ban() {
    let (limiter, mut out) = (
        Limiter::<Unlocked>::new(
            &Settings {
                global_default: 60_000,
                ..Settings::default()
            },
            1,
        ),
        Outputs::new(),
    );
    for n in 0..BUDGET {
        // Strangers all of them, of whom nobody could know.
        let mut ask = ask(n, 1);
        ask.key.identity = 100 + u64::from(n);
        let permit = go(limiter.acquire(ms(20_000 + u64::from(n)), &ask, &mut out));
        limiter.report(ms(20_000 + u64::from(n)), permit, &plain(403), &mut out);
    }
    let refusal = refused(limiter.acquire(ms(30_000), &ask(0, 2), &mut out));
    assert_eq!(refusal.reason, Reason::Budget);
    assert!(refusal.retry_after > Duration::from_secs(590));
    let _permit = go(limiter.acquire(ms(30_000) + refusal.retry_after, &ask(0, 2), &mut out));
}

#[test]
fn a_wait_that_would_be_too_long_is_refused_at_once_and_truthfully() {
    let (limiter, mut out) = taught();
    let permits: Vec<Permit> = (2..6)
        .map(|n| go(limiter.acquire(ms(1100), &ask(n, 1), &mut out)))
        .collect();
    let bounded = |max| Ask {
        max_wait: Some(Duration::from_secs(max)),
        ..ask(9, 1)
    };
    let refusal = refused(limiter.acquire(ms(1100), &bounded(2), &mut out));
    assert_eq!(refusal.reason, Reason::TooLong);
    let wait = refusal.retry_after.as_millis();
    assert!((4_900..5_000).contains(&wait), "{wait}");
    assert!(matches!(
        limiter.acquire(ms(1100), &bounded(6), &mut out),
        Decision::Wait
    ));
    assert_eq!(permits.len(), 4);
}

#[test]
fn queues_are_bounded() {
    let settings = Settings {
        waiting_per_bucket_max: 2,
        waiting_max: 3,
        buckets_max: 2,
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let of = |slot, major| {
        let mut ask = ask(slot, 1);
        ask.key.major = major;
        ask
    };
    let first = [
        go(limiter.acquire(ms(1000), &of(1, 1), &mut out)),
        go(limiter.acquire(ms(1000), &of(2, 2), &mut out)),
    ];
    for slot in 3..5 {
        assert!(matches!(
            limiter.acquire(ms(1000), &of(slot, 1), &mut out),
            Decision::Wait
        ));
    }
    assert_eq!(
        refused(limiter.acquire(ms(1000), &of(5, 1), &mut out)).reason,
        Reason::QueueFull
    );
    assert!(matches!(
        limiter.acquire(ms(1000), &of(6, 2), &mut out),
        Decision::Wait
    ));
    assert_eq!(
        refused(limiter.acquire(ms(1000), &of(7, 2), &mut out)).reason,
        Reason::TooManyWaiting
    );
    assert_eq!(
        refused(limiter.acquire(ms(1000), &of(8, 3), &mut out)).reason,
        Reason::TooManyTracked
    );
    assert_eq!(first.len(), 2);
}

#[test]
fn room_is_not_made_of_the_bucket_that_was_just_answered() {
    let settings = Settings {
        buckets_max: 2,
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    let mut other = ask(2, 1);
    other.key.major = 2;
    let second = go(limiter.acquire(ms(1000), &other, &mut out));
    limiter.no_answer(ms(1030), second, false, &mut out);
    // The bucket that it names would be the third; neither lane has anything under way any more.
    limiter.report(ms(1040), first, &answer(5, 4, 5006.0, 5.0), &mut out);
    let third = go(limiter.acquire(ms(1060), &ask(3, 1), &mut out));
    limiter.no_answer(ms(1070), third, false, &mut out);
    assert_eq!(limiter.census(ms(1070)).under_way, 0);
}

#[test]
fn the_least_recently_used_bearer_makes_room() {
    let settings = Settings {
        max_bearers: 2,
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    for identity in [1, 2, 1, 3, 4, 5] {
        let mut ask = Ask {
            client: ClientClass::Bearer,
            ..ask(1, 1)
        };
        ask.key.identity = identity;
        let permit = go(limiter.acquire(ms(1000), &ask, &mut out));
        limiter.report(ms(1040), permit, &plain(200), &mut out);
        assert!(limiter.census(ms(1040)).identities <= 2);
    }
}

#[test]
fn overridden_and_learned_global_limits_hold() {
    let settings = Settings {
        global_overrides: [(7, 3)].into(),
        ..Settings::default()
    };
    let (limiter, mut out) = (Limiter::<Unlocked>::new(&settings, 1), Outputs::new());
    let of = |major, identity, user_id| {
        let mut ask = Ask {
            client: ClientClass::Bot {
                user_id: Some(user_id),
            },
            ..ask(major, 1)
        };
        ask.key.major = u64::from(major);
        ask.key.identity = identity;
        ask
    };
    limiter.set_global_limit(ms(1000), 2, 60, &mut out);
    let mut gone = [0; 2];
    for n in 0..100 {
        for (which, identity, user) in [(0, 1, 7), (1, 2, 8)] {
            let decision = limiter.acquire(
                ms(1000),
                &of(2 * n + which as u32, identity, user),
                &mut out,
            );
            gone[which] += u32::from(matches!(decision, Decision::Go(_)));
        }
    }
    assert_eq!(gone, [3, 60]);
}

#[test]
fn everything_is_forgotten_in_the_end() {
    let (limiter, mut out) = (limiter(), Outputs::new());
    for n in 0..100 {
        let mut ask = ask(n, 1);
        ask.key.major = u64::from(n);
        ask.key.identity = u64::from(n);
        let permit = go(limiter.acquire(ms(1000), &ask, &mut out));
        limiter.report(ms(1040), permit, &answer(5, 4, 5001.0, 1.0), &mut out);
    }
    // One lane, for the first; the others knew the route's bucket.
    assert_eq!(limiter.census(ms(2000)).buckets, 101);
    let mut now = ms(2000);
    for _ in 0..1000 {
        let Some(next) = (0..2)
            .filter_map(|shard| limiter.next_deadline(shard))
            .min()
        else {
            break;
        };
        now = now.max(next);
        (0..2).for_each(|shard| limiter.tick(now, shard, &mut out));
    }
    assert_eq!(limiter.census(now), Census::default());
    assert!(now < ms(2000) + Duration::from_secs(900));
}

#[test]
fn a_sweep_looks_at_a_batch_and_no_more() {
    let (limiter, mut out) = (
        Limiter::<Unlocked>::new(&Settings::default(), 1),
        Outputs::new(),
    );
    let webhook = |n: u64| {
        let mut ask = Ask {
            client: ClientClass::Webhook { id: None },
            counts_globally: false,
            ..ask(1, 1)
        };
        (ask.key.identity, ask.key.major) = (n, n);
        ask
    };
    for n in 0..20_000 {
        let permit = go(limiter.acquire(ms(1000), &webhook(n), &mut out));
        limiter.report(ms(1000), permit, &answer(5, 4, 5001.0, 1.0), &mut out);
    }
    let mut now = ms(1000) + Duration::from_secs(600);
    let (mut held, mut sweeps) = (limiter.census(now).buckets, 0);
    while held > 0 {
        limiter.tick(now, 0, &mut out);
        let left = limiter.census(now).buckets;
        // Measured in benches/limiter.rs: a batch takes a fraction of a millisecond.
        assert!(held - left <= 512, "{}", held - left);
        sweeps += 1;
        assert!(sweeps < 200, "all are found within a few rounds");
        held = left;
        let Some(next) = limiter.next_deadline(0) else {
            break;
        };
        now = now.max(next);
    }
    assert!(now < ms(1000) + Duration::from_secs(1_000));
}

/// Latches that threads can share.
struct Locked;

impl Latches for Locked {
    type Latch<T> = std::sync::Mutex<T>;
}

impl<T> Latch<T> for std::sync::Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock().unwrap())
    }
}

/// One thread's requests: asks, answers what it was let send, and now and then leaves.
fn hammer(limiter: &Limiter<Locked>, clock: &AtomicU64, thread: u32) {
    let mut out = Outputs::new();
    let mut permits = VecDeque::new();
    for n in 0..4_000 {
        let now = ms(clock.fetch_add(1, Ordering::Relaxed));
        let mut ask = ask(thread * 10_000 + n, u64::from(n % 5));
        ask.key.major = u64::from(n % 7);
        ask.serial = n % 2 == 0;
        match limiter.acquire(now, &ask, &mut out) {
            Decision::Go(permit) => permits.push_back(permit),
            Decision::Wait if n % 3 == 0 => limiter.cancel(now, &ask.key, ask.ticket, &mut out),
            Decision::Wait | Decision::Refuse(_) => {}
        }
        let shard = (thread as usize) % limiter.shards();
        limiter.tick(now, shard, &mut out);
        limiter.next_deadline(shard);
        permits.extend(goes_of(&mut out));
        while permits.len() > 5 {
            finish(limiter, now, permits.pop_front().unwrap(), &mut out);
            permits.extend(goes_of(&mut out));
        }
    }
    while let Some(permit) = permits.pop_front() {
        let now = ms(clock.fetch_add(1, Ordering::Relaxed));
        finish(limiter, now, permit, &mut out);
        permits.extend(goes_of(&mut out));
    }
}

fn goes_of(out: &mut Outputs) -> Vec<Permit> {
    let permit = |output| match output {
        Output::Go { permit, .. } => Some(permit),
        Output::Refuse { .. } | Output::Deadline { .. } | Output::Confirm { .. } => None,
    };
    std::iter::from_fn(|| out.pop())
        .filter_map(permit)
        .collect()
}

fn finish(limiter: &Limiter<Locked>, now: Instant, permit: Permit, out: &mut Outputs) {
    let seconds = now.as_nanos() as f64 / 1e9 + 5_000.0;
    let mut answer = answer(8, 7, seconds + 0.1, 0.1);
    answer.header(
        b"X-RateLimit-Bucket",
        permit.key().route.to_string().as_bytes(),
    );
    if (now.as_nanos() / 1_000_000).is_multiple_of(11) {
        limiter.no_answer(now, permit, true, out);
    } else {
        limiter.report(now, permit, &answer, out);
    }
}

#[test]
fn workers_that_share_the_limiter_lose_no_request_and_no_slot() {
    let limiter = Limiter::<Locked>::new(&Settings::default(), 3);
    let clock = AtomicU64::new(1_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (limiter, clock) = (&limiter, &clock);
            scope.spawn(move || hammer(limiter, clock, thread));
        }
    });
    let mut out = Outputs::new();
    let mut now = ms(clock.load(Ordering::Relaxed));
    while let Some(next) = (0..3)
        .filter_map(|shard| limiter.next_deadline(shard))
        .min()
    {
        now = now.max(next);
        (0..3).for_each(|shard| limiter.tick(now, shard, &mut out));
        for permit in goes_of(&mut out) {
            limiter.no_answer(now, permit, false, &mut out);
            permits_done(&limiter, now, &mut out);
        }
    }
    assert_eq!(limiter.census(now), Census::default());
}

/// Gives back whatever giving back let go.
fn permits_done(limiter: &Limiter<Locked>, now: Instant, out: &mut Outputs) {
    let mut more = goes_of(out);
    while let Some(permit) = more.pop() {
        limiter.no_answer(now, permit, false, out);
        more.extend(goes_of(out));
    }
}
