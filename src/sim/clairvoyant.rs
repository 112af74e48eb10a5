//! What can be had of one bucket without ever being early: a sender that knows all but the future.
//!
//! [`ideal`](super::ideal) says what the model would count of a sender whose requests arrive when it
//! likes. Nobody can send so: how long a request's way will be is not known before it has arrived.
//! Who never wants a 429 aims as if the way were the shortest there is, and is late by what it is
//! longer: at 20 ± 10 ms and a slot a second by 10 ms on average, and no limiter that is never early
//! reaches more than 1 / 1.010 = 99.0 % of the ideal.
//!
//! This sender does exactly that, and knows everything else: the rule, the counter and the server's
//! clock to the nanosecond, the shortest way, and of all it has sent when it will be counted. It sends
//! in order of asking; where order is promised, not before the answer to the one before. Each
//! request meets the same delays as in a limiter's run of the same seed. So what it reaches bounds
//! what any limiter that is never early can; ours knows rounded headers of the past instead.

use super::counter::Counter;
use super::scenario::Setup;
use crate::clock::Instant;
use std::time::Duration;

/// From the first request that is counted to the last, of a setup whose clients all want one bucket.
pub(super) fn takes(setup: &Setup) -> Duration {
    let mut counter = Counter::default();
    // Sent and not yet in the counter: when each will be counted.
    let mut pending: Vec<Instant> = Vec::new();
    let (mut first, mut last) = (Instant::FAR, Instant::ZERO);
    let mut free_from = Instant::ZERO;
    for (id, &(at, request, _)) in setup.asks.iter().enumerate() {
        let route = setup.routes[request.route];
        let shortest = setup.network.delay_min;
        let soonest = at.max(free_from);
        pending.sort_unstable();
        let settled = pending.partition_point(|&arrival| arrival <= soonest);
        for arrival in pending.drain(..settled) {
            counter.take(arrival, route.rule);
        }
        // As if what is under way were counted before it, as its order demands.
        let mut then = counter;
        for &arrival in &pending {
            then.take(arrival, route.rule);
        }
        let opens = then.opens(soonest + shortest, route.rule);
        let wait = opens.saturating_duration_since(soonest + shortest);
        let sent = soonest + wait;
        let (there, _) = setup.network.way(setup.chance, id as u64, 1, 0);
        let (back, _) = setup.network.way(setup.chance, id as u64, 1, 1);
        let arrival = sent + there;
        pending.push(arrival);
        (first, last) = (first.min(arrival), last.max(arrival));
        free_from = if route.serial { arrival + back } else { sent };
    }
    last.saturating_duration_since(first)
}
