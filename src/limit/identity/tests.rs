use super::*;
use crate::limit::ask::{Ask, BucketKey, ClientClass};

const fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn identities(identities_max: usize) -> (Identities, Outputs) {
    let settings = Settings {
        identities_max,
        ..Settings::default()
    };
    (Identities::new(0, &settings, 1), Outputs::new())
}

/// Takes a slot for a request that asks now; `None` if it waits.
fn take(ids: &mut Identities, slot: u32, client: ClientClass, out: &mut Outputs) -> Option<Permit> {
    let ask = Ask {
        ticket: Ticket {
            worker: 0,
            slot,
            generation: 0,
        },
        key: BucketKey {
            identity: 1,
            major: 1,
            route: 1,
        },
        client,
        counts_globally: true,
        serial: false,
        max_wait: None,
    };
    let permit = Permit::for_ask(&ask, ms(1000));
    match ids.take(ms(1000), ask.ticket, permit, true, out) {
        Step::Ready(permit) => Some(permit),
        Step::Waits => None,
        Step::Refused(_, refusal) => panic!("{refusal:?}"),
    }
}

#[test]
fn while_the_budget_shrinks_a_token_that_never_worked_goes_a_few_at_a_time() {
    let (mut ids, mut out) = identities(9);
    let bot = ClientClass::Bot { user_id: None };
    let taken: Vec<_> = (0..8)
        .filter_map(|slot| take(&mut ids, slot, bot, &mut out))
        .collect();
    assert_eq!((taken.len(), out.granted.len()), (3, 0));
    // Neither shows that the token works.
    ids.answered(ms(1010), &taken[0], &Answer::new(429), &mut out);
    ids.answered(ms(1011), &taken[1], &Answer::new(502), &mut out);
    assert_eq!(out.granted.len(), 2);
    ids.answered(ms(1012), &taken[2], &Answer::new(404), &mut out);
    assert_eq!(out.granted.len(), 5, "it works");
}

#[test]
fn who_has_no_token_is_not_held_back_and_a_refused_token_does_not_work() {
    let (mut ids, mut out) = identities(9);
    let taken = (0..8).filter_map(|slot| take(&mut ids, slot, ClientClass::Anonymous, &mut out));
    assert_eq!(taken.count(), 8);
    let (mut ids, mut out) = identities(9);
    let bot = ClientClass::Bot { user_id: None };
    let refused = take(&mut ids, 0, bot, &mut out).unwrap();
    ids.answered(ms(1010), &refused, &Answer::new(401), &mut out);
    ids.confirmed(ms(1011), 1, true);
    let taken = (1..8).filter_map(|slot| take(&mut ids, slot, bot, &mut out));
    assert_eq!(taken.count(), 3);
}

#[test]
fn whole_seconds_say_nothing_of_the_clock() {
    for (reset, says) in [(&b"5005"[..], false), (b"5005.000", true)] {
        let (mut ids, mut out) = identities(9);
        let bot = ClientClass::Bot { user_id: None };
        let permit = take(&mut ids, 0, bot, &mut out).unwrap();
        let mut answer = Answer::new(200);
        answer.header(b"X-RateLimit-Reset", reset);
        answer.header(b"X-RateLimit-Reset-After", b"1");
        ids.answered(ms(1040), &permit, &answer, &mut out);
        let offset = &ids.arena[permit.identity].offset;
        assert_eq!(offset.aim(5_000_000).is_some(), says);
    }
}

#[test]
fn what_is_kept_of_identities_is_bounded_and_pressure_that_ended_is_forgotten() {
    let (mut ids, mut out) = identities(9);
    (0..20).for_each(|identity| ids.set_limit(ms(1000), identity, 60, &mut out));
    assert_eq!(ids.learned_limits.len(), 9);
    ids.set_limit(ms(1000), 3, 70, &mut out);
    assert_eq!(ids.learned_limits.get(&key_of(3)), Some(&70));
    let (none, some) = (
        Pressure::default(),
        Pressure::new(5, 1, 1, Duration::from_secs(1)),
    );
    ids.press(3, none, some);
    assert_eq!(ids.pressures.len(), 1);
    ids.press(3, some, none);
    assert!(ids.pressures.is_empty());
}
