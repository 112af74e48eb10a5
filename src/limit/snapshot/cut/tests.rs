use super::super::tests::{One, acquire, answer, answered, at, wait_ms};
use super::*;
use crate::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Output, Outputs, Permit, Reason, Settings,
    Ticket,
};
use proptest::prelude::*;
use std::time::Duration;

const SLOT: u16 = 77;
/// The identity that changes hands, and one that does not.
const OURS: u64 = (SLOT as u64) << 32 | 5;
const OTHER: u64 = (SLOT as u64 + 1) << 32 | 5;

fn ask(identity: u64, major: u64, route: u64) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot: 0,
            generation: 0,
        },
        key: BucketKey {
            identity,
            major,
            route,
        },
        client: ClientClass::Bot { user_id: Some(9) },
        counts_globally: true,
        serial: false,
        max_wait: Some(Duration::ZERO),
    }
}

fn limiter() -> One {
    One::new(&Settings::default(), 2)
}

fn ours() -> SlotSet {
    [SLOT].into_iter().collect()
}

fn cut(limiter: &One, now: Instant, room: usize) -> Vec<Vec<u8>> {
    let mut cut = Cut::begin(now, ours());
    let mut parts = Vec::new();
    loop {
        let mut part = Vec::new();
        let more = cut.next(limiter, room, &mut part, || ());
        assert!(part.len() <= room);
        parts.push(part);
        if !more {
            return parts;
        }
    }
}

/// `from` hands over to `to`.
fn hand_over(from: &One, to: &One, now: Instant) -> TakenOver {
    let mut all = TakenOver::default();
    for part in cut(from, now, 16_384) {
        let taken = to.take_over(now, &ours(), &part, true).expect("records");
        all.records += taken.records;
        all.strange += taken.strange;
    }
    all
}

fn goes(limiter: &One, now: Instant, ask: &Ask) -> Option<Permit> {
    match limiter.acquire(now, ask, &mut Outputs::new()) {
        Decision::Go(permit) => Some(permit),
        Decision::Wait | Decision::Refuse(_) => None,
    }
}

/// How many requests go at once, each to a bucket of its own.
fn globally(limiter: &One, now: Instant, identity: u64) -> usize {
    let asks = (0..200).map(|n| ask(identity, now.as_nanos() + n, 7));
    asks.filter_map(|ask| goes(limiter, now, &ask)).count()
}

/// How many go at once to one bucket.
fn width(limiter: &One, now: Instant, ask: &Ask) -> usize {
    std::iter::from_fn(|| goes(limiter, now, ask)).count()
}

#[test]
fn an_exhausted_bucket_is_closed_at_the_new_owner_for_as_long() {
    let (old, new) = (limiter(), limiter());
    answered(&old, at(0), &ask(OURS, 7, 1), &answer(0, 50_000, 10_000));
    assert_eq!(hand_over(&old, &new, at(1_000)).strange, 0);
    let wait = wait_ms(&acquire(&new, at(1_000), &ask(OURS, 7, 1)));
    assert!((9_000..9_010).contains(&wait), "{wait}");
    // And once it is over, it is known how many go.
    assert_eq!(width(&new, at(20_000), &ask(OURS, 7, 1)), 5);
}

#[test]
fn a_bucket_that_both_know_is_as_closed_as_the_more_closed_of_the_two_says() {
    let (open, closed) = (answer(4, 50_000, 10_000), answer(0, 55_000, 15_000));
    for (theirs, own) in [(&open, &closed), (&closed, &open)] {
        let (old, new) = (limiter(), limiter());
        answered(&old, at(0), &ask(OURS, 7, 1), theirs);
        answered(&new, at(0), &ask(OURS, 7, 1), own);
        hand_over(&old, &new, at(1_000));
        let wait = wait_ms(&acquire(&new, at(1_000), &ask(OURS, 7, 1)));
        assert!((14_000..14_010).contains(&wait), "{wait}");
    }
}

#[test]
fn what_was_sent_of_the_global_window_counts_on_and_adds_up() {
    let (old, new) = (limiter(), limiter());
    for route in 0..30 {
        let _ = acquire(&old, at(0), &ask(OURS, route, 1));
    }
    for route in 0..8 {
        let _ = acquire(&new, at(0), &ask(OURS, route, 1));
    }
    hand_over(&old, &new, at(100));
    assert_eq!(globally(&new, at(100), OURS), 50 - 30 - 8);
    let fresh = limiter();
    hand_over(&old, &fresh, at(100));
    assert_eq!(globally(&fresh, at(100), OURS), 20);
    assert_eq!(globally(&fresh, at(3_000), OURS), 50);
}

#[test]
fn a_pause_and_a_locked_token_last_at_the_new_owner() {
    let mut global = Answer::new(429);
    global.header(b"via", b"1.1 google");
    global.header(b"retry-after", b"3");
    global.header(b"x-ratelimit-global", b"true");
    let (old, new, met) = (limiter(), limiter(), limiter());
    answered(&old, at(0), &ask(OURS, 7, 1), &global);
    answered(&met, at(0), &ask(OURS, 8, 1), &Answer::new(200));
    for limiter in [&new, &met] {
        hand_over(&old, limiter, at(1_000));
        let (reason, wait) = acquire(limiter, at(1_000), &ask(OURS, 9, 1)).expect_err("a pause");
        assert_eq!(reason, Reason::TooLong);
        assert!(wait >= Duration::from_millis(2_000), "{wait:?}");
    }
    let (old, new, met) = (limiter(), limiter(), limiter());
    let permit = acquire(&old, at(0), &ask(OURS, 7, 1)).expect("a slot");
    old.report(at(0), permit, &Answer::new(401), &mut Outputs::new());
    old.confirmed(at(100), OURS, false);
    answered(&met, at(0), &ask(OURS, 8, 1), &Answer::new(200));
    for limiter in [&new, &met] {
        hand_over(&old, limiter, at(1_000));
        let (reason, _) = acquire(limiter, at(1_000), &ask(OURS, 9, 1)).expect_err("a lock");
        assert_eq!(reason, Reason::Unauthorized);
    }
}

#[test]
fn other_slots_stay_and_what_is_known_of_routes_goes_to_everybody() {
    let (old, new) = (limiter(), limiter());
    answered(&old, at(0), &ask(OTHER, 7, 1), &answer(0, 50_000, 10_000));
    hand_over(&old, &new, at(1_000));
    // A bucket of its own, not the lane of unknown routes, where the first would hold back the second.
    assert!(acquire(&new, at(1_000), &ask(OTHER, 7, 1)).is_ok());
    assert!(acquire(&new, at(1_000), &ask(OTHER, 7, 2)).is_ok());
    assert!(acquire(&limiter(), at(0), &ask(OTHER, 7, 1)).is_ok());
}

#[test]
fn records_of_slots_that_were_not_named_are_left_out() {
    let (old, new) = (limiter(), limiter());
    answered(&old, at(0), &ask(OURS, 7, 1), &answer(0, 50_000, 10_000));
    let others: SlotSet = [SLOT + 1].into_iter().collect();
    let part = cut(&old, at(0), 16_384).concat();
    let taken = new.take_over(at(0), &others, &part, true).expect("records");
    assert_eq!(
        taken,
        TakenOver {
            records: 1,
            strange: 3,
            ..TakenOver::default()
        }
    );
    assert!(acquire(&new, at(0), &ask(OURS, 7, 1)).is_ok());
}

#[test]
fn garbage_is_told_and_harmless() {
    let new = limiter();
    for bytes in [&[99_u8][..], &[7, 1], &[0xff; 40]] {
        assert_eq!(
            new.take_over(at(0), &ours(), bytes, true),
            Err(Broken::Malformed)
        );
    }
    assert_eq!(
        new.take_over(at(0), &ours(), &[], true),
        Ok(TakenOver::default())
    );
}

#[test]
fn parts_are_as_small_as_asked_for_and_together_say_everything_in_any_order_and_twice() {
    let old = limiter();
    for major in 0..40 {
        answered(
            &old,
            at(0),
            &ask(OURS, major, 1),
            &answer(0, 50_000, 10_000),
        );
    }
    let parts = cut(&old, at(1_000), 200);
    assert!(parts.len() > 10);
    let new = limiter();
    for part in parts.iter().rev().chain(&parts) {
        new.take_over(at(1_000), &ours(), part, true)
            .expect("records");
    }
    for major in 0..40 {
        let wait = wait_ms(&acquire(&new, at(1_000), &ask(OURS, major, 1)));
        assert!((9_000..9_010).contains(&wait), "{wait}");
    }
}

#[test]
fn a_new_owner_to_whom_nobody_told_anything_gives_half_of_the_window_for_one_period() {
    let (met, known) = (limiter(), limiter());
    answered(&known, at(0), &ask(OURS, 7, 1), &Answer::new(200));
    for limiter in [&met, &known] {
        limiter.be_careful(at(5_000), &ours(), || ());
        assert!(
            goes(limiter, at(5_000), &ask(OURS, 1, 1)).is_none(),
            "it waits to be told"
        );
        assert_eq!(globally(limiter, at(5_000), OTHER), 50);
        // Who waits goes first, and lets the next one go, who had to stand behind it.
        let waits = limiter.census(at(5_000)).waiting_for_global;
        assert_eq!(globally(limiter, at(5_150), OURS) + 2 * waits, 25);
        assert_eq!(globally(limiter, at(8_000), OURS), 50);
    }
    // Who is met later than anything from before can count has the whole of it.
    let late = limiter();
    late.be_careful(at(5_000), &ours(), || ());
    assert_eq!(globally(&late, at(7_001), OURS), 50);
}

#[test]
fn what_is_told_takes_the_place_of_care_with_who_was_not_met_yet() {
    let (old, new) = (limiter(), limiter());
    for route in 0..10 {
        let _ = acquire(&old, at(0), &ask(OURS, route, 1));
    }
    new.be_careful(at(100), &ours(), || ());
    hand_over(&old, &new, at(100));
    assert_eq!(globally(&new, at(100), OURS), 40);
    // And with who was.
    let met = limiter();
    met.be_careful(at(100), &ours(), || ());
    assert!(goes(&met, at(100), &ask(OURS, 1, 1)).is_none());
    hand_over(&old, &met, at(110));
    let waits = met.census(at(110)).waiting_for_global;
    assert_eq!(globally(&met, at(260), OURS) + 2 * waits, 40);
}

#[test]
fn a_bucket_that_was_somebody_elses_is_asked_anew() {
    for shelved in [false, true] {
        let known = limiter();
        answered(&known, at(0), &ask(OURS, 7, 1), &answer(4, 41_000, 1_000));
        answered(&known, at(0), &ask(OTHER, 7, 1), &answer(4, 41_000, 1_000));
        let limiter = if shelved {
            let restored = limiter();
            let all = SlotSet::ALL;
            let mut part = Vec::new();
            Cut::begin(at(0), all.clone()).next(&known, 16_384, &mut part, || ());
            restored
                .take_over(at(0), &all, &part, true)
                .expect("records");
            restored
        } else {
            known
        };
        limiter.be_careful(at(5_000), &ours(), || ());
        assert_eq!(width(&limiter, at(9_000), &ask(OTHER, 7, 1)), 5);
        assert_eq!(width(&limiter, at(9_000), &ask(OURS, 7, 1)), 1, "{shelved}");
    }
}

#[test]
fn who_waits_is_served_whatever_is_taken_over_meanwhile() {
    let (old, new) = (limiter(), limiter());
    answered(&old, at(0), &ask(OURS, 7, 1), &answer(0, 50_000, 10_000));
    answered(&new, at(0), &ask(OURS, 7, 1), &answer(0, 42_000, 2_000));
    let mut out = Outputs::new();
    let waiting = Ask {
        max_wait: None,
        ..ask(OURS, 7, 1)
    };
    assert!(matches!(
        new.acquire(at(100), &waiting, &mut out),
        Decision::Wait
    ));
    hand_over(&old, &new, at(200));
    new.be_careful(at(200), &ours(), || ());
    let mut went = None;
    for ms in (0..20_000).step_by(100) {
        for shard in 0..new.shards() {
            new.tick(at(ms), shard, &mut out);
            let _ = new.next_deadline(shard);
        }
        while let Some(output) = out.pop() {
            if let Output::Go { permit, .. } = output {
                went = Some((ms, permit));
            }
        }
        if went.is_some() {
            break;
        }
    }
    let (ms, _permit) = went.expect("it goes");
    assert!((10_000..=10_200).contains(&ms), "{ms}");
}

/// What a node did with the identity before it handed it over.
#[derive(Clone, Debug)]
struct Did {
    ms: u64,
    major: u64,
    remaining: u16,
    after_ms: u64,
}

fn history() -> impl Strategy<Value = Vec<Did>> {
    let one = (0_u64..2_000, 0_u64..3, 0_u16..5, 1_u64..9_000);
    let one = one.prop_map(|(ms, major, remaining, after_ms)| Did {
        ms,
        major,
        remaining,
        after_ms,
    });
    prop::collection::vec(one, 0..12).prop_map(|mut all| {
        all.sort_by_key(|did| did.ms);
        all
    })
}

fn lived(history: &[Did]) -> One {
    let limiter = limiter();
    for did in history {
        let ask = ask(OURS, did.major, 1);
        if let Ok(permit) = acquire(&limiter, at(did.ms), &ask) {
            let answer = answer(did.remaining, 40_000 + did.ms + did.after_ms, did.after_ms);
            limiter.report(at(did.ms), permit, &answer, &mut Outputs::new());
        }
    }
    limiter
}

proptest! {
    #[test]
    fn after_a_hand_over_nothing_goes_that_either_would_have_held_back(
        theirs in history(), own in history(), after in 0_u64..4_000,
    ) {
        let now = at(2_000 + after);
        for major in 0..3 {
            let ask = ask(OURS, major, 1);
            let knows = |history: &[Did]| history.iter().any(|did| did.major == major);
            let new = lived(&own);
            hand_over(&lived(&theirs), &new, now);
            let both = width(&new, now, &ask);
            let mut most = usize::MAX;
            for history in [&theirs, &own] {
                if knows(history) {
                    most = most.min(width(&lived(history), now, &ask));
                }
            }
            prop_assert!(both <= most.max(1), "{both} of {most}");
            if most == 0 {
                prop_assert_eq!(both, 0);
            }
        }
        let (mut sent, new) = (0, lived(&own));
        hand_over(&lived(&theirs), &new, now);
        for history in [&theirs, &own] {
            sent += 50 - globally(&lived(history), now, OURS);
        }
        prop_assert!(globally(&new, now, OURS) <= 50 - sent.min(50));
    }
}

/// Who waits at a new owner until it has been told, or would have been.
fn asks_before_told(new: &One, asks: &[Ask]) {
    asks_before_told_at(new, at(0), asks);
}

fn asks_before_told_at(new: &One, now: Instant, asks: &[Ask]) {
    new.be_careful(now, &ours(), || ());
    for ask in asks {
        let ask = Ask {
            max_wait: None,
            ..*ask
        };
        let decision = new.acquire(now, &ask, &mut Outputs::new());
        assert!(matches!(decision, Decision::Wait), "{decision:?}");
    }
}

/// The routes that go by then.
fn gone(new: &One, now: Instant) -> Vec<u64> {
    let mut out = Outputs::new();
    (0..2).for_each(|shard| new.tick(now, shard, &mut out));
    let gone = std::iter::from_fn(|| out.pop());
    gone.filter_map(|output| match output {
        Output::Go { permit, .. } => Some(permit.key.route),
        _ => None,
    })
    .collect()
}

fn number(slot: u32, ask: Ask) -> Ask {
    let ticket = Ticket { slot, ..ask.ticket };
    Ask { ticket, ..ask }
}

#[test]
fn who_waited_to_be_told_does_not_go_where_the_limit_turns_out_to_be_used_up() {
    for is_hinted in [false, true] {
        let (old, new) = (limiter(), limiter());
        answered(&old, at(0), &ask(OURS, 7, 1), &answer(0, 50_000, 10_000));
        if is_hinted {
            // Another identity's answers have told what the route's limit is called.
            answered(&new, at(0), &ask(OTHER, 7, 1), &answer(4, 50_000, 10_000));
        }
        asks_before_told(
            &new,
            &[
                number(1, ask(OURS, 7, 1)),
                number(2, ask(OURS, 7, 1)),
                number(3, ask(OURS, 7, 2)),
            ],
        );
        hand_over(&old, &new, at(50));
        // Of the other route nothing is known.
        assert_eq!(gone(&new, at(200)), [2], "{is_hinted}");
        assert_eq!(gone(&new, at(9_000)), [0; 0], "{is_hinted}");
        assert_eq!(gone(&new, at(10_200)), [1, 1], "{is_hinted}");
    }
}

#[test]
fn an_unknown_route_that_waited_to_be_told_does_not_fall_into_a_shared_limit_that_is_used_up() {
    let (old, new) = (limiter(), limiter());
    // Two routes of one limit, so that a third may be one of it, too.
    answered(&old, at(0), &ask(OURS, 7, 1), &answer(1, 50_000, 10_000));
    answered(&old, at(0), &ask(OURS, 7, 2), &answer(0, 50_000, 10_000));
    asks_before_told(&new, &[number(1, ask(OURS, 7, 3))]);
    hand_over(&old, &new, at(50));
    assert_eq!(gone(&new, at(200)), [0; 0]);
    assert_eq!(gone(&new, at(10_200)), [3]);
}

#[test]
fn there_is_care_with_one_identity_that_was_met_before_and_with_no_other() {
    let new = limiter();
    for identity in [OURS, OURS + 1] {
        let _ = acquire(&new, at(0), &ask(identity, 1, 1)).expect("a slot");
    }
    new.be_careful_of(at(5_000), OURS);
    assert_eq!(
        globally(&new, at(5_100), OURS),
        0,
        "it may still be told of"
    );
    assert_eq!(globally(&new, at(5_200), OURS), 25);
    assert_eq!(globally(&new, at(5_200), OURS + 1), 50);
}

#[test]
fn a_bucket_that_is_doubted_is_asked_anew_whether_it_is_in_use_or_stands_aside() {
    let (doubted, other) = (ask(OURS, 7, 1), ask(OURS, 8, 1));
    let old = limiter();
    for ask in [&doubted, &other] {
        answered(&old, at(0), ask, &answer(4, 50_000, 10_000));
    }
    let told = limiter();
    hand_over(&old, &told, at(100));
    for limiter in [&old, &told] {
        limiter.doubt(at(1_000), &doubted.key);
        assert_eq!(width(limiter, at(1_000), &doubted), 1);
        assert_eq!(width(limiter, at(1_000), &other), 4);
    }
}

#[test]
fn starts_at_the_gateway_stand_with_their_bots_budget_in_whatever_part() {
    let starts = |bot, count| Starts {
        bot,
        max_concurrency: 16,
        total: 1_000,
        remaining: 7,
        reset_at: Some(at(9_000)),
        taken: (0..count).map(|shard| (shard, at(4_000 + shard))).collect(),
    };
    let all = [
        starts(OURS, 4_000),
        starts(OURS + 1, 0),
        starts(OURS + 2, 1),
    ];
    let elsewhere = [starts(OTHER, 3)];
    let both = [&all[..], &elsewhere].concat();
    let old = limiter();
    let doubted: SlotSet = [SLOT, SLOT + 1].into_iter().collect();
    let mut cut = Cut::begin(at(0), ours()).with_starts(&both, &doubted);
    let (mut told, mut parts) = (Vec::<Starts>::new(), 0);
    let mut doubts = SlotSet::EMPTY;
    let mut more = true;
    while more {
        let mut part = Vec::new();
        more = cut.next(&old, 16_384, &mut part, || ());
        assert!(part.len() <= 16_384);
        parts += 1;
        let taken = limiter().take_over(at(500), &ours(), &part, true);
        let taken = taken.expect("records");
        doubts.add_all(&taken.doubted);
        for starts in taken.starts {
            match told.iter_mut().find(|known| known.bot == starts.bot) {
                Some(known) => known.taken.extend(starts.taken),
                None => told.push(starts),
            }
        }
    }
    assert!(parts > 2);
    assert_eq!(doubts, ours(), "nothing of what is another's");
    // Times count from when they arrive, and two clocks' beats.
    let late = Duration::from_millis(502);
    let late = all.map(|starts| Starts {
        reset_at: starts.reset_at.map(|at| at + late),
        taken: starts
            .taken
            .iter()
            .map(|(s, at)| (*s, *at + late))
            .collect(),
        ..starts
    });
    assert!(told == late);
}

#[test]
fn what_was_told_before_a_node_got_the_slots_takes_nobodys_care_away() {
    let (old, new) = (limiter(), limiter());
    let _ = acquire(&old, at(0), &ask(OURS, 7, 1));
    hand_over(&old, &new, at(100));
    // They were others' again for a minute, and nobody tells what those sent.
    new.be_careful(at(60_000), &ours(), || ());
    assert_eq!(globally(&new, at(60_000), OURS), 0, "it waits to be told");
    let waits = new.census(at(60_000)).waiting_for_global;
    assert_eq!(globally(&new, at(60_150), OURS) + 2 * waits, 25);
    // Who is told of after that is known.
    let told = limiter();
    told.be_careful(at(60_000), &ours(), || ());
    hand_over(&old, &told, at(60_010));
    assert_eq!(globally(&told, at(60_020), OURS), 50);
}

fn of_webhook(identity: u64, route: u64) -> Ask {
    Ask {
        client: ClientClass::Webhook { id: Some(3) },
        counts_globally: false,
        ..ask(identity, 7, route)
    }
}

#[test]
fn a_webhook_waits_to_be_told_as_a_bot_does() {
    for met in [false, true] {
        let (old, new) = (limiter(), limiter());
        answered(
            &old,
            at(0),
            &of_webhook(OURS, 1),
            &answer(0, 50_000, 10_000),
        );
        if met {
            answered(
                &new,
                at(0),
                &of_webhook(OURS, 1),
                &answer(4, 50_000, 10_000),
            );
        }
        new.be_careful(at(1_000), &ours(), || ());
        let waiting = Ask {
            max_wait: None,
            ..of_webhook(OURS, 1)
        };
        let decision = new.acquire(at(1_000), &waiting, &mut Outputs::new());
        assert!(matches!(decision, Decision::Wait), "{decision:?}");
        // Others' slots, and who is asked for no sooner than anybody tells, go on.
        assert!(goes(&new, at(1_000), &of_webhook(OTHER, 1)).is_some());
        let interaction = Ask {
            client: ClientClass::Interaction,
            ..of_webhook(OURS, 2)
        };
        let interaction = Ask {
            key: BucketKey {
                major: 8,
                ..interaction.key
            },
            ..interaction
        };
        assert!(goes(&new, at(1_000), &interaction).is_some());
        hand_over(&old, &new, at(1_010));
        assert!(gone(&new, at(1_150)).is_empty(), "{met}: its bucket is");
        assert_eq!(gone(&new, at(10_100)), [1], "{met}");
    }
}

#[test]
fn a_webhook_of_which_nobody_tells_goes_when_that_takes_too_long() {
    let new = limiter();
    new.be_careful(at(1_000), &ours(), || ());
    let wait = wait_ms(&acquire(&new, at(1_000), &of_webhook(OURS, 1)));
    assert!((149..=151).contains(&wait), "{wait}");
    assert!(acquire(&new, at(1_150), &of_webhook(OURS, 1)).is_ok());
}

/// What those who wait for it are told by then: the reasons.
fn turned_away(new: &One, now: Instant) -> Vec<Reason> {
    let mut out = Outputs::new();
    (0..2).for_each(|shard| new.tick(now, shard, &mut out));
    let gone = std::iter::from_fn(|| out.pop());
    gone.map(|output| match output {
        Output::Refuse { refusal, .. } => refusal.reason,
        other => panic!("{other:?}"),
    })
    .collect()
}

#[test]
fn a_lock_that_is_told_of_turns_away_who_waited_to_be_told() {
    for met in [false, true] {
        let (old, new) = (limiter(), limiter());
        let permit = acquire(&old, at(0), &ask(OURS, 7, 1)).expect("a slot");
        old.report(at(0), permit, &Answer::new(401), &mut Outputs::new());
        old.confirmed(at(100), OURS, false);
        if met {
            answered(&new, at(0), &ask(OURS, 8, 1), &Answer::new(200));
        }
        asks_before_told_at(
            &new,
            at(1_000),
            &[1, 2].map(|n| number(n, ask(OURS, u64::from(n), 1))),
        );
        hand_over(&old, &new, at(1_010));
        assert_eq!(
            turned_away(&new, at(1_150)),
            [Reason::Unauthorized; 2],
            "{met}"
        );
        assert_eq!(new.census(at(1_150)).under_way, 0, "they hold nothing");
    }
}

#[test]
fn a_webhook_that_is_told_to_be_gone_turns_away_who_waited_to_be_told() {
    let (old, new) = (limiter(), limiter());
    let mut unknown = Answer::new(404);
    unknown.error_body(br#"{"message": "Unknown Webhook", "code": 10015}"#);
    answered(&old, at(0), &of_webhook(OURS, 1), &unknown);
    asks_before_told_at(&new, at(1_000), &[of_webhook(OURS, 1)]);
    hand_over(&old, &new, at(1_010));
    assert_eq!(turned_away(&new, at(1_150)), [Reason::DeadWebhook]);
}
