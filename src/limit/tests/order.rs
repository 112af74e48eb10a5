//! Requests of one route go in the order in which they asked, and changes one after the other,
//! also when they come back from the line for the global window or their bucket is found late.

use super::*;

fn of(global_default: u32, default_bucket: u16) -> (Local, Outputs) {
    let settings = Settings {
        global_default,
        default_bucket,
        ..Settings::default()
    };
    (Limiter::new(&settings, 1), Outputs::new())
}

fn waits(decision: &Decision) {
    assert!(matches!(decision, Decision::Wait), "{decision:?}");
}

/// A 429 that is over in a millisecond.
fn limited(scope: &[u8]) -> Answer {
    let mut answer = Answer::new(429);
    answer.header(b"Via", b"1.1 google");
    answer.header(b"X-RateLimit-Scope", scope);
    answer.header(b"Retry-After", b"0.001");
    answer.error_body(if scope == b"global" {
        br#"{"global":true}"#
    } else {
        b"{}"
    });
    answer
}

/// Lets all four requests go, none of which is answered.
fn order(limiter: &Local, mut now: Instant, out: &mut Outputs) -> Vec<u32> {
    let mut order = Vec::new();
    while order.len() < 4 {
        for (slot, permit) in goes(out) {
            order.push(slot);
            limiter.no_answer(now, permit, false, out);
        }
        if out.is_empty() {
            now = now.max(limiter.next_deadline(0).expect("somebody waits"));
            limiter.tick(now, 0, out);
        }
    }
    order
}

#[test]
fn a_worker_whose_clock_reading_is_older_puts_nobody_before_those_who_came_earlier() {
    let (limiter, mut out) = of(1, 1);
    let first = go(limiter.acquire(ms(1000), &ask(1, 1), &mut out));
    for (slot, clock) in [(2, 1000), (3, 1000), (4, 999)] {
        waits(&limiter.acquire(ms(clock), &ask(slot, 1), &mut out));
    }
    let mut again = answer(2, 0, 5_001.0, 0.001);
    again.status = 429;
    again.error_body(br#"{"retry_after": 0}"#);
    limiter.requeue(ms(1000), first, &again, &ask(1, 1), &mut out);
    assert_eq!(order(&limiter, ms(1000), &mut out), [1, 2, 3, 4]);
}

#[test]
fn one_that_is_put_back_takes_along_who_asked_later() {
    let (limiter, mut out) = of(50, 3);
    let first = go(limiter.acquire(ms(999), &ask(1, 2), &mut out));
    let second = go(limiter.acquire(ms(1000), &ask(2, 1), &mut out));
    let mut global = limited(b"global");
    global.header(b"X-RateLimit-Bucket", b"abc");
    limiter.requeue(ms(1000), first, &global, &ask(1, 2), &mut out);
    // In line for the paused window, with its slot of the bucket.
    waits(&limiter.acquire(ms(1000), &ask(3, 1), &mut out));
    limiter.requeue(ms(1000), second, &limited(b"user"), &ask(2, 1), &mut out);
    waits(&limiter.acquire(ms(1000), &ask(4, 1), &mut out));
    let order = order(&limiter, ms(1000), &mut out);
    let of_route: Vec<u32> = order.into_iter().filter(|&slot| slot != 1).collect();
    assert_eq!(of_route, [2, 3, 4]);
}

#[test]
fn a_change_waits_for_one_of_its_route_that_went_unknown_beside_another_route() {
    let (limiter, mut out) = of(50, 3);
    let change = |slot| Ask {
        serial: true,
        ..ask(slot, 1)
    };
    let first = go(limiter.acquire(ms(1000), &change(1), &mut out));
    let other = go(limiter.acquire(ms(1000), &ask(2, 2), &mut out));
    limiter.no_answer(ms(1010), other, false, &mut out);
    // Meanwhile another bot learns the route's bucket.
    let mut elsewhere = ask(3, 1);
    elsewhere.key.identity = 2;
    let elsewhere = go(limiter.acquire(ms(1010), &elsewhere, &mut out));
    limiter.report(ms(1020), elsewhere, &answer(5, 4, 5_006.0, 5.0), &mut out);
    waits(&limiter.acquire(ms(1030), &change(4), &mut out));
    limiter.no_answer(ms(1040), first, true, &mut out);
    // It may have taken the only slot of a window of which nothing is known.
    limiter.tick(ms(2039), 0, &mut out);
    assert_eq!(goes(&mut out).len(), 0);
    limiter.tick(ms(2041), 0, &mut out);
    assert_eq!(goes(&mut out).len(), 1);
}
