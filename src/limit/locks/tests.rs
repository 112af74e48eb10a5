//! What is said when a guard acts, what is seen of it, and that it can be undone by hand.

use super::*;
use crate::limit::{
    Answer, Ask, BUDGET, BucketKey, ClientClass, Decision, Notice, Permit, Reason, Settings,
    Ticket, Unlocked,
};

const BOT: u64 = 392_827_169_497_284_619;
const WEBHOOK: u64 = 203_039_963_636_301_824;

const fn s(s: u64) -> Instant {
    Instant::from_millis(s * 1_000)
}

/// A limiter of several shards.
struct World {
    limiter: Limiter<Unlocked>,
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

    fn ask(&mut self, now: Instant, identity: u64, client: ClientClass) -> Decision {
        self.slot += 1;
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: self.slot,
                generation: 0,
            },
            key: BucketKey {
                identity,
                major: u64::from(self.slot),
                route: 1,
            },
            client,
            counts_globally: matches!(client, ClientClass::Bot { .. }),
            serial: false,
            max_wait: None,
        };
        self.limiter.acquire(now, &ask, &mut self.out)
    }

    fn go(&mut self, now: Instant, identity: u64, client: ClientClass) -> Permit {
        match self.ask(now, identity, client) {
            Decision::Go(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&mut self, now: Instant, identity: u64, client: ClientClass) -> Reason {
        match self.ask(now, identity, client) {
            Decision::Refuse(refusal) => refusal.reason,
            other => panic!("{other:?}"),
        }
    }

    /// One request, answered so; what a person hears of it.
    fn answered(&mut self, now: Instant, client: ClientClass, answer: &Answer) -> Vec<Notice> {
        let permit = self.go(now, 1, client);
        self.limiter.report(now, permit, answer, &mut self.out);
        self.heard()
    }

    fn heard(&mut self) -> Vec<Notice> {
        while self.out.pop().is_some() {}
        std::iter::from_fn(|| self.out.pop_notice()).collect()
    }
}

const fn bot() -> ClientClass {
    ClientClass::Bot { user_id: Some(BOT) }
}

const fn webhook() -> ClientClass {
    ClientClass::Webhook { id: Some(WEBHOOK) }
}

fn plain(status: u16) -> Answer {
    let mut answer = Answer::new(status);
    answer.header(b"Via", b"1.1 google");
    answer
}

fn gone() -> Answer {
    let mut answer = plain(404);
    answer.error_body(br#"{"code": 10015}"#);
    answer
}

fn blocked(seconds: &str) -> Answer {
    let mut answer = Answer::new(429);
    answer.header(b"Retry-After", seconds.as_bytes());
    answer
}

#[test]
fn a_locked_token_is_told_of_once_with_its_bot_and_so_is_that_it_works_again() {
    let mut world = World::new();
    assert_eq!(world.answered(s(1), bot(), &plain(401)), []);
    let told = world.limiter.confirmed(s(2), 1, false);
    let wait = Duration::from_secs(300);
    let expected = Notice::TokenLocked {
        user_id: Some(BOT),
        wait,
        confirmed: true,
    };
    assert_eq!(told, Some(expected));
    assert_eq!(world.limiter.confirmed(s(2), 1, false), None, "once");
    // Refused again when it is tried: no news.
    assert_eq!(world.answered(s(302), bot(), &plain(401)), []);
    let works = Notice::TokenWorks { user_id: Some(BOT) };
    assert_eq!(world.answered(s(2_000), bot(), &plain(200)), [works]);
    assert_eq!(world.answered(s(2_001), bot(), &plain(200)), []);
}

#[test]
fn locked_tokens_are_seen_and_opened_one_or_all() {
    let mut world = World::new();
    for identity in 1..=700 {
        let user_id = Some(BOT + identity);
        let permit = world.go(s(1), identity, ClientClass::Bot { user_id });
        world
            .limiter
            .report(s(1), permit, &plain(401), &mut world.out);
        let _notice = world.limiter.confirmed(s(1), identity, false);
    }
    let locked = world.limiter.locked_tokens(s(101));
    assert_eq!(locked.len(), 700, "more than a bite");
    let one = locked.iter().find(|lock| lock.user_id == Some(BOT + 7));
    let one = *one.unwrap();
    assert_eq!(one.left, Duration::from_secs(200));
    assert!(one.confirmed && !one.probing && one.times == 1);
    let of = |identity| ClientClass::Bot {
        user_id: Some(BOT + identity),
    };
    assert_eq!(world.refusal(s(101), 7, of(7)), Reason::Unauthorized);
    assert_eq!(world.limiter.unlock_tokens(s(101), Which::Id(BOT + 7)), 1);
    assert_eq!(world.limiter.unlock_tokens(s(101), Which::Id(BOT + 7)), 0);
    let _permit = world.go(s(101), 7, of(7));
    assert_eq!(world.refusal(s(101), 8, of(8)), Reason::Unauthorized);
    let eight = locked.iter().find(|lock| lock.user_id == Some(BOT + 8));
    let eight = Which::Key(eight.unwrap().key);
    assert_eq!(world.limiter.unlock_tokens(s(101), eight), 1);
    assert_eq!(world.limiter.unlock_tokens(s(101), Which::All), 698);
    let counted = world.limiter.guarded(s(101)).tokens;
    assert_eq!((counted.locked, counted.released), (700, 700));
    assert!(world.limiter.locked_tokens(s(101)).is_empty());
}

#[test]
fn a_dead_webhook_is_told_of_once_seen_by_its_id_and_forgotten_on_demand() {
    let mut world = World::new();
    let two = [world.go(s(1), 1, webhook()), world.go(s(1), 1, webhook())];
    for permit in two {
        world.limiter.report(s(1), permit, &gone(), &mut world.out);
    }
    let died = Notice::WebhookDead {
        id: Some(WEBHOOK),
        wait: Duration::from_secs(3_600),
    };
    assert_eq!(world.heard(), [died], "once, though two were under way");
    assert_eq!(world.refusal(s(2), 1, webhook()), Reason::DeadWebhook);
    let dead = world.limiter.dead_webhooks(s(601));
    assert_eq!(dead.len(), 1);
    assert_eq!(
        (dead[0].id, dead[0].left),
        (Some(WEBHOOK), Duration::from_secs(3_000))
    );
    assert_eq!(world.limiter.forget_webhooks(s(601), Which::Id(7)), 0);
    assert_eq!(world.limiter.forget_webhooks(s(601), Which::Id(WEBHOOK)), 1);
    let _permit = world.go(s(601), 1, webhook());
}

#[test]
fn cloudflares_block_is_told_of_once_and_its_end_and_can_be_forgotten() {
    let mut world = World::new();
    let both = [world.go(s(1), 1, bot()), world.go(s(1), 2, bot())];
    for permit in both {
        world
            .limiter
            .report(s(1), permit, &blocked("30"), &mut world.out);
    }
    let block = |again, seconds| Notice::Blocked {
        wait: Duration::from_secs(seconds),
        again,
    };
    assert_eq!(
        world.heard(),
        [block(false, 30)],
        "one for all that were under way"
    );
    let seen = world.limiter.block(s(11)).unwrap();
    assert_eq!((seen.left, seen.times), (Duration::from_secs(20), 1));
    assert_eq!(
        world.answered(s(31), bot(), &blocked("30")),
        [block(true, 120)],
        "the probe was blocked, too"
    );
    assert_eq!(
        world.answered(s(151), bot(), &plain(200)),
        [Notice::Unblocked]
    );
    assert_eq!(world.limiter.block(s(151)), None);
    assert!(!world.limiter.forget_block(s(151)));

    world.answered(s(200), bot(), &blocked("3000"));
    assert_eq!(world.refusal(s(201), 1, bot()), Reason::Breaker);
    assert!(world.limiter.forget_block(s(201)));
    assert_eq!(world.answered(s(201), bot(), &plain(200)), []);
}

#[test]
fn thresholds_of_the_budget_are_told_of_once_until_it_is_calm_again() {
    let mut world = World::new();
    let mut told = Vec::new();
    let permits: Vec<_> = (0..BUDGET)
        .map(|n| world.go(s(1), u64::from(n), webhook()))
        .collect();
    for (n, permit) in permits.into_iter().enumerate() {
        // Up and down between two thresholds is no news.
        let now = s(2 + n as u64 / 1_000);
        world
            .limiter
            .report(now, permit, &plain(403), &mut world.out);
        told.extend(world.heard());
    }
    let thresholds = [(10, 950), (50, 4_750), (80, 7_600), (100, 9_500)];
    let expected = thresholds.map(|(percent, invalid)| Notice::Budget { percent, invalid });
    assert_eq!(told, expected);
    assert_eq!(world.limiter.invalid(s(20)), BUDGET);
    assert_eq!(world.refusal(s(20), 1, bot()), Reason::Budget);
    assert_eq!(
        world.answered(s(1_000), bot(), &plain(200)),
        [Notice::BudgetCalm]
    );
    assert_eq!(world.answered(s(1_001), bot(), &plain(200)), []);
}

#[test]
fn a_limit_that_is_set_holds_at_once_over_what_was_found_out_and_until_it_is_taken_away() {
    let mut world = World::new();
    let may_go = |world: &mut World, now| {
        let gone = (0..200).map(|_| world.ask(now, 1, bot()));
        let gone: Vec<_> = gone
            .filter(|asked| matches!(asked, Decision::Go(_)))
            .collect();
        let count = gone.len();
        for decision in gone {
            if let Decision::Go(permit) = decision {
                world
                    .limiter
                    .report(now, permit, &plain(200), &mut world.out);
            }
        }
        // Those that waited leave.
        world.limiter = Limiter::new(&Settings::default(), 3);
        count
    };
    assert_eq!(may_go(&mut world, s(1)), 50);

    let _first = world.go(s(10), 1, bot());
    assert_eq!(
        world
            .limiter
            .set_override(s(10), BOT, Some(7), &mut world.out),
        None
    );
    world
        .limiter
        .set_global_limit(s(10), 1, 100, &mut world.out);
    assert_eq!(may_go(&mut world, s(20)), 7, "known when it was set");

    assert_eq!(
        world
            .limiter
            .set_override(s(30), BOT, Some(3), &mut world.out),
        None
    );
    assert_eq!(may_go(&mut world, s(30)), 3, "met afterwards");

    let _first = world.go(s(40), 1, bot());
    world
        .limiter
        .set_override(s(40), BOT, Some(3), &mut world.out);
    world.limiter.set_global_limit(s(40), 1, 60, &mut world.out);
    assert_eq!(
        world.limiter.set_override(s(40), BOT, None, &mut world.out),
        Some(3)
    );
    assert_eq!(
        may_go(&mut world, s(50)),
        60,
        "what was found out holds again"
    );
}

#[test]
fn a_limit_that_is_raised_lets_those_go_who_wait_for_it() {
    let mut world = World::new();
    world
        .limiter
        .set_override(s(1), BOT, Some(1), &mut world.out);
    let _first = world.go(s(1), 1, bot());
    for _ in 0..3 {
        assert!(matches!(world.ask(s(1), 1, bot()), Decision::Wait));
    }
    while world.out.pop().is_some() {}
    world
        .limiter
        .set_override(s(1), BOT, Some(3), &mut world.out);
    let went = std::iter::from_fn(|| world.out.pop())
        .filter(|out| matches!(out, crate::limit::Output::Go { .. }))
        .count();
    assert_eq!(went, 2);
}
