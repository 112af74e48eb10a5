use super::*;
use std::collections::BTreeMap;

const T0: Instant = Instant::from_millis(3_600_000);
const TRIP: Duration = Duration::from_micros(300);

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7654))
}

fn node(n: u8) -> Node {
    Node {
        generation: 1_000,
        proxy_port: 8080 + u16::from(n),
        ..Node::at(addr(n))
    }
}

/// Members with a network between them that loses nothing, except where it is cut.
struct Lan {
    now: Instant,
    members: BTreeMap<SocketAddr, Member>,
    in_flight: Vec<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Datagrams between these go nowhere.
    cut: Vec<(SocketAddr, SocketAddr)>,
    events: Vec<(Instant, SocketAddr, Event)>,
    refused: Vec<Refused>,
}

impl Lan {
    fn new(count: u8) -> Self {
        let mut lan = Self {
            now: T0,
            members: BTreeMap::new(),
            in_flight: Vec::new(),
            cut: Vec::new(),
            events: Vec::new(),
            refused: Vec::new(),
        };
        (1..=count).for_each(|n| lan.start(node(n)));
        lan.run(Duration::from_secs(3));
        lan
    }

    fn start(&mut self, node: Node) {
        let mut member = Member::new(self.now, node, u64::from(node.proxy_port));
        let seeds: Vec<_> = (1..=9).map(addr).collect();
        member.handle(self.now, Input::Seeds(&seeds)).unwrap();
        self.members.insert(node.addr, member);
        self.collect(node.addr);
    }

    fn collect(&mut self, at: SocketAddr) {
        let member = self.members.get_mut(&at).unwrap();
        while let Some(output) = member.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                    self.in_flight.push((self.now + TRIP, at, to, bytes));
                }
                Output::Event(event) => self.events.push((self.now, at, event)),
            }
        }
    }

    fn input(&mut self, at: SocketAddr, input: Input<'_>) {
        if let Some(member) = self.members.get_mut(&at) {
            if let Err(refused) = member.handle(self.now, input) {
                self.refused.push(refused);
            }
            self.collect(at);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let deadline = |m: &Member| m.next_deadline();
            let timer = self
                .members
                .iter()
                .filter_map(|(a, m)| Some((deadline(m)?, *a)))
                .min();
            let packet = self.in_flight.iter().map(|p| p.0).min();
            let next = timer.map(|t| t.0).into_iter().chain(packet).min();
            match next.filter(|at| *at <= end) {
                None => break,
                Some(at) => self.now = self.now.max(at),
            }
            if packet == next {
                let first = self
                    .in_flight
                    .iter()
                    .position(|p| Some(p.0) == packet)
                    .unwrap();
                let (_, from, to, bytes) = self.in_flight.remove(first);
                if !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from)) {
                    let from = Some(from);
                    self.input(
                        to,
                        Input::Datagram {
                            from,
                            bytes: &bytes,
                        },
                    );
                }
            } else if let Some((_, at)) = timer {
                self.input(at, Input::Deadline);
                let again = self.members[&at].next_deadline();
                assert!(
                    again.is_none_or(|d| d > self.now),
                    "the next deadline lies ahead"
                );
            }
        }
        self.now = end;
    }

    fn live(&self, n: u8) -> Vec<SocketAddr> {
        self.members[&addr(n)]
            .live()
            .iter()
            .map(|node| node.addr)
            .collect()
    }

    fn told(&self, n: u8, event: &Event) -> Option<Instant> {
        let told = self
            .events
            .iter()
            .rev()
            .find(|(_, at, e)| *at == addr(n) && e == event);
        told.map(|(at, ..)| *at)
    }
}

fn addrs(numbers: &[u8]) -> Vec<SocketAddr> {
    numbers.iter().map(|n| addr(*n)).collect()
}

#[test]
fn nodes_that_know_of_each_other_find_each_other_and_their_proxies() {
    let lan = Lan::new(3);
    for n in 1..=3 {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3]));
        let ports = lan.members[&addr(n)].live().iter().map(|n| n.proxy_port);
        assert_eq!(ports.collect::<Vec<_>>(), [8081, 8082, 8083]);
    }
    assert!(lan.refused.is_empty(), "{:?}", lan.refused);
}

#[test]
fn one_that_dies_is_known_to_be_dead_within_two_seconds_by_all() {
    for count in [2, 3, 5, 9] {
        let mut lan = Lan::new(count);
        lan.members.remove(&addr(2));
        lan.run(Duration::from_secs(2));
        for n in (1..=count).filter(|n| *n != 2) {
            assert!(
                !lan.live(n).contains(&addr(2)),
                "{count} nodes, {n} still believes"
            );
            assert_eq!(lan.live(n).len(), usize::from(count) - 1);
            assert!(lan.told(n, &Event::Died(node(2))).is_some());
            assert!(lan.told(n, &Event::Left(node(2))).is_none());
        }
    }
}

#[test]
fn one_that_leaves_is_gone_at_once_and_says_nothing_more() {
    let mut lan = Lan::new(4);
    lan.input(addr(3), Input::Leave);
    lan.run(Duration::from_millis(400));
    for n in [1, 2, 4] {
        assert_eq!(lan.live(n), addrs(&[1, 2, 4]));
    }
    assert_eq!(lan.members[&addr(3)].next_deadline(), None);
    let sent = lan.in_flight.len();
    lan.run(Duration::from_secs(5));
    // Its identities go to the others.
    assert_eq!(lan.live(3), addrs(&[1, 2, 4]));
    assert!(lan.in_flight.iter().skip(sent).all(|p| p.1 != addr(3)));
}

#[test]
fn one_that_leaves_tells_each_of_the_others_itself() {
    let mut lan = Lan::new(9);
    lan.input(addr(3), Input::Leave);
    lan.run(TRIP);
    for n in (1..=9).filter(|n| *n != 3) {
        assert!(lan.told(n, &Event::Left(node(3))).is_some(), "{n}");
    }
}

#[test]
fn one_that_others_say_is_down_has_died_even_if_it_was_not_suspected_here() {
    let mut lan = Lan::new(3);
    let dead = foca::Member::new(node(3), 0, State::Down);
    let mut bytes = Vec::new();
    let gossip = foca::Header {
        src: node(2),
        src_incarnation: 0,
        dst: node(1),
        message: foca::Message::Gossip,
    };
    foca::Codec::encode_header(&mut PostcardCodec, &gossip, &mut bytes).unwrap();
    bytes.extend_from_slice(&1_u16.to_be_bytes());
    foca::Codec::encode_member(&mut PostcardCodec, &dead, &mut bytes).unwrap();
    let from = Some(addr(2));
    let bytes = &bytes;
    lan.input(addr(1), Input::Datagram { from, bytes });
    assert_eq!(lan.live(1), addrs(&[1, 2]));
    assert!(lan.told(1, &Event::Suspected(node(3))).is_none());
    assert!(lan.told(1, &Event::Left(node(3))).is_none());
    assert!(lan.told(1, &Event::Died(node(3))).is_some());
}

#[test]
fn one_that_starts_anew_while_it_is_suspected_is_suspected_no_longer() {
    let mut lan = Lan::new(3);
    lan.input(addr(1), Input::Suspect(node(2)));
    assert!(lan.told(1, &Event::Suspected(node(2))).is_some());
    lan.start(Node {
        generation: 2_000,
        ..node(2)
    });
    lan.run(SUSPECT_FOR / 2);
    assert!(lan.told(1, &Event::Cleared(node(2))).is_some());
}

#[test]
fn one_that_starts_again_at_its_address_takes_its_place() {
    let mut lan = Lan::new(3);
    let again = Node {
        generation: 2_000,
        proxy_port: 9_999,
        ..node(2)
    };
    lan.start(again);
    lan.run(Duration::from_secs(1));
    for n in [1, 2, 3] {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3]));
        assert!(lan.members[&addr(n)].live().contains(&again));
    }
    assert!(lan.told(1, &Event::Renewed(again)).is_some());
}

#[test]
fn one_whose_clock_went_back_gets_in_all_the_same() {
    let mut lan = Lan::new(3);
    lan.members.remove(&addr(2));
    lan.run(Duration::from_secs(3));
    lan.start(Node {
        generation: 1,
        ..node(2)
    });
    lan.run(Duration::from_secs(3));
    for n in [1, 2, 3] {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3]), "{n}");
    }
}

#[test]
fn halves_that_were_cut_apart_find_each_other_again() {
    let mut lan = Lan::new(5);
    for a in [1, 2] {
        lan.cut.extend([3, 4, 5].map(|b| (addr(a), addr(b))));
    }
    lan.run(Duration::from_secs(5));
    assert_eq!(lan.live(1), addrs(&[1, 2]));
    assert_eq!(lan.live(4), addrs(&[3, 4, 5]));
    lan.cut.clear();
    lan.run(Duration::from_secs(5));
    for n in 1..=5 {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3, 4, 5]), "{n}");
    }
}

#[test]
fn one_that_was_cut_off_for_longer_than_anybody_is_remembered_comes_back() {
    let mut lan = Lan::new(3);
    lan.cut.extend([(addr(1), addr(2)), (addr(1), addr(3))]);
    lan.run(FORGET_AFTER + Duration::from_secs(5));
    assert_eq!(lan.live(1), addrs(&[1]));
    assert!(lan.told(1, &Event::Alone).is_some());
    lan.cut.clear();
    lan.run(Duration::from_secs(3));
    for n in 1..=3 {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3]), "{n}");
    }
}

#[test]
fn a_node_to_which_a_relay_failed_is_passed_over_for_a_moment() {
    let mut lan = Lan::new(3);
    lan.input(addr(1), Input::Suspect(node(2)));
    assert_eq!(lan.live(1), addrs(&[1, 3]));
    assert_eq!(lan.members[&addr(1)].passed_over(), [node(2)]);
    lan.run(Duration::from_millis(500));
    // It lives, and says so; whoever could not reach it waits all the same.
    assert!(lan.told(1, &Event::Cleared(node(2))).is_some());
    assert_eq!(lan.live(1), addrs(&[1, 3]));
    assert_eq!(lan.live(3), addrs(&[1, 2, 3]));
    lan.run(PASS_OVER_FOR);
    assert_eq!(lan.live(1), addrs(&[1, 2, 3]));
    assert_eq!(lan.members[&addr(1)].passed_over(), []);
    // One that nobody knows, and this one itself, are not.
    lan.input(addr(1), Input::Suspect(node(7)));
    lan.input(addr(1), Input::Suspect(node(1)));
    assert_eq!(lan.live(1), addrs(&[1, 2, 3]));
}

#[test]
fn a_thread_that_stood_still_for_long_comes_back_as_another_generation() {
    let mut lan = Lan::new(3);
    let held = lan.members.remove(&addr(2)).unwrap();
    lan.run(Duration::from_secs(30));
    lan.members.insert(addr(2), held);
    lan.run(Duration::from_secs(3));
    for n in 1..=3 {
        assert_eq!(lan.live(n), addrs(&[1, 2, 3]), "{n}");
    }
    assert!(lan.members[&addr(1)].live()[1].generation > node(2).generation);
}

#[test]
fn one_whose_new_generation_got_lost_tells_it_until_it_is_heard() {
    let mut lan = Lan::new(2);
    let undead = foca::Header {
        src: node(2),
        src_incarnation: 0,
        dst: node(1),
        message: foca::Message::TurnUndead,
    };
    let mut bytes = Vec::new();
    foca::Codec::encode_header(&mut PostcardCodec, &undead, &mut bytes).unwrap();
    let from = Some(addr(2));
    let bytes = &bytes;
    lan.input(addr(1), Input::Datagram { from, bytes });
    let again = *lan.members[&addr(1)].me();
    assert!(again.generation > node(1).generation);
    // What it says of it now is lost.
    lan.in_flight.retain(|(_, from, ..)| *from != addr(1));
    lan.run(SEEDS_PERIOD_UNHEARD * 2);
    assert_eq!(lan.members[&addr(2)].live(), [again, node(2)]);
    assert_eq!(lan.live(1), addrs(&[1, 2]));
    // And once it was heard it is silent again.
    assert_eq!(lan.members[&addr(1)].touch, Touch::Heard);
    assert!(lan.members[&addr(1)].seeds_at > lan.now + SEEDS_PERIOD / 2);
}

#[test]
fn one_that_is_alone_looks_for_others_at_once() {
    let mut lan = Lan::new(2);
    lan.cut.push((addr(1), addr(2)));
    lan.run(Duration::from_secs(3));
    assert_eq!(lan.live(1), addrs(&[1]));
    assert_eq!(lan.live(2), addrs(&[2]));
    lan.cut.clear();
    lan.run(SEEDS_PERIOD_ALONE + Duration::from_millis(100));
    assert_eq!(lan.live(1), addrs(&[1, 2]));
    assert_eq!(lan.live(2), addrs(&[1, 2]));
}

#[test]
fn one_that_objected_to_a_suspicion_keeps_its_generation() {
    let mut lan = Lan::new(2);
    lan.cut.push((addr(1), addr(2)));
    lan.run(PROBE_PERIOD * 2);
    lan.cut.clear();
    lan.run(SUSPECT_FOR * 3);
    let suspected = |n: u8| lan.told(3 - n, &Event::Suspected(node(n))).is_some();
    assert!(suspected(1) && suspected(2));
    for n in [1, 2] {
        assert_eq!(lan.members[&addr(n)].live(), [node(1), node(2)]);
    }
}

#[test]
fn nobody_is_made_to_send_to_strangers_nor_believes_a_false_sender() {
    let mut lan = Lan::new(2);
    let mut strangers = Member::new(T0, node(9), 1);
    strangers.handle(T0, Input::Seeds(&[addr(1)])).unwrap();
    strangers.handle(T0, Input::Deadline).unwrap();
    let Some(Output::Send { bytes, .. }) = strangers.poll_output() else {
        panic!("an announcement");
    };
    let from = Some(addr(8));
    lan.input(
        addr(1),
        Input::Datagram {
            from,
            bytes: &bytes,
        },
    );
    assert_eq!(lan.refused.pop(), Some(Refused::WrongSender));
    assert_eq!(lan.live(1), addrs(&[1, 2]));
    let mut long = bytes.clone();
    long.extend([0, 0, 0]);
    lan.input(
        addr(1),
        Input::Datagram {
            from: None,
            bytes: &long,
        },
    );
    assert_eq!(lan.refused.pop(), Some(Refused::Malformed));
    lan.input(
        addr(1),
        Input::Datagram {
            from: None,
            bytes: &[],
        },
    );
    assert_eq!(lan.refused.pop(), Some(Refused::Malformed));
    lan.input(
        addr(1),
        Input::Datagram {
            from: None,
            bytes: &bytes,
        },
    );
    assert_eq!(lan.live(1), addrs(&[1, 2, 9]));
}

#[test]
fn members_do_not_grow_without_bound() {
    let mut member = Member::new(T0, node(1), 1);
    let mut refused = 0;
    for n in 0..300_u16 {
        let [high, low] = n.to_be_bytes();
        let stranger = Node::at(SocketAddr::from(([10, 1, high, low], 1)));
        let mut other = Member::new(T0, stranger, 1);
        other.handle(T0, Input::Seeds(&[addr(1)])).unwrap();
        other.handle(T0, Input::Deadline).unwrap();
        while let Some(output) = other.poll_output() {
            if let Output::Send { bytes, .. } = output {
                let input = Input::Datagram {
                    from: None,
                    bytes: &bytes,
                };
                refused += usize::from(member.handle(T0, input) == Err(Refused::TooMany));
            }
        }
    }
    assert_eq!(member.live().len(), NODES_MAX);
    assert_eq!(refused, 300 - (NODES_MAX - 1));
}

#[test]
fn a_node_that_is_cut_off_alone_knows_so_within_the_time_that_follows_from_its_probes() {
    let mut slowest = Duration::ZERO;
    for run in 0..40 {
        let mut lan = Lan::new(10);
        // Wherever in its round each node is.
        lan.run(Duration::from_millis(run * 53));
        let began = lan.now;
        lan.cut = (2..=10).map(|n| (addr(1), addr(n))).collect();
        while lan.live(1).len() > 1 {
            lan.run(Duration::from_millis(10));
        }
        slowest = slowest.max(lan.now.saturating_duration_since(began));
    }
    assert!(slowest <= cut_off_for(9), "{slowest:?}");
    assert!(slowest > cut_off_for(9) * 2 / 3, "{slowest:?}");
    assert_eq!(cut_off_for(9), Duration::from_millis(3_600));
}
