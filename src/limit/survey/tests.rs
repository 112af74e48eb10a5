use super::*;
use crate::limit::{
    Answer, Ask, ClientClass, Decision, Output, Outputs, Permit, Settings, Ticket, Unlocked,
};

type Local = Limiter<Unlocked>;

const fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// A limiter of several shards, with what waits and what goes.
struct World {
    limiter: Local,
    out: Outputs,
    slot: u32,
}

impl World {
    fn new() -> Self {
        Self {
            limiter: Limiter::new(&Settings::default(), 3),
            out: Outputs::new(),
            slot: 0,
        }
    }

    fn ask(&mut self, now: Instant, identity: u64, major: u64) -> Option<Permit> {
        self.slot += 1;
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: self.slot,
                generation: 0,
            },
            key: BucketKey {
                identity,
                major,
                route: 1,
            },
            client: ClientClass::Bot { user_id: Some(7) },
            counts_globally: true,
            serial: false,
            max_wait: None,
        };
        match self.limiter.acquire(now, &ask, &mut self.out) {
            Decision::Go(permit) => Some(permit),
            Decision::Wait => None,
            Decision::Refuse(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Asks so often, of whom one at least goes; it is answered so.
    fn asked_and_answered(&mut self, identity: u64, major: u64, times: u32, answer: &Answer) {
        let first = self.ask(ms(1_000), identity, major).expect("it goes");
        for _ in 1..times {
            assert!(self.ask(ms(1_001), identity, major).is_none());
        }
        self.limiter.report(ms(1_040), first, answer, &mut self.out);
        while self.out.pop().is_some() {}
    }
}

fn answer(status: u16, limit: u32, remaining: u32, after_s: f64) -> Answer {
    let mut answer = Answer::new(status);
    answer.header(b"X-RateLimit-Limit", limit.to_string().as_bytes());
    answer.header(b"X-RateLimit-Remaining", remaining.to_string().as_bytes());
    let reset = 5_000.0 + after_s;
    answer.header(b"X-RateLimit-Reset", format!("{reset:.3}").as_bytes());
    let after = format!("{after_s:.3}");
    answer.header(b"X-RateLimit-Reset-After", after.as_bytes());
    answer.header(b"X-RateLimit-Bucket", b"abc");
    answer.header(b"Via", b"1.1 google");
    answer
}

#[test]
fn a_bucket_that_is_used_up_is_seen_with_who_waits_and_when_it_opens() {
    let mut world = World::new();
    world.asked_and_answered(1, 1, 5, &answer(200, 3, 0, 7.0));
    let seen = world.limiter.blocked(ms(2_040), 10);
    assert_eq!((seen.buckets, seen.held), (1, 0));
    let (key, sight) = seen.top[0];
    assert_eq!((key.identity, key.major), (1, 1));
    assert_eq!((sight.waiting, sight.slots), (4, Some((3, 0))));
    assert_eq!(sight.reading, Reading::Careful);
    let Opens::In(left) = sight.opens else {
        panic!("{sight:?}");
    };
    assert!(
        left > Duration::from_millis(5_900) && left <= Duration::from_millis(6_050),
        "{left:?}"
    );
    let last = sight.last_in;
    assert!(
        last > Duration::from_millis(11_900) && last < Duration::from_secs(14),
        "three go with the next window, the last with the one after: {last:?}"
    );
    assert_eq!(seen.by_sender, BTreeMap::from([(sender_key(1), 4)]));
    assert_eq!(world.limiter.sight(ms(2_040), &key), Some(sight));
    let other = BucketKey { route: 2, ..key };
    assert_eq!(world.limiter.sight(ms(2_040), &other), None);
}

#[test]
fn a_lane_opens_with_the_answer_that_it_waits_for() {
    let mut world = World::new();
    let _first = world.ask(ms(1_000), 1, 1).expect("it goes");
    assert!(world.ask(ms(1_000), 1, 1).is_none());
    let seen = world.limiter.blocked(ms(1_000), 10);
    let (_, sight) = seen.top[0];
    assert_eq!(sight.opens, Opens::AfterAnswer);
    assert_eq!((sight.slots, sight.reading), (None, Reading::Unknown));
    assert_eq!((sight.waiting, sight.under_way), (1, 1));
}

#[test]
fn those_with_most_waiting_come_first_and_the_rest_is_counted() {
    let mut world = World::new();
    for major in 1..=30 {
        let times = u32::try_from(major).unwrap() + 1;
        world.asked_and_answered(major % 2, major, times, &answer(200, 3, 0, 9.0));
    }
    let seen = world.limiter.blocked(ms(1_100), 5);
    assert_eq!(seen.buckets, 30);
    let waiting: Vec<u32> = seen.top.iter().map(|(_, sight)| sight.waiting).collect();
    assert_eq!(waiting, [30, 29, 28, 27, 26]);
    assert_eq!(seen.by_sender.values().sum::<u32>(), (1..=30).sum::<u32>());
    let senders = world.limiter.senders(ms(1_100), 1, &seen.by_sender);
    assert_eq!((senders.tracked, senders.top.len()), (2, 1));
    assert_eq!(senders.top[0].key, sender_key(0), "240 wait, and 225");
}

#[test]
fn slots_that_are_free_are_told_as_they_return() {
    let mut world = World::new();
    let key = BucketKey {
        identity: 1,
        major: 1,
        route: 1,
    };
    world.asked_and_answered(1, 1, 1, &answer(200, 5, 2, 4.0));
    let slots = |at| world.limiter.sight(ms(at), &key).unwrap().slots;
    assert_eq!(slots(1_050), Some((5, 2)));
    assert_eq!(slots(5_100), Some((5, 5)), "its window has ended");
}

#[test]
fn a_sliding_buckets_slots_are_told_as_they_return_one_by_one() {
    let mut world = World::new();
    let key = BucketKey {
        identity: 1,
        major: 1,
        route: 1,
    };
    // The second answer's window ends a second later: each request moves it by one slot.
    for (at, remaining, after_s) in [(1_000, 4, 1.0), (1_050, 3, 1.95)] {
        let permit = world.ask(ms(at), 1, 1).expect("it goes");
        let mut answer = answer(200, 5, remaining, after_s);
        let reset = f64::from(at as u32) / 1_000.0 + 0.02 + after_s;
        answer.header(b"X-RateLimit-Reset", format!("{reset:.3}").as_bytes());
        world
            .limiter
            .report(ms(at + 40), permit, &answer, &mut world.out);
    }
    let sight = |at| world.limiter.sight(ms(at), &key).unwrap();
    assert_eq!(sight(1_100).reading, Reading::Sliding);
    let free = |at| sight(at).slots.unwrap().1;
    assert_eq!([free(1_100), free(2_500), free(3_500)], [3, 4, 5]);
}

#[test]
fn a_window_is_seen_as_full_as_it_is_and_empties_again() {
    let mut world = World::new();
    let permits: Vec<_> = (0..20).filter_map(|n| world.ask(ms(1_000), 1, n)).collect();
    assert_eq!(permits.len(), 20);
    let used = |world: &World, at| {
        let senders = world.limiter.senders(ms(at), 9, &BTreeMap::new());
        (
            senders.top[0].used,
            senders.top[0].under_way,
            senders.top[0].limit,
        )
    };
    assert_eq!(used(&world, 1_010), (20, 20, 50));
    assert_eq!(used(&world, 4_000), (0, 20, 50));
    assert_eq!(used(&world, 9_000_000), (0, 20, 50), "long after");
}

#[test]
fn a_locked_token_is_told_with_its_time_and_a_pause_too() {
    let mut world = World::new();
    let refused = Answer::new(401);
    world.asked_and_answered(1, 1, 1, &refused);
    world.limiter.confirmed(ms(1_050), 1, false);
    let mut global = answer(429, 5, 4, 1.0);
    global.header(b"X-RateLimit-Global", b"true");
    global.header(b"Retry-After", b"3");
    world.asked_and_answered(2, 2, 1, &global);
    let senders = world.limiter.senders(ms(1_060), 9, &BTreeMap::new());
    assert_eq!((senders.locked_count, senders.locked.len()), (1, 1));
    let locked = senders.locked[0];
    assert_eq!(locked.key, sender_key(1));
    let TokenSight::Locked(left) = locked.token else {
        panic!("{locked:?}");
    };
    assert!(left > Duration::from_secs(1), "{left:?}");
    let paused = senders.top.iter().find(|one| one.key == sender_key(2));
    let paused = paused.unwrap().paused;
    assert!(paused > Duration::from_millis(2_900), "{paused:?}");
}

/// A latch that somebody else has.
struct Taken<T>(std::cell::RefCell<T>, std::cell::Cell<bool>);
enum Busy {}

impl Latches for Busy {
    type Latch<T> = Taken<T>;
}

impl<T> Latch<T> for Taken<T> {
    fn new(value: T) -> Self {
        Self(std::cell::RefCell::new(value), std::cell::Cell::new(false))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    fn with_soon<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        (!self.1.get()).then(|| self.with(f))
    }
}

#[test]
fn a_shard_that_somebody_holds_is_passed_over_and_counted() {
    let limiter = Limiter::<Busy>::new(&Settings::default(), 4);
    limiter.shards[2].1.set(true);
    limiter.identities[1].1.set(true);
    let blocked = limiter.blocked(ms(1), 9);
    assert_eq!(blocked.held, 1);
    assert_eq!(limiter.senders(ms(1), 9, &blocked.by_sender).held, 1);
}

#[test]
fn nothing_changes_by_being_looked_at() {
    let mut world = World::new();
    world.asked_and_answered(1, 1, 5, &answer(200, 3, 1, 7.0));
    let census = world.limiter.census(ms(1_100));
    for at in [1_100, 3_000, 9_000] {
        let seen = world.limiter.blocked(ms(at), 9);
        let _senders = world.limiter.senders(ms(at), 9, &seen.by_sender);
    }
    assert_eq!(world.limiter.census(ms(1_100)), census);
    let next = (0..3)
        .filter_map(|shard| world.limiter.next_deadline(shard))
        .min();
    let next = next.expect("somebody waits");
    for shard in 0..3 {
        world.limiter.tick(next, shard, &mut world.out);
    }
    let goes = std::iter::from_fn(|| world.out.pop());
    assert!(
        goes.into_iter()
            .any(|output| matches!(output, Output::Go { .. }))
    );
}
