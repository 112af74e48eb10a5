use super::*;

const fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

#[test]
fn slots_return_one_period_after_arrival_and_never_before() {
    let mut window = Window::new(ms(1000), 2);
    let a = window.take(ms(1000)).unwrap();
    let b = window.take(ms(1000)).unwrap();
    assert!(window.take(ms(1100)).is_none());
    window.settle(ms(1040), a, Some(ms(1020)));
    assert_eq!(window.next_release(ms(1050)), Some(ms(2020)));
    assert!(window.take(ms(2019)).is_none());
    assert!(window.take(ms(2020)).is_some());
    assert!(window.take(ms(2020)).is_none());
    // No answer: the slowest arrival is assumed.
    assert_eq!(window.next_release(ms(2021)), Some(ms(2252)));
    assert!(window.take(ms(2252)).is_some());
    window.settle(ms(2300), b, Some(ms(2300)));
    window.check_invariants();
    assert!(window.take(ms(60_000)).is_some() && window.used == 1);
}

#[test]
fn a_slot_that_was_not_used_returns_at_once() {
    let mut window = Window::new(ms(1000), 1);
    let slot = window.take(ms(1000)).unwrap();
    window.give_back(ms(1001), slot);
    assert!(window.take(ms(1001)).is_some());
    window.check_invariants();
}

#[test]
fn an_answer_that_tells_of_a_slow_way_puts_the_release_off() {
    let mut window = Window::new(ms(1000), 2);
    let told = window.take(ms(1000)).unwrap();
    let untold = window.take(ms(1000)).unwrap();
    window.settle(ms(1700), told, Some(ms(1600)));
    // It may have been counted long before: what was promised holds.
    window.settle(ms(1700), untold, None);
    window.check_invariants();
    assert_eq!(window.next_release(ms(1700)), Some(ms(2252)));
    assert!(window.take(ms(2252)).is_some());
    assert!(window.take(ms(2599)).is_none());
    assert!(window.take(ms(2600)).is_some());
}

#[test]
fn a_held_slot_returns_one_period_after_its_request_departed() {
    let mut window = Window::new(ms(1000), 1);
    let slot = window.take(ms(1000)).unwrap();
    assert!(window.hold(ms(1000), slot, false));
    window.check_invariants();
    assert_eq!(window.next_release(ms(1001)), None);
    assert!(window.take(ms(2900)).is_none());
    let slot = window.depart(ms(3000));
    window.check_invariants();
    assert_eq!(window.next_release(ms(3000)), Some(ms(4252)));
    window.settle(ms(3040), slot, Some(ms(3020)));
    assert_eq!(window.next_release(ms(3040)), Some(ms(4020)));
    assert!(window.take(ms(4020)).is_some());
    window.check_invariants();
}

#[test]
fn a_slot_that_was_given_on_is_taken_again_beyond_the_limit() {
    let mut window = Window::new(ms(1000), 2);
    let first = window.take(ms(1000)).unwrap();
    window.take(ms(1400)).unwrap();
    window.take(ms(2252)).unwrap();
    assert!(window.hold(ms(2300), first, false));
    window.depart(ms(2300));
    window.check_invariants();
    assert_eq!(window.used, 3);
    // The second's return is not enough, the third's is.
    assert_eq!(window.next_release(ms(2300)), Some(ms(3504)));
    let wait = window.predicted_wait(ms(2300), 0, Duration::ZERO);
    assert!(wait > Duration::from_millis(352), "{wait:?}");
    assert!(window.take(ms(2660)).is_none());
    assert!(window.take(ms(3504)).is_some());
}

#[test]
fn a_request_that_is_sent_again_has_two_slots() {
    let mut window = Window::new(ms(1000), 2);
    let slot = window.take(ms(1000)).unwrap();
    assert!(window.hold(ms(1100), slot, true));
    let again = window.depart(ms(1200));
    window.settle(ms(1240), again, Some(ms(1220)));
    window.check_invariants();
    assert!(window.take(ms(2200)).is_none());
    assert!(window.take(ms(2220)).is_some());
    assert!(window.take(ms(2251)).is_none());
    assert!(window.take(ms(2252)).is_some());
}

#[test]
fn who_waits_for_held_slots_is_told_a_period_at_least() {
    let mut window = Window::new(ms(1000), 2);
    for _ in 0..2 {
        let slot = window.take(ms(1000)).unwrap();
        assert!(window.hold(ms(1000), slot, false));
    }
    let lag = Duration::from_millis(20);
    for ahead in [0, 1] {
        assert_eq!(
            window.predicted_wait(ms(1100), ahead, lag),
            Duration::from_millis(1020)
        );
    }
    assert_eq!(
        window.predicted_wait(ms(1100), 2, lag),
        Duration::from_millis(2040)
    );
}

#[test]
fn the_margin_grows_with_each_global_429_and_shrinks_again() {
    let mut window = Window::new(ms(1000), 1);
    window.widen(ms(1000));
    window.widen(ms(1000));
    let slot = window.take(ms(1000)).unwrap();
    window.settle(ms(1020), slot, Some(ms(1020)));
    assert_eq!(window.next_release(ms(1020)), Some(ms(2060)));
    (0..20).for_each(|_| window.widen(ms(1000)));
    assert_eq!(window.margin(ms(1000)), MARGIN_MAX);
    assert_eq!(window.margin(ms(61_000)), MARGIN_MAX / 2);
    assert!(window.margin(ms(3_601_000)) < Duration::from_micros(1));
}
