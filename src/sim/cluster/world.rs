//! Nodes, clients, the network and Discord in one virtual time; and what goes wrong, and when.

use super::Mutant;
use super::discord::Discord;
use super::net::Net;
use super::node::{Action, Process, Request};
use super::report::{Disturbance, Kind, Report};
use crate::clock::Instant;
use crate::cluster::member::{Input, Node};
use crate::cluster::owner::Course;
use crate::limit::Answer;
use crate::route::slot::SlotSet;
use crate::sim::seed::Seed;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

const T0: Instant = Instant::from_millis(3_600_000);
/// Nodes of the largest cluster, when one has joined it.
pub(super) const NODES_MAX: u32 = 10;
const IDENTITIES: u64 = 8;
const MAJORS: u64 = 8;
/// Between two requests of one identity: a third more than its global limit allows.
const PAUSE: Duration = Duration::from_millis(62);
/// How long a run's disturbances lie apart.
const APART: Duration = Duration::from_secs(9);
/// How long what lasts lasts.
const LASTS: Duration = Duration::from_secs(4);
/// So often a node tries to relay a request.
const FAILURES_MAX: u8 = 3;
/// How long after the last disturbance clients go on, and nodes after that.
const TAIL: Duration = Duration::from_secs(8);

enum Event {
    Datagram(SocketAddr, usize, Vec<u8>),
    HandOver(usize, Box<SlotSet>, Vec<Vec<u8>>),
    Deadline(usize),
    Ask(usize),
    /// A request reaches a node: how often it was relayed, and how often it could not be from there.
    Reaches(Request, usize, u8, u8),
    Arrives(Request, usize, u64),
    Answered(Request, usize, u64, Box<Answer>),
    Disturb(Kind),
    End(Kind, usize),
}

/// See the module's documentation.
pub(super) struct World {
    now: Instant,
    chance: Seed,
    net: Net,
    discord: Discord,
    identities: Vec<u64>,
    nodes: Vec<Option<Process>>,
    /// How often each node was started: what is meant for an earlier life is lost.
    lives: Vec<u64>,
    events: BinaryHeap<Reverse<(Instant, u64)>>,
    pending: BTreeMap<u64, Event>,
    numbers: u64,
    requests: u32,
    asking_until: Instant,
    settled: bool,
    owners: Vec<Option<SocketAddr>>,
    report: Report,
    mutant: Mutant,
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 7654))
}

impl World {
    pub(super) fn new(seed: u64, mutant: Mutant) -> Self {
        let mut chance = Seed::new(seed ^ 0xc1u64 << 56);
        // One may join.
        let count = chance.range(2, u64::from(NODES_MAX) - 1) as usize;
        let places = count + 1;
        let mut world = Self {
            now: T0,
            net: Net::new(places),
            discord: Discord::default(),
            identities: (0..IDENTITIES).map(|_| chance.next()).collect(),
            nodes: (0..places).map(|_| None).collect(),
            lives: vec![0; places],
            events: BinaryHeap::new(),
            pending: BTreeMap::new(),
            numbers: 0,
            requests: 0,
            asking_until: Instant::FAR,
            settled: true,
            owners: Vec::new(),
            report: Report::new(seed, count),
            mutant,
            chance,
        };
        world.disturb(Kind::Start, None);
        for node in 0..count {
            world.start(node);
        }
        for identity in 0..IDENTITIES as usize {
            let first = world.now + PAUSE.mul_f64(identity as f64 / IDENTITIES as f64);
            world.at(first + Duration::from_secs(1), Event::Ask(identity));
        }
        let mut at = world.now + APART;
        let mut kinds = Kind::ALL.to_vec();
        for _ in 0..kinds.len() {
            let kind = kinds.remove(world.chance.below(kinds.len() as u64) as usize);
            world.at(at, Event::Disturb(kind));
            at += APART;
        }
        world.asking_until = at;
        world
    }

    pub(super) fn run(mut self) -> Report {
        let end = self.asking_until + TAIL;
        while let Some(Reverse((at, number))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            if let Some(event) = self.pending.remove(&number) {
                self.happens(event);
            }
            self.look();
        }
        for node in self.nodes.iter().flatten() {
            self.report.left_over += node.busy(self.now);
        }
        let nodes = self.nodes.iter().flatten().count() as f64;
        let seconds = end.saturating_duration_since(T0).as_secs_f64();
        self.report.bytes_per_node_and_second = self.report.bytes as f64 / nodes / seconds;
        self.report.served = self.discord.served;
        self.report.judge(&self.discord.violations);
        self.report
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.numbers += 1;
        self.pending.insert(self.numbers, event);
        self.events.push(Reverse((at, self.numbers)));
    }

    fn start(&mut self, node: usize) {
        self.lives[node] += 1;
        let me = Node {
            generation: self.now.as_nanos() / 1_000_000,
            proxy_port: 8080,
            ..Node::at(addr(node))
        };
        let mut process = Process::new(self.now, me, self.chance.next(), self.mutant);
        let seeds: Vec<_> = (0..self.nodes.len()).map(addr).collect();
        let mut actions = Vec::new();
        process.input(self.now, Input::Seeds(&seeds), &mut actions);
        self.nodes[node] = Some(process);
        self.act(node, actions);
    }

    fn act(&mut self, node: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Datagram(to, bytes) => {
                    // With what IP and UDP put around it.
                    self.report.bytes += bytes.len() as u64 + 28 + 4;
                    let to = place(to);
                    if to < self.nodes.len()
                        && let Some(delay) = self.net.datagram(node, to, &mut self.chance)
                    {
                        self.at(self.now + delay, Event::Datagram(addr(node), to, bytes));
                    }
                }
                Action::HandOver(to, slots, parts) => {
                    let to = place(to);
                    self.report.handed_bytes += parts.iter().map(Vec::len).sum::<usize>() as u64;
                    if self.net.reaches(node, to) {
                        let delay = Net::delay(&mut self.chance) * 3;
                        self.at(self.now + delay, Event::HandOver(to, slots, parts));
                    }
                }
                Action::Send(request) => {
                    let life = self.lives[node];
                    let way = self
                        .chance
                        .duration(Duration::from_millis(2), Duration::from_millis(30));
                    self.at(self.now + way, Event::Arrives(request, node, life));
                }
                Action::Route(request) => {
                    self.at(self.now, Event::Reaches(request, node, 0, 0));
                }
                Action::Refused => self.report.refused += 1,
                Action::Changed => self.settled = false,
            }
        }
        if let Some(process) = &self.nodes[node]
            && process.deadline() < Instant::FAR
        {
            let at = process.deadline().max(self.now);
            self.at(at, Event::Deadline(node));
        }
    }

    fn with(&mut self, node: usize, act: impl FnOnce(&mut Process, Instant, &mut Vec<Action>)) {
        let mut actions = Vec::new();
        if let Some(process) = &mut self.nodes[node] {
            act(process, self.now, &mut actions);
            self.act(node, actions);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Datagram(from, to, bytes) => self.with(to, |process, now, actions| {
                let from = Some(from);
                process.input(
                    now,
                    Input::Datagram {
                        from,
                        bytes: &bytes,
                    },
                    actions,
                );
            }),
            Event::HandOver(to, slots, parts) => {
                self.with(to, |process, now, _| process.take_over(now, &slots, &parts));
            }
            Event::Deadline(node) => {
                let due = self.nodes[node]
                    .as_ref()
                    .is_some_and(|p| p.deadline() <= self.now);
                if due {
                    self.with(node, |process, now, actions| process.tick(now, actions));
                }
            }
            Event::Ask(identity) => self.ask(identity),
            Event::Reaches(request, node, relays, failures) => {
                self.reaches(request, node, relays, failures);
            }
            Event::Arrives(request, node, life) => {
                let answer = self
                    .discord
                    .request(self.now, request.identity, request.major);
                let way = self
                    .chance
                    .duration(Duration::from_millis(2), Duration::from_millis(30));
                let answered = Event::Answered(request, node, life, Box::new(answer));
                self.at(self.now + way, answered);
            }
            Event::Answered(request, node, life, answer) => {
                if self.lives[node] == life {
                    self.with(node, |process, now, actions| {
                        process.answered(now, &request, &answer, actions);
                    });
                }
            }
            Event::Disturb(kind) => self.disturbed(kind),
            Event::End(kind, node) => self.ended(kind, node),
        }
    }

    fn ask(&mut self, identity: usize) {
        self.requests += 1;
        self.report.asked += 1;
        let request = Request {
            id: self.requests,
            identity: self.identities[identity],
            major: self.chance.below(MAJORS),
        };
        // Clients use the nodes that are there.
        let now = self.now;
        let takes_in = |p: &Process| p.takes_in(now);
        let open: Vec<usize> = (0..self.nodes.len())
            .filter(|n| self.nodes[*n].as_ref().is_some_and(takes_in))
            .collect();
        if open.is_empty() {
            self.report.failed += 1;
        } else {
            let node = *self.chance.pick(&open);
            self.reaches(request, node, 0, 0);
        }
        let next = self.now + self.chance.duration(PAUSE / 2, PAUSE * 3 / 2);
        if next < self.asking_until {
            self.at(next, Event::Ask(identity));
        }
    }

    fn reaches(&mut self, request: Request, node: usize, relays: u8, failures: u8) {
        let Some(process) = &self.nodes[node] else {
            self.report.failed += 1;
            return;
        };
        let course = Course::of(process.owner(&request), relays);
        let owner = match course {
            Course::There(owner) => owner,
            Course::Here | Course::HereWithCare => {
                let careful = course == Course::HereWithCare;
                return self.with(node, |process, now, actions| {
                    process.serve(now, request, careful, actions);
                });
            }
        };
        let to = place(owner.addr);
        let up = self.nodes[to].is_some() && self.net.reaches(node, to);
        if up {
            let delay = Net::delay(&mut self.chance);
            return self.at(self.now + delay, Event::Reaches(request, to, relays + 1, 0));
        }
        self.report.relays_failed += 1;
        self.with(node, |process, now, actions| {
            process.input(now, Input::Suspect(owner), actions);
        });
        if failures < FAILURES_MAX {
            self.reaches(request, node, relays, failures + 1);
        } else {
            self.report.failed += 1;
        }
    }

    fn disturb(&mut self, kind: Kind, changed: Option<usize>) {
        self.settled = false;
        self.report.disturbances.push(Disturbance {
            kind,
            began: self.now,
            ended: self.now,
            settled: None,
            changed: changed.map(addr),
        });
    }

    fn disturbed(&mut self, kind: Kind) {
        let alive: Vec<usize> = (0..self.nodes.len())
            .filter(|n| self.nodes[*n].is_some())
            .collect();
        let node = *self.chance.pick(&alive);
        let later = self.now + LASTS;
        match kind {
            Kind::Start | Kind::Heal | Kind::Return => {}
            Kind::Join => {
                if let Some(free) = self.nodes.iter().position(Option::is_none) {
                    self.disturb(kind, Some(free));
                    self.start(free);
                }
            }
            Kind::Leave => {
                if alive.len() > 1 {
                    self.disturb(kind, Some(node));
                    self.with(node, |process, now, actions| {
                        process.input(now, Input::Leave, actions);
                    });
                    // It finishes what it has, and is gone.
                    self.at(
                        self.now + Duration::from_millis(200),
                        Event::End(Kind::Leave, node),
                    );
                    self.at(later, Event::End(Kind::Return, node));
                }
            }
            Kind::Crash => {
                if alive.len() > 1 {
                    self.disturb(kind, Some(node));
                    self.nodes[node] = None;
                    self.at(later, Event::End(Kind::Return, node));
                }
            }
            Kind::Cut => {
                self.disturb(kind, None);
                self.net.cut(&mut self.chance);
                self.at(later, Event::End(Kind::Heal, 0));
            }
            Kind::Loss => {
                self.disturb(kind, None);
                self.net.loss_permille = self.chance.range(20, 150);
                self.at(later, Event::End(Kind::Loss, 0));
            }
        }
    }

    fn ended(&mut self, kind: Kind, node: usize) {
        match kind {
            Kind::Heal => {
                self.net.heal();
                self.disturb(Kind::Heal, None);
            }
            Kind::Loss => {
                self.net.loss_permille = 0;
                if let Some(last) = self.report.disturbances.last_mut() {
                    last.ended = self.now;
                    last.settled = None;
                }
                self.settled = false;
            }
            Kind::Leave => self.nodes[node] = None,
            Kind::Return => {
                self.disturb(Kind::Return, Some(node));
                self.start(node);
            }
            Kind::Start | Kind::Join | Kind::Crash | Kind::Cut => {}
        }
    }

    /// Whether all nodes that reach each other agree; then each identity has one owner among them.
    fn look(&mut self) {
        if self.settled {
            return;
        }
        for (n, process) in self.nodes.iter().enumerate() {
            let Some(process) = process else {
                continue;
            };
            let there = self.nodes.iter().enumerate();
            let there = there.filter(|(m, p)| p.is_some() && self.net.reaches(n, *m));
            let there: Vec<SocketAddr> = there.map(|(m, _)| addr(m)).collect();
            let seen: Vec<SocketAddr> = process.member.live().iter().map(|n| n.addr).collect();
            if seen != there {
                return;
            }
        }
        self.settled = true;
        self.check_owners();
        let now = self.now;
        let owners = self.owners();
        if let Some(last) = self.report.disturbances.last_mut() {
            last.settled.get_or_insert(now);
            let moved = owners.iter().zip(&self.owners).filter(|(new, old)| {
                let own = last
                    .changed
                    .is_some_and(|node| Some(node) == **new || Some(node) == **old);
                old.is_some() && new != old && !own
            });
            if last.changed.is_some() {
                self.report.needless_moves += moved.count();
            }
        }
        self.owners = owners;
    }

    /// The owner of each identity if there is one for all; `None` of a cluster in parts.
    fn owners(&self) -> Vec<Option<SocketAddr>> {
        let whole = self
            .nodes
            .iter()
            .enumerate()
            .all(|(n, _)| self.net.reaches(0, n));
        let first = self.nodes.iter().flatten().next().filter(|_| whole);
        let owner = |identity: &u64| {
            let process = first?;
            let request = Request {
                id: 0,
                identity: *identity,
                major: 0,
            };
            Some(
                process
                    .owner(&request)
                    .map_or(process.member.me().addr, |node| node.addr),
            )
        };
        self.identities.iter().map(owner).collect()
    }

    fn check_owners(&mut self) {
        for identity in &self.identities {
            let request = Request {
                id: 0,
                identity: *identity,
                major: 0,
            };
            for n in 0..self.nodes.len() {
                let owns = |m: usize| {
                    let process = self.nodes[m].as_ref();
                    process.is_some_and(|process| process.owner(&request).is_none())
                };
                let part = (0..self.nodes.len()).filter(|m| self.net.reaches(n, *m));
                let owners = part.filter(|m| owns(*m)).count();
                let alive = self.nodes[n].is_some();
                if alive && owners != 1 {
                    self.report.wrong_owners += 1;
                }
            }
        }
    }
}

fn place(addr: SocketAddr) -> usize {
    match addr {
        SocketAddr::V4(v4) => usize::from(v4.ip().octets()[3]).saturating_sub(1),
        SocketAddr::V6(_) => usize::MAX,
    }
}
