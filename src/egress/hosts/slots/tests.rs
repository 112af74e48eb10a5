//! The rules one by one, and any sequence of operations against an obvious model.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> HostKey {
    HostKey::parse(text).unwrap()
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

const SECOND: Option<Duration> = Some(Duration::from_secs(1));

fn outputs(slots: &mut Slots) -> Vec<(u64, bool)> {
    let outputs = std::iter::from_fn(|| slots.poll_output());
    outputs
        .map(|output| (output.ticket.0, output.granted))
        .collect()
}

#[test]
fn beyond_the_cap_who_does_not_wait_is_refused() {
    let mut slots = Slots::new(2, []);
    let (a, b) = (key("a.example"), key("b.example"));
    let mut ask = |host| slots.ask(at(0), host, Ticket(0), None);
    assert_eq!([ask(&a), ask(&a)], [Asked::Granted; 2]);
    assert_eq!(ask(&a), Asked::Refused(Why::Full));
    assert_eq!(ask(&b), Asked::Granted, "each host has its own");
    slots.give_back(&a);
    assert_eq!(slots.ask(at(0), &a, Ticket(0), None), Asked::Granted);
    assert_eq!((slots.active(&a), slots.is_full(&a)), (2, true));
    assert_eq!((slots.active(&b), slots.is_full(&b)), (1, false));
    slots.check_invariants();
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let mut slots = Slots::new(1, []);
    let host = key("a.example");
    assert_eq!(slots.ask(at(0), &host, Ticket(0), SECOND), Asked::Granted);
    let places: Vec<_> = (1..=4)
        .map(|ticket| slots.ask(at(ticket), &host, Ticket(ticket), SECOND))
        .collect();
    let Asked::Waiting(second) = places[1] else {
        panic!("{places:?}");
    };
    assert!(slots.cancel(&host, second));
    assert!(!slots.cancel(&host, second), "once");
    slots.give_back(&host);
    assert_eq!(outputs(&mut slots), [(1, true)]);
    slots.give_back(&host);
    slots.give_back(&host);
    assert_eq!(outputs(&mut slots), [(3, true), (4, true)]);
    slots.check_invariants();
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let mut slots = Slots::new(1, []);
    let host = key("a.example");
    let _ = slots.ask(at(0), &host, Ticket(0), SECOND);
    let _ = slots.ask(at(5), &host, Ticket(1), SECOND);
    let _ = slots.ask(at(7), &host, Ticket(2), SECOND);
    assert_eq!(slots.next_deadline(), Some(at(1005)));
    slots.expire(at(1004));
    assert_eq!(outputs(&mut slots), []);
    slots.expire(at(1005));
    assert_eq!(outputs(&mut slots), [(1, false)]);
    assert_eq!(slots.next_deadline(), Some(at(1007)));
    slots.give_back(&host);
    assert_eq!(outputs(&mut slots), [(2, true)]);
    assert_eq!(slots.next_deadline(), None);
    slots.check_invariants();
}

#[test]
fn a_higher_cap_lets_those_in_who_wait_and_a_lower_one_ends_nobody() {
    let mut slots = Slots::new(1, []);
    let host = key("a.example");
    for ticket in 0..4 {
        let _ = slots.ask(at(0), &host, Ticket(ticket), SECOND);
    }
    slots.set_cap(&host, 3).unwrap();
    assert_eq!(outputs(&mut slots), [(1, true), (2, true)]);
    slots.set_cap(&host, 1).unwrap();
    assert_eq!(slots.active(&host), 3);
    slots.give_back(&host);
    slots.give_back(&host);
    assert_eq!(outputs(&mut slots), [], "one is left, which is the cap");
    slots.give_back(&host);
    assert_eq!(outputs(&mut slots), [(3, true)]);
    let _ = slots.ask(at(0), &host, Ticket(4), SECOND);
    assert!(slots.remove_cap(&host) && !slots.remove_cap(&host));
    assert_eq!(outputs(&mut slots), [], "the default is 1 as well");
    slots.set_default_cap(0);
    assert_eq!(outputs(&mut slots), [(4, true)]);
    slots.check_invariants();
}

#[test]
fn a_cap_of_zero_is_none_and_caps_are_bounded() {
    let many = (0..CAPS_MAX).map(|n| (key(&format!("h{n}.example")), 1));
    let mut slots = Slots::new(0, many.clone());
    let host = key("a.example");
    assert_eq!(slots.set_cap(&host, 1), Err(TooManyCaps));
    slots.set_cap(&key("h0.example"), 0).unwrap();
    slots.set_cap(&host, 1).unwrap();
    assert_eq!(slots.cap(&key("h0.example")), 0);
    let more = many.chain([(key("x.example"), 1), (key("y.example"), 0)]);
    assert_eq!(slots.set_caps(more), Err(TooManyCaps));
    assert_eq!(slots.cap(&host), 1, "nothing is changed");
    slots
        .set_caps([(host.clone(), 2), (key("b.example"), 0)])
        .unwrap();
    assert_eq!(slots.caps().collect::<Vec<_>>(), [(&host, 2)]);
    slots.check_invariants();
}

#[test]
fn waiters_are_bounded() {
    let mut slots = Slots::new(1, []);
    let host = key("a.example");
    for ticket in 0..=WAITING_MAX as u64 {
        let asked = slots.ask(at(0), &host, Ticket(ticket), SECOND);
        assert!(!matches!(asked, Asked::Refused(_)));
    }
    let refused = slots.ask(at(0), &host, Ticket(0), SECOND);
    assert_eq!(refused, Asked::Refused(Why::TooManyWaiting));
    slots.check_invariants();
}

#[test]
fn hosts_are_bounded_by_those_with_connections_and_the_others_leave_their_numbers() {
    let mut slots = Slots::new(0, []);
    let host = |n| key(&format!("h{n}.example"));
    for n in 0..HOSTS_MAX {
        assert_eq!(slots.ask(at(0), &host(n), Ticket(0), None), Asked::Granted);
        slots.opened(&host(n));
        slots.moved(&host(n), 1, 2);
    }
    let more = host(HOSTS_MAX);
    let refused = slots.ask(at(0), &more, Ticket(0), None);
    assert_eq!(refused, Asked::Refused(Why::TooManyHosts));
    let (named, others) = slots.tallies();
    assert_eq!(
        (named.len(), others.active),
        (NAMED_MAX, (HOSTS_MAX - NAMED_MAX) as u64)
    );
    slots.give_back(&host(0));
    assert_eq!(slots.ask(at(0), &more, Ticket(0), None), Asked::Granted);
    let (_, others) = slots.tallies();
    assert_eq!(
        others.sent_bytes,
        (HOSTS_MAX - NAMED_MAX + 1) as u64,
        "h0's"
    );
    slots.check_invariants();
}

#[test]
fn a_host_that_never_answered_leaves_nothing_behind() {
    let mut slots = Slots::new(0, []);
    for n in 0..3 {
        let host = key(&format!("h{n}.example"));
        let _ = slots.ask(at(0), &host, Ticket(0), None);
        slots.give_back(&host);
    }
    assert_eq!(slots.hosts.len(), 0);
    slots.check_invariants();
}

/// The same by lists: nothing is indexed, everything is looked for.
#[derive(Default)]
struct Model {
    cap: u32,
    active: u32,
    line: Vec<(u64, Instant)>,
    outputs: Vec<(u64, bool)>,
}

impl Model {
    fn settle(&mut self) {
        while !self.line.is_empty() && (self.cap == 0 || self.active < self.cap) {
            self.active += 1;
            let (ticket, _) = self.line.remove(0);
            self.outputs.push((ticket, true));
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Ask {
        host: usize,
        patience_ms: Option<u16>,
    },
    GiveBack {
        host: usize,
    },
    Cancel {
        nth: usize,
    },
    Expire {
        ms: u16,
    },
    Cap {
        host: usize,
        cap: u32,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let host = 0..3_usize;
    let op = prop_oneof![
        4 => (host.clone(), proptest::option::of(0..50_u16))
            .prop_map(|(host, patience_ms)| Op::Ask { host, patience_ms }),
        3 => host.clone().prop_map(|host| Op::GiveBack { host }),
        1 => (0..8_usize).prop_map(|nth| Op::Cancel { nth }),
        2 => (0..30_u16).prop_map(|ms| Op::Expire { ms }),
        1 => (host, 0..4_u32).prop_map(|(host, cap)| Op::Cap { host, cap }),
    ];
    proptest::collection::vec(op, 0..200)
}

proptest! {
    #[test]
    fn any_sequence_of_operations_gives_what_the_obvious_model_gives(ops in ops()) {
        let hosts = ["a.example", "b.example", "c.example"].map(key);
        let mut slots = Slots::new(2, []);
        let mut models: [Model; 3] = Default::default();
        models.iter_mut().for_each(|model| model.cap = 2);
        let mut places: Vec<(usize, Place, u64)> = Vec::new();
        let mut now = at(1);
        for (ticket, op) in (0..).zip(ops) {
            match op {
                Op::Ask { host, patience_ms } => {
                    let patience = patience_ms.map(|ms| Duration::from_millis(ms.into()));
                    let asked = slots.ask(now, &hosts[host], Ticket(ticket), patience);
                    let model = &mut models[host];
                    let free = model.cap == 0 || model.active < model.cap;
                    match (free, patience) {
                        (true, _) => {
                            model.active += 1;
                            prop_assert_eq!(asked, Asked::Granted);
                        }
                        (false, None) => prop_assert_eq!(asked, Asked::Refused(Why::Full)),
                        (false, Some(patience)) => {
                            let Asked::Waiting(place) = asked else {
                                return Err(TestCaseError::fail(format!("{asked:?}")));
                            };
                            model.line.push((ticket, now + patience));
                            places.push((host, place, ticket));
                        }
                    }
                }
                Op::GiveBack { host } if models[host].active > 0 => {
                    slots.give_back(&hosts[host]);
                    models[host].active -= 1;
                    models[host].settle();
                }
                Op::GiveBack { .. } => {}
                Op::Cancel { nth } => {
                    if let Some(&(host, place, ticket)) = places.get(nth) {
                        let line = &mut models[host].line;
                        let before = line.len();
                        line.retain(|(waiting, _)| *waiting != ticket);
                        prop_assert_eq!(slots.cancel(&hosts[host], place), line.len() < before);
                    }
                }
                Op::Expire { ms } => {
                    now += Duration::from_millis(ms.into());
                    slots.expire(now);
                    for model in &mut models {
                        let ended = model.line.iter().filter(|(_, deadline)| *deadline <= now);
                        model.outputs.extend(ended.map(|(ticket, _)| (*ticket, false)));
                        model.line.retain(|(_, deadline)| *deadline > now);
                    }
                }
                Op::Cap { host, cap } => {
                    slots.set_cap(&hosts[host], cap).unwrap();
                    models[host].cap = if cap == 0 { 2 } else { cap };
                    models[host].settle();
                }
            }
            slots.check_invariants();
            let told: BTreeSet<_> = outputs(&mut slots).into_iter().collect();
            let expected = models.iter_mut().flat_map(|model| model.outputs.drain(..));
            prop_assert_eq!(told, expected.collect::<BTreeSet<_>>());
            for (host, model) in hosts.iter().zip(&models) {
                prop_assert_eq!(slots.active(host), model.active);
            }
        }
    }
}

/// A number generator of the simulation's own, so that a seed is a run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Clients that come, wait, leave, connect for a while and go again, under virtual time. Of each host
/// there are never more than the cap, the line is served in order, and all are served or told in time.
fn simulate(seed: u64) {
    let mut dice = Dice(seed);
    let hosts = ["a.example", "b.example"].map(key);
    let cap = 1 + dice.below(5) as u32;
    let patience = Duration::from_millis(200);
    let mut slots = Slots::new(cap, []);
    let mut now = at(1);
    let mut open: Vec<(Instant, usize)> = Vec::new();
    let mut waiting: Vec<(u64, usize, Place, Instant)> = Vec::new();
    let mut counts = (0_u64, 0_u64, 0_u64, 0_u64);
    for ticket in 0..400 {
        now += Duration::from_millis(dice.below(6));
        let mut ended = Vec::new();
        open.retain(|&(end, host)| {
            let over = end <= now;
            if over {
                ended.push(host);
            }
            !over
        });
        ended.iter().for_each(|&host| slots.give_back(&hosts[host]));
        slots.expire(now);
        if !waiting.is_empty() && dice.below(10) == 0 {
            let (_, host, place, _) = waiting[dice.below(waiting.len() as u64) as usize];
            // It may have been granted just now; then its slot comes with the output.
            if slots.cancel(&hosts[host], place) {
                waiting.retain(|(_, _, known, _)| *known != place);
                counts.3 += 1;
            }
        }
        let host = dice.below(2) as usize;
        match slots.ask(now, &hosts[host], Ticket(ticket), Some(patience)) {
            Asked::Granted => {
                assert!(
                    waiting.iter().all(|(_, waits, ..)| *waits != host) || outputs_pending(&slots),
                    "seed {seed}: somebody was overtaken"
                );
                open.push((now + Duration::from_millis(dice.below(60)), host));
                counts.0 += 1;
            }
            Asked::Waiting(place) => waiting.push((ticket, host, place, now + patience)),
            Asked::Refused(why) => panic!("seed {seed}: {why:?}"),
        }
        while let Some(output) = slots.poll_output() {
            let found = waiting
                .iter()
                .position(|(waits, ..)| *waits == output.ticket.0);
            let (_, host, _, deadline) = waiting.remove(found.expect("it waited"));
            if output.granted {
                let earlier = waiting
                    .iter()
                    .any(|(other, at, ..)| *at == host && *other < output.ticket.0);
                assert!(!earlier, "seed {seed}: out of order");
                open.push((now + Duration::from_millis(dice.below(60)), host));
                counts.1 += 1;
            } else {
                assert!(deadline <= now, "seed {seed}: told too early");
                counts.2 += 1;
            }
        }
        assert!(
            waiting.iter().all(|(_, _, _, deadline)| *deadline > now),
            "seed {seed}: forgotten in line"
        );
        for (at, host) in hosts.iter().enumerate() {
            let active = open.iter().filter(|(_, to)| *to == at).count();
            assert!(active <= cap as usize, "seed {seed}: {active} of {cap}");
            assert_eq!(slots.active(host) as usize, active, "seed {seed}");
        }
        slots.check_invariants();
    }
    let (at_once, later, too_late, left) = counts;
    let all = at_once + later + too_late + left + waiting.len() as u64;
    assert_eq!(all, 400, "seed {seed}: everybody is accounted for");
}

/// Whether somebody has been granted a slot and not been told yet: whoever was in line is served then.
fn outputs_pending(slots: &Slots) -> bool {
    !slots.outputs.is_empty()
}

#[test]
fn hundreds_of_simulated_rushes_keep_the_cap_the_order_and_every_promise() {
    for seed in 0..300 {
        simulate(seed);
    }
}

#[test]
fn a_host_that_is_free_of_the_default_has_no_cap_until_that_is_taken_away() {
    let free = key("free.example");
    let mut slots = Slots::new(1, [(free.clone(), 0)]);
    assert_eq!((slots.cap(&free), slots.cap(&key("a.example"))), (0, 1));
    for ticket in 0..3 {
        let asked = slots.ask(at(0), &free, Ticket(ticket), None);
        assert_eq!(asked, Asked::Granted);
    }
    assert!(!slots.is_full(&free));
    slots.set_cap(&free, 0).unwrap();
    assert_eq!(slots.cap(&free), 1, "the default holds");
    slots.check_invariants();
}
