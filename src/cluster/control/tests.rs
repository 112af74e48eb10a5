//! That what is found out is done: to a real limiter, on real sockets, at this process's addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::*;
use crate::cluster::wire::{HandOver, RECORDS_BYTES_MAX};
use crate::limit::snapshot::Cut;
use crate::limit::{Ask, BucketKey, ClientClass, Decision, Outputs, Settings, Ticket};
use crate::route::slot::some_key_of;

/// What takes longer will not happen any more.
const PATIENCE: Duration = Duration::from_secs(10);

struct Site {
    control: Control,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
    me: Node,
}

/// A node on this address that knows nobody, and takes no hand-over yet.
fn site(last: u8) -> Site {
    let (socket, listener) = bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    let me = Node::at(socket.local_addr().unwrap());
    let shared = Arc::new(Shared {
        members: Members::unattended(&me),
        mesh: Mesh::new(&Settings::default(), 1),
        secret: None,
        probe: 0,
        nonce: AtomicU64::new(1),
        tls: Tls::default(),
        identify: None,
    });
    let control = Control {
        sender: Sender::start(&shared).unwrap(),
        members: shared.members.clone(),
        mesh: shared.mesh.clone(),
        identify: None,
        finder: Finder::start(&Config::default(), 1, &shared.members).unwrap(),
        secret: None,
        socket,
        me,
        address: Address::default(),
        trust: None,
        member: None,
        replays: Replays::default(),
        nonce: 0,
        envelope: Vec::new(),
        tell_at: Instant::FAR,
        told: 0,
        unreached: Unreached::default(),
        look_at: Instant::FAR,
        sweep_at: Instant::FAR,
    };
    Site {
        control,
        shared,
        listener: Some(listener),
        me,
    }
}

impl Site {
    fn sees(&self, others: &[Node]) -> Ownership {
        let all: Vec<Node> = others.iter().copied().chain([self.me]).collect();
        Ownership::new(&all, &self.me)
    }

    fn takes(&mut self) -> Receiver {
        Receiver::start(self.listener.take().unwrap(), &self.shared).unwrap()
    }

    /// Whether the first request of some identity in this slot has to wait.
    fn is_careful(&self, slot: u16) -> bool {
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: u32::from(slot),
                generation: 0,
            },
            key: BucketKey {
                identity: some_key_of(slot),
                major: 1,
                route: 1,
            },
            client: ClientClass::Bot { user_id: None },
            counts_globally: true,
            serial: false,
            max_wait: None,
        };
        let limiter = self.shared.mesh.limiter();
        match limiter.acquire(clock::now(), &ask, &mut Outputs::new()) {
            Decision::Go(permit) => {
                limiter.no_answer(clock::now(), permit, false, &mut Outputs::new());
                false
            }
            Decision::Wait => true,
            Decision::Refuse(why) => panic!("{why:?}"),
        }
    }

    fn is_untold(&self, slot: u16) -> bool {
        self.shared.members.is_untold(some_key_of(slot))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.control.finder.stop();
        self.control.sender.finish(clock::now());
    }
}

fn node(last: u8) -> Node {
    Node::at((Ipv4Addr::new(127, 0, 0, last), 1).into())
}

fn first(slots: &SlotSet) -> u16 {
    slots.iter().next().unwrap()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < until, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_node_that_begins_is_careful_with_everybody() {
    let mut site = site(1);
    assert!(!site.is_careful(7));
    site.control.begin();
    assert!([0, 1_000, 4_095].iter().all(|slot| site.is_careful(*slot)));
}

#[test]
fn a_node_is_careful_with_what_it_gets_and_with_nothing_else() {
    let mut site = site(1);
    let before = site.sees(&[node(2), node(3)]);
    site.shared.members.publish(before.clone());
    let now = site.sees(&[node(2)]);
    site.control.share_out(now.clone());
    let kept = before.slots_of(&site.me);
    let mut gained = now.slots_of(&site.me);
    gained.remove_all(&kept);
    assert!(site.is_careful(first(&gained)));
    assert!(!site.is_careful(first(&kept)));
    assert_eq!(site.shared.members.counts().gained, gained.len() as u64);
    assert_eq!(*site.shared.members.ownership(), now);
}

#[test]
fn requests_of_slots_that_were_lost_wait_until_their_new_owner_has_been_told() {
    let (mut old, mut new) = (site(1), site(2));
    new.shared.members.publish(new.sees(&[old.me]));
    let now = old.sees(&[new.me]);
    old.control.share_out(now.clone());
    let lost = first(&now.slots_of(&new.me));
    // The new owner's system takes connections, and nobody there listens yet.
    assert!(old.is_untold(lost));
    assert!(!old.is_untold(first(&now.slots_of(&old.me))));
    let _receiver = new.takes();
    wait_until("it is told", || !old.is_untold(lost));
    let counts = old.shared.members.counts();
    assert_eq!((counts.sent, counts.failed), (1, 0));
    let mut told = now.slots_of(&new.me);
    new.shared.members.told().spare(clock::now(), &mut told);
    assert!(told.is_empty());
}

/// A hand-over that says it is `from` there, and comes from 127.0.0.1; whether it is taken.
fn tells(to: &Site, from: Node) -> bool {
    let mut records = Vec::new();
    let mut cut = Cut::begin(clock::now(), SlotSet::ALL);
    let limiter = to.shared.mesh.limiter();
    assert!(!cut.next(limiter, RECORDS_BYTES_MAX, &mut records, || ()));
    let message = HandOver {
        to: to.me.addr,
        from: from.addr,
        generation: from.generation,
        probe: 0,
        part: 0,
        last: true,
        complete: true,
        slots: SlotSet::ALL,
        records: &records,
    };
    let mut envelope = Vec::new();
    wire::seal(&Body::HandOver(Box::new(message)), None, &mut envelope);
    let mut stream = TcpStream::connect(to.me.addr).unwrap();
    let length = u32::try_from(envelope.len()).unwrap();
    stream.write_all(&length.to_le_bytes()).unwrap();
    stream.write_all(&envelope).unwrap();
    stream.read_exact(&mut [0]).is_ok()
}

#[test]
fn without_a_secret_a_hand_over_is_taken_from_a_members_address_and_from_nobody_else() {
    let mut site = site(2);
    let (member, stranger, elsewhere) = (node(1), Node::at(([127, 0, 0, 1], 2).into()), node(3));
    site.shared.members.publish(site.sees(&[member, elsewhere]));
    let _receiver = site.takes();
    assert!(tells(&site, member));
    assert!(!tells(&site, stranger), "no member");
    assert!(!tells(&site, elsewhere), "a member, but of another address");
    assert_eq!(site.shared.members.counts().received, 1);
    let ignored = site.shared.members.ignored();
    let ignored: Vec<_> = ignored.filter(|(_, count)| *count > 0).collect();
    assert_eq!(ignored, [(wire::Ignored::Foreign.label(), 2)]);
}
