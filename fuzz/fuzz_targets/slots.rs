//! Any sequence of operations on the slots of a forward proxy's hosts, beside a plain count.
//!
//! - Of each host there are never more connections than its cap when one is added.
//! - Whoever waits is told once, granted in the order of arrival or at the end of his time; nobody is
//!   told who left.
//! - No wait outlives its deadline, and the next deadline lies in the future.
//!
//! # Input
//! Text: letters with the digits that they take. `a`sk at once (host), `w`ait (host, time), `g`ive back
//! (host), `l`eave the line (which), `c`ap (host, cap), `d`efault (cap), and any other for time that
//! passes. A blank is skipped.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use std::time::Duration;
use weir::clock::Instant;
use weir::egress::hosts::HostKey;
use weir::egress::hosts::slots::{Asked, Place, Slots, Ticket, Why};

/// More operations find nothing that these do not, and cost time.
const OPS_MAX: usize = 512;

struct World {
    slots: Slots,
    hosts: [HostKey; 3],
    now: Instant,
    active: [u32; 3],
    /// By ticket, so in order of arrival: host, place, deadline.
    waiting: BTreeMap<u64, (usize, Place, Instant)>,
    tickets: u64,
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.iter().copied().filter(|byte| *byte != b' ');
    let key = |text| HostKey::parse(text).expect("a host");
    let mut world = World {
        slots: Slots::new(2, []),
        hosts: ["a.example", "b.example:81", "::1"].map(key),
        now: Instant::from_millis(1),
        active: [0; 3],
        waiting: BTreeMap::new(),
        tickets: 0,
    };
    for _ in 0..OPS_MAX {
        let Some(op) = bytes.next() else { break };
        let mut digit = || usize::from(bytes.next().unwrap_or_default() & 15);
        match op {
            b'a' => world.ask(digit() % 3, None),
            b'w' => {
                let host = digit() % 3;
                world.ask(host, Some(Duration::from_millis(digit() as u64)));
            }
            b'g' => world.give_back(digit() % 3),
            b'l' => world.leave(digit()),
            b'c' => {
                let host = digit() % 3;
                let set = world.slots.set_cap(&world.hosts[host], digit() as u32 % 5);
                set.expect("three caps fit");
            }
            b'd' => world.slots.set_default_cap(digit() as u32 % 5),
            _ => {
                world.now += Duration::from_millis(u64::from(op & 15));
                world.slots.expire(world.now);
            }
        }
        world.hear();
        world.check();
    }
});

impl World {
    fn ask(&mut self, host: usize, patience: Option<Duration>) {
        self.tickets += 1;
        let cap = self.slots.cap(&self.hosts[host]);
        let free = cap == 0 || self.active[host] < cap;
        let ticket = Ticket(self.tickets);
        match self
            .slots
            .ask(self.now, &self.hosts[host], ticket, patience)
        {
            Asked::Granted => {
                assert!(free, "{} of {cap}", self.active[host]);
                self.active[host] += 1;
            }
            Asked::Waiting(place) => {
                let deadline = self.now + patience.expect("only the patient wait");
                assert!(!free);
                self.waiting.insert(ticket.0, (host, place, deadline));
            }
            Asked::Refused(why) => assert!(!free && patience.is_none() && why == Why::Full),
        }
    }

    fn give_back(&mut self, host: usize) {
        if self.active[host] > 0 {
            self.active[host] -= 1;
            self.slots.give_back(&self.hosts[host]);
        }
    }

    fn leave(&mut self, nth: usize) {
        let Some((&ticket, &(host, place, _))) = self.waiting.iter().nth(nth) else {
            return;
        };
        assert!(self.slots.cancel(&self.hosts[host], place));
        assert!(!self.slots.cancel(&self.hosts[host], place), "once");
        self.waiting.remove(&ticket);
    }

    fn hear(&mut self) {
        while let Some(output) = self.slots.poll_output() {
            let told = self.waiting.remove(&output.ticket.0);
            let (host, _, deadline) = told.expect("it waited");
            if output.granted {
                self.active[host] += 1;
                let mut others = self.waiting.iter();
                let earlier =
                    others.any(|(other, (at, ..))| *at == host && *other < output.ticket.0);
                assert!(!earlier, "out of order");
            } else {
                assert!(deadline <= self.now, "too early");
            }
        }
    }

    fn check(&self) {
        self.slots.check_invariants();
        for (host, active) in self.hosts.iter().zip(self.active) {
            assert_eq!(self.slots.active(host), active);
        }
        assert_eq!(self.slots.waiting(), self.waiting.len());
        let first = self
            .waiting
            .values()
            .map(|(_, _, deadline)| *deadline)
            .min();
        assert_eq!(self.slots.next_deadline(), first);
    }
}
