//! A few proxies before one Redis, under virtual time, with everything that can go wrong between them:
//! requests that are lost, answers that are lost, requests that arrive when their sender has long
//! given up, a Redis that begins anew, one that is emptied while it runs, a proxy that is killed.
//! A run is its seed. What must hold is judged by what the askers hold, never by what anybody counts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::model::{Redis, SETTLE};
use super::*;

const CAP: u32 = 12;
const PROXIES: usize = 4;
const HOSTS: [&str; 2] = ["a", "b"];
const LIFE: Duration = Duration::from_secs(20);
const TIMEOUT: Duration = Duration::from_millis(200);
const BEAT: Duration = Duration::from_secs(1);
const BACKOFF_MAX_MS: u64 = 600;
const TROUBLE: Duration = Duration::from_secs(20);

/// All chance of a run (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn permille(&mut self, n: u64) -> bool {
        self.below(1_000) < n
    }

    fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }

    fn place(&mut self) -> usize {
        usize::try_from(self.below(PROXIES as u64)).unwrap()
    }
}

/// What goes to Redis in one piece.
struct Message {
    place: usize,
    sender: Box<str>,
    epoch: u64,
    run: u64,
    round: u64,
    ops: Vec<Op>,
    /// Whether it claims its number, or says that it is there.
    hello: Option<bool>,
}

struct Reply {
    written: Vec<Option<(u32, u32)>>,
    /// The outer `None`: nobody asked for it; the inner: there is a newer connection.
    roster: Option<Option<Roster>>,
}

enum Event {
    Arrives(Message),
    Answered(Message, Reply),
    /// The sender does not wait any longer for this round.
    GivesUp(usize, Box<str>, u64),
    Wakes(usize, Box<str>),
    Asks(usize),
    Leaves(usize, Box<str>, HostKey),
}

/// A process and its thread; see `driver`.
struct Proxy {
    name: Box<str>,
    book: Book<u64>,
    epoch: u64,
    connected: bool,
    /// The round that it waits for the answer of.
    waits: Option<u64>,
    round: u64,
    run: u64,
    retry_at: Instant,
    beat_at: Instant,
    /// What its askers hold.
    open: BTreeMap<HostKey, u32>,
    asked: BTreeMap<u64, (Instant, HostKey)>,
}

struct World {
    now: Instant,
    chance: Chance,
    fail: RedisFail,
    redis: Redis,
    redis_up: bool,
    trouble: bool,
    proxies: Vec<Proxy>,
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    /// Most connections to one host at a time.
    most: u32,
    granted: u32,
    killed: bool,
    counters: Counters,
}

impl World {
    fn new(seed: u64, fail: RedisFail) -> Self {
        let mut world = Self {
            now: at(1_000_000),
            chance: Chance(seed),
            fail,
            redis: Redis::new(LIFE, 3 * BEAT),
            redis_up: true,
            trouble: true,
            proxies: Vec::new(),
            order: BinaryHeap::new(),
            events: BTreeMap::new(),
            number: 0,
            most: 0,
            granted: 0,
            killed: false,
            counters: Counters::default(),
        };
        for place in 0..PROXIES {
            let proxy = world.proxy(&format!("weir-{place}"));
            world.at(Duration::ZERO, Event::Wakes(place, proxy.name.clone()));
            world.at(Duration::ZERO, Event::Asks(place));
            world.proxies.push(proxy);
        }
        world
    }

    fn proxy(&self, name: &str) -> Proxy {
        let rules = Rules {
            fail: self.fail,
            max_lifetime: LIFE,
            patience: TIMEOUT / 2,
            introduction: BEAT + 2 * TIMEOUT,
        };
        Proxy {
            book: Book::new(name.into(), rules),
            name: name.into(),
            epoch: 0,
            connected: false,
            waits: None,
            round: 0,
            run: 0,
            retry_at: self.now,
            beat_at: self.now,
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn at(&mut self, later: Duration, event: Event) {
        self.number += 1;
        self.order.push(Reverse((self.now + later, self.number)));
        self.events.insert(self.number, event);
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(&Reverse((when, number))) = self.order.peek()
            && when <= end
        {
            self.order.pop();
            self.now = when;
            let event = self.events.remove(&number).unwrap();
            self.step(event);
            self.judge();
        }
        self.now = end;
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrives(message) => self.arrives(message),
            Event::Answered(message, reply) => self.answered(&message, &reply),
            Event::GivesUp(place, sender, round) => {
                let proxy = &self.proxies[place];
                if proxy.name == sender && proxy.waits == Some(round) {
                    self.lose(place);
                }
            }
            Event::Wakes(place, name) => {
                if self.proxies[place].name == name {
                    self.drive(place);
                    let later = self.chance.ms(5, 40);
                    self.at(later, Event::Wakes(place, name));
                }
            }
            Event::Asks(place) => {
                // As `Fleet::start`, which connects before anybody can ask.
                if self.trouble && self.proxies[place].book.counters().joined > 0 {
                    let host = HOSTS[usize::try_from(self.chance.below(2)).unwrap()];
                    let count = 1 + self.chance.below(3);
                    self.ask(place, &HostKey::parse(host).unwrap(), count);
                }
                let later = self.chance.ms(1, 120);
                self.at(later, Event::Asks(place));
            }
            Event::Leaves(place, name, host) => {
                let proxy = &mut self.proxies[place];
                if proxy.name == name {
                    *proxy.open.get_mut(&host).unwrap() -= 1;
                    proxy.book.give_back(&host);
                    self.drive(place);
                }
            }
        }
    }

    fn ask(&mut self, place: usize, host: &HostKey, count: u64) {
        for _ in 0..count {
            self.number += 1;
            let (now, number) = (self.now, self.number);
            let proxy = &mut self.proxies[place];
            proxy.asked.insert(number, (now, host.clone()));
            proxy.book.ask(now, host, CAP, number);
        }
        self.drive(place);
    }

    /// What the thread of this proxy does next.
    fn drive(&mut self, place: usize) {
        let now = self.now;
        self.proxies[place].book.tick(now);
        self.deliver(place);
        let proxy = &mut self.proxies[place];
        if proxy.waits.is_some() {
            return;
        }
        if !proxy.connected {
            if now >= proxy.retry_at && self.redis_up {
                proxy.epoch += 1;
                proxy.connected = true;
                proxy.run = self.redis.run;
                self.send(place, Vec::new(), Some(false));
            }
            return;
        }
        let ops = proxy.book.next_round();
        let hello = match proxy.book.standing() {
            Standing::Away => None,
            Standing::Joining => ops.is_empty().then_some(true),
            Standing::Settling | Standing::Shared => (now >= proxy.beat_at).then_some(true),
        };
        if hello.is_some() {
            proxy.book.greets();
        }
        if hello.is_some() || !ops.is_empty() {
            self.send(place, ops, hello);
        }
    }

    fn send(&mut self, place: usize, ops: Vec<Op>, hello: Option<bool>) {
        let proxy = &mut self.proxies[place];
        proxy.round += 1;
        proxy.waits = Some(proxy.round);
        let message = Message {
            place,
            sender: proxy.name.clone(),
            epoch: proxy.epoch,
            run: proxy.run,
            round: proxy.round,
            ops,
            hello,
        };
        let gives_up = Event::GivesUp(place, message.sender.clone(), message.round);
        self.at(TIMEOUT, gives_up);
        if self.trouble && self.chance.permille(5) {
            return;
        }
        let slow = self.trouble && self.chance.permille(10);
        let (low, high) = if slow { (150, 1_500) } else { (0, 3) };
        let later = self.chance.ms(low, high);
        self.at(later, Event::Arrives(message));
    }

    /// Redis carries it out if it is still the one that it was sent to.
    fn arrives(&mut self, message: Message) {
        if !self.redis_up || self.redis.run != message.run {
            return;
        }
        let (now, me) = (self.now, message.sender.clone());
        let (epoch, run) = (message.epoch, message.run);
        let write = |op: &Op| self.redis.write(now, &me, epoch, run, op);
        let written = message.ops.iter().map(write).collect();
        let hello = |enter| self.redis.hello(now, &me, epoch, run, enter);
        let roster = message.hello.map(hello);
        if self.trouble && self.chance.permille(5) {
            return;
        }
        let later = self.chance.ms(0, 3);
        self.at(later, Event::Answered(message, Reply { written, roster }));
    }

    fn answered(&mut self, message: &Message, reply: &Reply) {
        let (now, place) = (self.now, message.place);
        let proxy = &mut self.proxies[place];
        if proxy.name != message.sender || proxy.waits != Some(message.round) {
            return;
        }
        proxy.waits = None;
        if message.hello == Some(false) {
            proxy.book.joining();
            return self.drive(place);
        }
        let mut known = true;
        for (op, written) in message.ops.iter().zip(&reply.written) {
            match written {
                Some((granted, others)) => proxy.book.done(now, op, *granted, *others),
                None => known = false,
            }
        }
        if let (true, Some(roster)) = (known, &reply.roster) {
            let roster = roster.as_ref().expect("no newer connection");
            known = proxy.book.seen(now, roster);
            let settling = proxy.book.standing() == Standing::Settling;
            proxy.beat_at = now + if settling { BEAT / 10 } else { BEAT };
        }
        if known {
            return self.drive(place);
        }
        proxy.book.forgotten();
        self.deliver(place);
        self.send(place, Vec::new(), Some(false));
    }

    fn lose(&mut self, place: usize) {
        let wait = self.chance.ms(20, BACKOFF_MAX_MS);
        let proxy = &mut self.proxies[place];
        proxy.connected = false;
        proxy.waits = None;
        proxy.retry_at = self.now + wait;
        proxy.book.lost();
        self.deliver(place);
    }

    fn deliver(&mut self, place: usize) {
        self.proxies[place].book.check_invariants();
        while let Some(answer) = self.proxies[place].book.poll_answer() {
            let proxy = &mut self.proxies[place];
            let (asked_at, host) = proxy.asked.remove(&answer.asker).expect("answered once");
            assert_eq!(host, answer.host);
            let waited = self.now.saturating_duration_since(asked_at);
            assert!(waited <= 2 * TIMEOUT, "an answer after {waited:?}");
            if answer.verdict == Verdict::Granted {
                self.granted += 1;
                *proxy.open.entry(host.clone()).or_default() += 1;
                let name = proxy.name.clone();
                let stay = self.chance.ms(1, 2_000);
                self.at(stay, Event::Leaves(place, name, host));
            }
        }
    }

    fn judge(&mut self) {
        for host in HOSTS {
            let host = HostKey::parse(host).unwrap();
            let open = |proxy: &Proxy| proxy.open.get(&host).copied().unwrap_or(0);
            let open = self.proxies.iter().map(open).sum();
            self.most = self.most.max(open);
            match self.fail {
                RedisFail::Closed => assert!(open <= CAP, "{open} of {CAP}"),
                RedisFail::Local => assert!(open < 2 * CAP, "{open} of {CAP}"),
                RedisFail::Open => {}
            }
        }
    }

    fn suffer(&mut self) {
        let end = self.now + TROUBLE;
        while self.now < end {
            let calm = self.chance.ms(500, 6_000);
            self.run_for(calm);
            let place = self.chance.place();
            match self.chance.below(5) {
                0 => {
                    self.redis_up = false;
                    self.lose_all();
                    let away = self.chance.ms(1, 1_500);
                    self.run_for(away);
                    self.redis_up = true;
                    self.redis.begin_anew();
                }
                1 => self.redis.empty(),
                2 if !self.killed => {
                    self.killed = true;
                    self.collect(place);
                    self.proxies[place] = self.proxy(&format!("weir-{place}-again"));
                    let name = self.proxies[place].name.clone();
                    self.at(Duration::ZERO, Event::Wakes(place, name));
                }
                3 => self.lose_one(place),
                _ => self.redis.forget(&self.proxies[place].name),
            }
        }
    }

    fn lose_one(&mut self, place: usize) {
        if self.proxies[place].connected {
            self.lose(place);
        }
    }

    fn lose_all(&mut self) {
        (0..PROXIES).for_each(|place| self.lose_one(place));
    }

    fn collect(&mut self, place: usize) {
        let counters = self.proxies[place].book.counters();
        add(&mut self.counters, &counters);
    }

    /// Peace: everybody leaves, and who was killed is forgotten. Then the whole cap is there.
    fn recover(&mut self) {
        self.trouble = false;
        self.run_for(LIFE + SETTLE + Duration::from_secs(10));
        assert_eq!(self.redis.total(self.now), 0);
        for proxy in &self.proxies {
            assert_eq!(proxy.book.standing(), Standing::Shared);
            assert!(proxy.asked.is_empty(), "never answered");
            assert!(proxy.book.hosts.is_empty(), "kept for ever");
        }
        for host in HOSTS.map(|host| HostKey::parse(host).unwrap()) {
            let before = self.granted;
            for place in 0..PROXIES {
                self.ask(place, &host, u64::from(CAP));
            }
            self.run_for(2 * TIMEOUT);
            assert!(self.granted - before >= CAP, "a place is lost");
        }
        (0..PROXIES).for_each(|place| self.collect(place));
    }
}

fn add(to: &mut Counters, counters: &Counters) {
    to.lost += counters.lost;
    to.forgotten += counters.forgotten;
    to.late += counters.late;
    to.late_grants += counters.late_grants;
    to.granted += counters.granted;
    to.alone_granted += counters.alone_granted;
}

fn run(fail: RedisFail, seeds: std::ops::Range<u64>) -> (Counters, u32) {
    let (mut all, mut most) = (Counters::default(), 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, fail);
            world.suffer();
            world.recover();
            (world.counters, world.most)
        });
        let (counters, peak) = outcome.unwrap_or_else(|_| panic!("{fail:?}, seed {seed}"));
        most = most.max(peak);
        add(&mut all, &counters);
    }
    (all, most)
}

#[test]
fn a_strict_fleet_never_exceeds_a_cap_and_loses_no_place_whatever_happens() {
    let (counters, most) = run(RedisFail::Closed, 0..60);
    assert_eq!(most, CAP, "the cap is reached, too");
    assert!(counters.granted > 10_000, "{counters:?}");
    assert!(
        counters.lost > 100 && counters.forgotten > 50,
        "{counters:?}"
    );
    assert!(
        counters.late > 10 && counters.late_grants > 0,
        "{counters:?}"
    );
}

#[test]
fn a_fleet_that_goes_on_alone_stays_below_twice_the_cap_and_loses_no_place() {
    let (counters, most) = run(RedisFail::Local, 0..40);
    assert!(most >= CAP);
    assert!(counters.alone_granted > 1_000, "{counters:?}");
}

#[test]
fn a_fleet_without_bounds_while_alone_is_right_again_afterwards() {
    let (_, most) = run(RedisFail::Open, 0..20);
    assert!(
        most > CAP,
        "what is opened while Redis is away is not capped"
    );
}
