//! What the model allows: a sender that knows every counter and loses no time on the way back.
//!
//! Requests of one bucket are counted in the order in which they were asked for, each at the first
//! moment at which the model takes it. No limiter can have more counted by any time, but for order.

use super::discord::Discord;
use super::scenario::{START, Setup};
use super::seed::Seed;
use crate::clock::Instant;
use crate::sim::api::{Request, Token};
use crate::sim::counter::{Counter, Window};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

/// How many requests of `setup` can be counted by `end`.
pub(super) fn countable(setup: &Setup, end: Instant) -> u64 {
    let discord = Discord::new(
        setup.routes.clone(),
        1,
        setup.trouble,
        &mut Seed::new(setup.chance),
    );
    let mut queues: HashMap<_, VecDeque<(Instant, Request)>> = HashMap::new();
    let mut asks: Vec<_> = setup.asks.iter().collect();
    asks.sort_by_key(|ask| ask.0);
    for &&(at, request, _) in &asks {
        let arrival = at + setup.network.delay_min;
        let route = &setup.routes[request.route];
        if !setup.trouble.is_hopeless(arrival, &request, route) {
            let queue = queues
                .entry(discord.counter_key(START, &request))
                .or_default();
            queue.push_back((arrival, request));
        }
    }
    let mut heap: BinaryHeap<_> = queues
        .iter()
        .filter_map(|(&key, queue)| Some(Reverse((queue.front()?.0, key))))
        .collect();
    let mut counters: HashMap<_, Counter> = HashMap::new();
    let mut global: HashMap<u64, Window> = HashMap::new();
    let mut hidden: HashMap<_, Window> = HashMap::new();
    let mut counted = 0;
    while let Some(Reverse((now, key))) = heap.pop() {
        let Some(&(_, request)) = queues[&key].front().filter(|_| now <= end) else {
            continue;
        };
        let route = setup.routes[request.route].as_of(now);
        let counter = counters.entry(key).or_default();
        let mut opens = counter.opens(now, route.rule);
        let (limit, clock_ns) = (setup.global_limit, discord.clock_that_counts());
        let window = global.entry(request.bot).or_default();
        if opens <= now && route.token == Token::Bot {
            opens = window.opens_global(now, limit, clock_ns);
        }
        if opens > now {
            heap.push(Reverse((opens, key)));
            continue;
        }
        if route.token == Token::Bot {
            window.take_global(now, limit, clock_ns);
        }
        counter.take(now, route.rule);
        let uses = hidden.entry(request.place()).or_default();
        if !request.touches_hidden || uses.take_hidden(now, 2).is_ok() {
            counted += 1;
        }
        if let Some(queue) = queues.get_mut(&key) {
            queue.pop_front();
            if let Some(&(arrival, _)) = queue.front() {
                heap.push(Reverse((arrival.max(now), key)));
            }
        }
    }
    counted
}
