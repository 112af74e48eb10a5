use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

fn host(text: &str) -> HostKey {
    HostKey::parse(text).unwrap()
}

fn at_ms(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn outputs(lines: &mut Lines) -> Vec<Output> {
    lines.check_invariants();
    std::iter::from_fn(|| lines.poll_output()).collect()
}

fn told(ticket: u64, host: &HostKey, outcome: Outcome) -> Output {
    Output::Tell(Ticket(ticket), host.clone(), outcome)
}

#[test]
fn places_go_to_those_in_front_whichever_ask_was_granted() {
    let (mut lines, a) = (Lines::default(), host("a.example"));
    let ask = Output::Ask(a.clone());
    for ticket in 0..3 {
        lines.enter(&a, Ticket(ticket), Some(at_ms(1_000)));
    }
    assert_eq!(outputs(&mut lines), vec![ask.clone(); 3]);
    // The first ask finds the fleet full, the second does not.
    lines.answered(at_ms(1), &a, Verdict::Full);
    lines.answered(at_ms(2), &a, Verdict::Granted);
    assert_eq!(outputs(&mut lines), [told(0, &a, Outcome::Granted)]);
    lines.answered(at_ms(3), &a, Verdict::Full);
    // Whoever comes now is not asked for out of turn.
    lines.enter(&a, Ticket(3), Some(at_ms(1_000)));
    assert_eq!(outputs(&mut lines), []);
    lines.freed(&a);
    assert_eq!(outputs(&mut lines), vec![ask.clone()]);
    lines.answered(at_ms(4), &a, Verdict::Granted);
    assert_eq!(outputs(&mut lines), [told(1, &a, Outcome::Granted)]);
    lines.tick(at_ms(40));
    assert_eq!(outputs(&mut lines), [], "not before its time");
    lines.tick(at_ms(60));
    assert_eq!(outputs(&mut lines), vec![ask; 2]);
    lines.answered(at_ms(61), &a, Verdict::Granted);
    lines.answered(at_ms(61), &a, Verdict::Granted);
    let rest = [2, 3].map(|ticket| told(ticket, &a, Outcome::Granted));
    assert_eq!(outputs(&mut lines), rest);
    assert!(lines.hosts.is_empty() && lines.next_deadline(at_ms(61)).is_none());
}

#[test]
fn without_time_to_wait_a_full_fleet_is_told_at_once() {
    let (mut lines, a) = (Lines::default(), host("a.example"));
    lines.enter(&a, Ticket(7), None);
    lines.answered(at_ms(1), &a, Verdict::Full);
    lines.enter(&a, Ticket(8), None);
    lines.answered(at_ms(1), &a, Verdict::Refused);
    let ask = Output::Ask(a.clone());
    assert_eq!(
        outputs(&mut lines),
        [
            ask.clone(),
            told(7, &a, Outcome::Full),
            ask,
            told(8, &a, Outcome::Refused)
        ]
    );
    assert!(lines.hosts.is_empty());
}

#[test]
fn a_place_for_one_that_left_or_waited_too_long_goes_to_the_next_or_back() {
    let (mut lines, a) = (Lines::default(), host("a.example"));
    let left = lines.enter(&a, Ticket(0), Some(at_ms(1_000)));
    lines.enter(&a, Ticket(1), Some(at_ms(100)));
    lines.enter(&a, Ticket(2), Some(at_ms(1_000)));
    assert!(lines.leave(&a, left));
    assert!(!lines.leave(&a, left));
    lines.tick(at_ms(100));
    outputs(&mut lines);
    for _ in 0..3 {
        lines.answered(at_ms(101), &a, Verdict::Granted);
    }
    assert_eq!(
        outputs(&mut lines),
        [
            told(2, &a, Outcome::Granted),
            Output::GiveBack(a.clone()),
            Output::GiveBack(a.clone())
        ]
    );
    assert!(lines.hosts.is_empty() && lines.deadlines.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Enter(bool),
    Answer(bool),
    Leave(usize),
    GiveBack,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Enter),
        4 => any::<bool>().prop_map(Step::Answer),
        1 => (0_usize..20).prop_map(Step::Leave),
        2 => Just(Step::GiveBack),
        2 => (1_u64..200).prop_map(Step::Pass),
    ]
}

proptest! {
    /// A fleet of one proxy with a cap: everybody is told once, no place is lost, and the order holds.
    #[test]
    fn everybody_is_told_once_in_order_and_no_place_is_lost(
        steps in prop::collection::vec(step(), 1..200),
        cap in 1_usize..5,
    ) {
        let (mut lines, a) = (Lines::default(), host("a.example"));
        let (mut now, mut next) = (at_ms(0), 0);
        // Of the fleet: asks under way, places taken; here: who has one.
        let (mut asks, mut taken, mut holders) = (VecDeque::new(), 0, 0);
        let mut waiting: Vec<(u64, Position)> = Vec::new();
        let end = [Step::Pass(1_000_000), Step::Answer(true)];
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Enter(patient) => {
                    let until = patient.then(|| now + Duration::from_millis(300));
                    waiting.push((next, lines.enter(&a, Ticket(next), until)));
                    next += 1;
                }
                Step::Answer(reached) => while let Some(()) = asks.pop_front() {
                    let verdict = match reached {
                        false => Verdict::Refused,
                        true if taken < cap => { taken += 1; Verdict::Granted }
                        true => Verdict::Full,
                    };
                    lines.answered(now, &a, verdict);
                },
                Step::Leave(nth) if nth < waiting.len() => {
                    prop_assert!(lines.leave(&a, waiting.remove(nth).1));
                }
                Step::Leave(_) => {}
                Step::GiveBack => if holders > 0 {
                    holders -= 1;
                    taken -= 1;
                    lines.freed(&a);
                },
                Step::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    lines.tick(now);
                }
            }
            for output in outputs(&mut lines) {
                match output {
                    Output::Ask(_) => asks.push_back(()),
                    Output::GiveBack(_) => taken -= 1,
                    Output::Tell(ticket, _, outcome) => {
                        let at = waiting.iter().position(|(other, _)| *other == ticket.0);
                        let at = at.expect("it is told once");
                        waiting.remove(at);
                        match outcome {
                            Outcome::Granted => { holders += 1; prop_assert_eq!(at, 0); }
                            Outcome::Full | Outcome::Refused => prop_assert_eq!(at, 0),
                            Outcome::TooLate => {}
                        }
                    }
                }
            }
            prop_assert_eq!(lines.waiting(&a), waiting.len());
            prop_assert!(taken <= cap);
            if asks.is_empty() {
                prop_assert_eq!(taken, holders);
            }
        }
        prop_assert!(lines.deadlines.is_empty(), "nobody waits beyond its time");
    }
}
