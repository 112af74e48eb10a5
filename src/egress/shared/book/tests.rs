//! The book alone, step by step; `simulation` has many of them before one Redis.

use super::*;

mod model;
mod simulation;

const A: &str = "weir-a";
const B: &str = "weir-b";

fn rules(fail: RedisFail) -> Rules {
    Rules {
        fail,
        max_lifetime: Duration::from_secs(60),
        patience: Duration::from_millis(500),
        introduction: Duration::from_millis(2_000),
    }
}

fn host() -> HostKey {
    HostKey::parse("a").unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// A fleet whose workers were seen then, by a Redis that was started at 100.
fn roster(workers: &[(&str, i64)], settle_ms: u64) -> Roster {
    Roster {
        workers: workers
            .iter()
            .map(|&(name, seen)| (name.into(), seen))
            .collect(),
        since: 100,
        settle: Duration::from_millis(settle_ms),
        known: true,
    }
}

/// A book that shares already.
fn shared(fail: RedisFail) -> Book<u32> {
    let mut book = Book::new(A.into(), rules(fail));
    book.joining();
    assert!(book.next_round().is_empty());
    assert!(book.seen(at(0), &roster(&[(A, 200), (B, 200)], 0)));
    assert_eq!(book.standing(), Standing::Shared);
    book
}

fn answers(book: &mut Book<u32>) -> Vec<(u32, Verdict)> {
    book.check_invariants();
    std::iter::from_fn(|| book.poll_answer())
        .map(|answer| (answer.asker, answer.verdict))
        .collect()
}

fn only(mut ops: Vec<Op>) -> Op {
    assert_eq!(ops.len(), 1, "{ops:?}");
    ops.remove(0)
}

#[test]
fn all_who_ask_while_a_write_is_under_way_go_with_the_next_one_in_their_order() {
    let mut book = shared(RedisFail::Closed);
    book.ask(at(0), &host(), 4, 1);
    let first = only(book.next_round());
    assert_eq!(
        (first.held, first.wanted, first.cap, first.most),
        (0, 1, 4, 4)
    );
    (2..7).for_each(|asker| book.ask(at(1), &host(), 4, asker));
    assert!(answers(&mut book).is_empty());
    book.done(at(2), &first, 1, 2);
    assert_eq!(answers(&mut book), [(1, Verdict::Granted)]);
    assert_eq!(book.active(&host()), 3);
    let second = only(book.next_round());
    assert_eq!((second.held, second.wanted), (1, 5));
    book.done(at(3), &second, 1, 2);
    let full = |asker| (asker, Verdict::Full);
    assert_eq!(
        answers(&mut book),
        [(2, Verdict::Granted), full(3), full(4), full(5), full(6)]
    );
    assert!(!book.is_due());
    book.give_back(&host());
    assert_eq!(only(book.next_round()).held, 1);
}

#[test]
fn a_place_that_comes_too_late_is_given_back_with_the_next_write() {
    let mut book = shared(RedisFail::Closed);
    book.ask(at(0), &host(), 4, 1);
    let op = only(book.next_round());
    assert_eq!(book.next_deadline(), at(500));
    book.tick(at(499));
    assert!(answers(&mut book).is_empty());
    book.tick(at(500));
    assert_eq!(answers(&mut book), [(1, Verdict::Refused)]);
    book.done(at(501), &op, 1, 0);
    assert_eq!(book.counters().late_grants, 1);
    let op = only(book.next_round());
    assert_eq!((op.held, op.wanted), (0, 0));
    book.done(at(502), &op, 0, 0);
    assert!(
        book.hosts.is_empty(),
        "nothing is kept of a host without connections"
    );
    // Or somebody who came later gets it.
    book.ask(at(600), &host(), 4, 2);
    let op = only(book.next_round());
    book.tick(at(1_100));
    book.ask(at(1_101), &host(), 4, 3);
    book.done(at(1_102), &op, 1, 0);
    assert_eq!(
        answers(&mut book),
        [(2, Verdict::Refused), (3, Verdict::Granted)]
    );
}

#[test]
fn after_a_lost_connection_all_is_written_before_anything_is_asked_for() {
    let mut book = shared(RedisFail::Local);
    (0..3).for_each(|asker| book.ask(at(0), &host(), 9, asker));
    let op = only(book.next_round());
    book.done(at(1), &op, 3, 0);
    answers(&mut book);
    book.ask(at(2), &host(), 9, 7);
    book.next_round();
    book.lost();
    // Two proxies: five of nine for the first of them.
    assert_eq!(answers(&mut book), [(7, Verdict::Granted)]);
    book.ask(at(3), &host(), 9, 8);
    book.ask(at(3), &host(), 9, 9);
    let expected = [(8, Verdict::Granted), (9, Verdict::Full)];
    assert_eq!(answers(&mut book), expected);
    book.give_back(&host());
    assert!(book.next_round().is_empty() && !book.is_due());
    book.joining();
    book.ask(at(4), &host(), 9, 10);
    let op = only(book.next_round());
    assert_eq!((op.held, op.wanted), (4, 0));
    book.done(at(5), &op, 0, 0);
    assert!(!book.is_due());
    assert!(book.seen(at(6), &roster(&[(A, 206), (B, 206)], 3_000)));
    assert_eq!(book.standing(), Standing::Shared, "all are back");
    assert_eq!(only(book.next_round()).wanted, 1);
}

#[test]
fn a_redis_that_began_anew_grants_nothing_beyond_a_part_until_all_are_back_or_time_is_up() {
    for (fail, wanted, most) in [
        (RedisFail::Closed, 0, 0),
        (RedisFail::Local, 1, 5),
        (RedisFail::Open, 1, 9),
    ] {
        let mut book = shared(fail);
        book.lost();
        book.joining();
        assert!(book.seen(at(0), &roster(&[(A, 210)], 3_000)));
        assert_eq!(book.standing(), Standing::Settling);
        book.ask(at(1), &host(), 9, 1);
        let ops = book.next_round();
        assert_eq!(
            ops.iter().map(|op| op.wanted).sum::<u32>(),
            wanted,
            "{fail:?}"
        );
        assert!(ops.iter().all(|op| op.most == most), "{fail:?}");
        for op in ops {
            book.done(at(2), &op, 1, 0);
        }
        // Seen before Redis began anew.
        assert!(book.seen(at(100), &roster(&[(A, 310), (B, 99)], 2_900)));
        assert_eq!(book.standing(), Standing::Settling, "B has not told");
        assert!(book.seen(at(200), &roster(&[(A, 410), (B, 400)], 2_800)));
        assert_eq!(book.standing(), Standing::Shared);
        book.check_invariants();

        let mut late = shared(fail);
        late.lost();
        late.joining();
        assert!(late.seen(at(0), &roster(&[(A, 210)], 3_000)));
        assert_eq!(late.next_deadline(), at(3_000));
        late.tick(at(3_000));
        assert_eq!(late.standing(), Standing::Shared, "B will not come");
    }
}

#[test]
fn who_may_not_know_all_of_the_fleet_waits_until_a_new_redis_has_settled() {
    let everybody = [(A, 210), (B, 210)];
    let settles = |mut book: Book<u32>, now: u64| {
        book.joining();
        assert!(book.seen(at(now), &roster(&everybody, 3_000)));
        assert!(book.seen(at(now + 1), &roster(&everybody, 2_999)));
        book.standing()
    };
    let known = |change: fn(&mut Book<u32>)| {
        let mut book = shared(RedisFail::Local);
        change(&mut book);
        book.lost();
        book
    };
    assert_eq!(settles(known(|_| ()), 2_000), Standing::Shared);
    let new = Book::new(A.into(), rules(RedisFail::Local));
    assert_eq!(settles(new, 0), Standing::Settling, "never told");
    assert_eq!(
        settles(known(|_| ()), 2_001),
        Standing::Settling,
        "long ago"
    );
    let unheard = known(Book::greets);
    assert_eq!(
        settles(unheard, 10),
        Standing::Settling,
        "what was said was lost"
    );
}

#[test]
fn a_new_proxy_is_given_no_place_before_all_have_heard_of_it() {
    let mut book = Book::<u32>::new(A.into(), rules(RedisFail::Closed));
    book.joining();
    assert!(book.seen(at(0), &roster(&[(A, 300), (B, 299), ("worker-1-1", 1)], 0)));
    assert_eq!(book.standing(), Standing::Settling);
    book.seen(
        at(100),
        &roster(&[(A, 400), (B, 300), ("worker-1-1", 1)], 0),
    );
    assert_eq!(book.standing(), Standing::Shared);
    assert_eq!((book.counters().fleet, book.counters().foreign), (3, 1));
    let mut waits = Book::<u32>::new(A.into(), rules(RedisFail::Closed));
    waits.joining();
    assert!(waits.seen(at(0), &roster(&[(A, 300), (B, 299)], 0)));
    waits.tick(at(2_000));
    assert_eq!(waits.standing(), Standing::Shared, "B is dead");
}

#[test]
fn what_is_open_is_renewed_and_what_redis_forgot_by_itself_is_forgotten() {
    let mut book = shared(RedisFail::Local);
    book.ask(at(0), &host(), 0, 1);
    let op = only(book.next_round());
    book.done(at(1), &op, 0, 0);
    assert_eq!(book.next_deadline(), at(10_000));
    book.tick(at(9_999));
    assert!(!book.is_due());
    book.tick(at(10_000));
    let op = only(book.next_round());
    assert_eq!((op.held, op.wanted), (1, 0));
    book.done(at(10_001), &op, 0, 0);
    assert!(!book.is_due());
    book.lost();
    book.give_back(&host());
    book.tick(at(20_001));
    assert_eq!(
        book.told_hosts().count(),
        1,
        "its counter may still be there"
    );
    book.tick(at(80_002));
    assert!(book.hosts.is_empty());
}

#[test]
fn a_full_queue_and_the_end_refuse() {
    let mut book = shared(RedisFail::Open);
    let many = u32::try_from(ASKS_MAX).unwrap();
    (0..many).for_each(|asker| book.ask(at(0), &host(), 1, asker));
    assert!(answers(&mut book).is_empty());
    book.ask(at(0), &host(), 1, many);
    assert_eq!(answers(&mut book), [(many, Verdict::Refused)]);
    assert_eq!(book.next_round()[0].wanted as usize, WANTED_MAX);
    book.close();
    let refused = answers(&mut book);
    assert_eq!(refused.len(), ASKS_MAX);
    assert!(
        refused
            .iter()
            .all(|(_, verdict)| *verdict == Verdict::Refused)
    );
}

#[test]
fn a_round_has_so_many_hosts_and_the_others_come_next() {
    let mut book = shared(RedisFail::Closed);
    for number in 0..ROUND_HOSTS_MAX + 1 {
        let host = HostKey::parse(&format!("h{number}.example")).unwrap();
        book.ask(at(0), &host, 1, 0);
    }
    assert_eq!(book.next_round().len(), ROUND_HOSTS_MAX);
    assert_eq!(book.next_round().len(), 1);
    assert!(book.next_round().is_empty());
}
