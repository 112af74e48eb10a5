//! Any bytes that come to the cluster's port.
//!
//! The first byte says how they are taken: as an envelope without a secret, with one, as what stands in
//! an envelope that was sealed with the right one, and as records of a hand-over.
//!
//! - Nothing that is read makes a member panic, send more than a datagram takes, know more nodes than
//!   it may, or come to no rest.
//! - Without the tag nothing is taken in; with it, a second time nothing is.
//! - What a hand-over says never lets a limiter or the identify queue break its invariants, and what is
//!   read is what is written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use std::time::Duration;
use weir::clock::Instant;
use weir::cluster::member::{DATAGRAM_BYTES_MAX, Input, Member, NODES_MAX, Node, Output};
use weir::cluster::owner::Ownership;
use weir::cluster::wire::{self, Body, Ignored, Mac, Replays, Stamp, TAG_BYTES};
use weir::identify::{self, Queues};
use weir::limit::snapshot::Cut;
use weir::limit::{
    Ask, BucketKey, ClientClass, Decision, Limiter, Outputs, Settings, Ticket, Unlocked,
};
use weir::route::identity::Client;
use weir::route::slot::SlotSet;

const NOW: Instant = Instant::from_millis(3_600_000);
const UNIX_MS: u64 = 1_700_000_000_000;

struct Toy;

impl Mac for Toy {
    fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut state = 1_u128 << 100;
        for byte in parts.iter().flat_map(|part| part.iter()) {
            state = (state ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
            state ^= state >> 67;
        }
        state.to_le_bytes()
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else {
        return;
    };
    match how % 4 {
        0 => {
            let mut replays = Replays::default();
            let opened = wire::open(bytes, Some((&Toy, &mut replays)), UNIX_MS);
            if opened.is_ok() {
                let again = wire::open(bytes, Some((&Toy, &mut replays)), UNIX_MS);
                assert_eq!(again, Err(Ignored::Replayed));
                // Whoever changes anything is noticed.
                let mut changed = bytes.to_vec();
                changed[4] ^= 1;
                assert!(wire::open(&changed, Some((&Toy, &mut replays)), UNIX_MS).is_err());
            }
            if let Ok(body) = wire::open(bytes, None, UNIX_MS) {
                take_in(&body);
            }
        }
        1 => gossip(bytes),
        2 => records(bytes),
        _ => {
            let mut envelope = b"\xc3w\x01\x02".to_vec();
            envelope.extend_from_slice(bytes);
            if let Ok(body) = wire::open(&envelope, None, UNIX_MS) {
                take_in(&body);
            }
        }
    }
});

fn take_in(body: &Body<'_>) {
    let stamp = Stamp {
        unix_ms: UNIX_MS,
        nonce: 7,
    };
    let mut sealed = Vec::new();
    wire::seal(body, Some((&Toy, stamp)), &mut sealed);
    let mut replays = Replays::default();
    let opened = wire::open(&sealed, Some((&Toy, &mut replays)), UNIX_MS);
    assert_eq!(opened.as_ref(), Ok(body));
    match body {
        Body::Gossip(bytes) => gossip(bytes),
        Body::HandOver(message) => records(message.records),
    }
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7654))
}

/// Datagrams, each behind its length, to a node that knows another one.
fn gossip(mut bytes: &[u8]) {
    let mut now = NOW;
    let mut members = [1, 2].map(|n| Member::new(now, Node::at(addr(n)), u64::from(n)));
    let _ = members[0].handle(now, Input::Seeds(&[addr(2)]));
    let _ = members[0].handle(now, Input::Deadline);
    settle(&mut members, now);
    while let Some((length, rest)) = bytes.split_first() {
        let (datagram, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        bytes = rest;
        now += Duration::from_millis(u64::from(length % 8) * 40);
        for from in [None, Some(addr(2))] {
            let input = Input::Datagram {
                from,
                bytes: datagram,
            };
            let _ = members[0].handle(now, input);
        }
        for member in &mut members {
            if member.next_deadline().is_some_and(|at| at <= now) {
                let _ = member.handle(now, Input::Deadline);
                assert!(member.next_deadline().is_none_or(|at| at > now));
            }
        }
        settle(&mut members, now);
        assert!(members[0].others() < NODES_MAX);
    }
    let ownership = Ownership::of(&members[0]);
    let shares = ownership
        .nodes()
        .iter()
        .map(|node| ownership.slots_of(node).len());
    assert_eq!(shares.sum::<usize>(), SlotSet::ALL.len());
}

/// What they send each other arrives; there is an end to it.
fn settle(members: &mut [Member; 2], now: Instant) {
    for _ in 0..1_000 {
        let mut quiet = true;
        for n in 0..2 {
            while let Some(output) = members[n].poll_output() {
                quiet = false;
                if let Output::Send { to, bytes } = output {
                    assert!(bytes.len() <= DATAGRAM_BYTES_MAX);
                    if to == addr(2 - n as u8) {
                        let input = Input::Datagram {
                            from: Some(addr(n as u8 + 1)),
                            bytes: &bytes,
                        };
                        let _ = members[1 - n].handle(now, input);
                    }
                }
            }
        }
        if quiet {
            return;
        }
    }
    panic!("they never come to rest");
}

/// Records to a limiter that knows some of what they speak of.
fn records(bytes: &[u8]) {
    let limiter = Limiter::<Unlocked>::new(&Settings::default(), 2);
    let mut out = Outputs::new();
    let _permits = ask_all(&limiter, NOW, &mut out);
    limiter.be_careful(NOW, &SlotSet::ALL, || ());
    let mut queues = Queues::new(identify::Settings {
        bots_max: 3,
        waiting_per_bot_max: 4,
        waiting_max: 8,
    });
    queues.gained(NOW, &SlotSet::ALL);
    for bot in 0..2 {
        let _ = queues.ask(NOW, &shard_of(bot));
    }
    let half = bytes.len() / 2;
    for (part, complete) in [(bytes, true), (&bytes[half..], false), (bytes, false)] {
        if let Ok(taken) = limiter.take_over(NOW, &SlotSet::ALL, part, complete) {
            assert!(taken.records + taken.strange <= part.len());
            queues.take_over(NOW, taken.starts);
            let mut told = SlotSet::ALL;
            told.remove_all(&taken.doubted);
            queues.told_of(NOW, &told);
            while queues.poll_output().is_some() {}
        }
    }
    let _more = ask_all(&limiter, NOW + Duration::from_secs(1), &mut out);
    let base = NOW + Duration::from_secs(1);
    queues.lost(base, &SlotSet::ALL);
    let starts = queues.keep_of(base, &SlotSet::ALL);
    assert!(starts.len() <= 3);
    let doubted = queues.doubted(base, &SlotSet::ALL);
    let mut cut = Cut::begin(base, SlotSet::ALL).with_starts(&starts, &doubted);
    let (mut told, mut doubts) = (0, SlotSet::EMPTY);
    let second = Limiter::<Unlocked>::new(&Settings::default(), 1);
    loop {
        let mut part = Vec::new();
        let more = cut.next(&limiter, 4_096, &mut part, || ());
        assert!(part.len() <= 4_096);
        let taken = second.take_over(NOW, &SlotSet::ALL, &part, true);
        let taken = taken.expect("what is written can be read");
        told += taken.starts.iter().map(|s| s.taken.len()).sum::<usize>();
        doubts.add_all(&taken.doubted);
        if !more {
            break;
        }
    }
    assert_eq!(told, starts.iter().map(|s| s.taken.len()).sum::<usize>());
    assert!(doubts == doubted);
    let later = NOW + Duration::from_secs(1_000_000);
    limiter.sweep_restored(later, || ());
}

fn shard_of(bot: u64) -> identify::Ask {
    identify::Ask {
        bot,
        client: Client::Bot(bot),
        has_token: bot > 0,
        shard: bot,
        max_wait: None,
        careful: false,
        waiter: 0,
    }
}

fn ask_all(limiter: &Limiter<Unlocked>, now: Instant, out: &mut Outputs) -> Vec<Decision> {
    let mut decisions = Vec::new();
    for n in 0..16 {
        let ask = Ask {
            ticket: Ticket {
                worker: 0,
                slot: n,
                generation: now.as_nanos() as u32,
            },
            key: BucketKey {
                identity: u64::from(n % 3),
                major: u64::from(n % 2),
                route: u64::from(n % 4),
            },
            client: ClientClass::Bot { user_id: None },
            counts_globally: true,
            serial: false,
            max_wait: None,
        };
        decisions.push(limiter.acquire(now, &ask, out));
    }
    decisions
}
