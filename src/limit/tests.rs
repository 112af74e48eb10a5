use super::*;
use std::time::Duration;

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
    assert_eq!(
        (census.under_way, census.waiting_for_bucket),
        (
            gone.len() + usize::from(gone.iter().any(|(s, _)| *s == 5)),
            2
        )
    );
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
