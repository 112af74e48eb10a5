use super::*;
use crate::route::key::Keys;
use crate::route::{self, PathIdentity};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn node(n: u8) -> Node {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
    Node {
        proxy_port: 8080,
        ..Node::at(SocketAddr::new(ip, 7654))
    }
}

fn nodes(count: u8) -> Vec<Node> {
    (1..=count).map(node).collect()
}

/// Identities as they are: hashes of tokens.
fn identities(count: u64) -> Vec<u64> {
    let keys = Keys::with_seeds([11, 22, 33, 44]);
    let identity = |n| {
        let header = format!("Bot {n}.Gabcde.{n:027}");
        let sender = route::identity::parse(Some(header.as_bytes()));
        keys.identity_key(&PathIdentity::Authorization, &sender)
    };
    (0..count).map(identity).collect()
}

fn owner_of(ownership: &Ownership, identity: u64) -> SocketAddr {
    match ownership.owner(identity) {
        Owner::Here => ownership.me().addr,
        Owner::There(node) => node.addr,
    }
}

#[test]
fn a_fourth_node_takes_a_quarter_of_the_identities_and_nothing_else_moves() {
    let identities = identities(10_000);
    for other in [4, 5, 77, 200] {
        let three = Ownership::new(&nodes(3), &node(1));
        let mut four = nodes(3);
        four.push(node(other));
        let four = Ownership::new(&four, &node(1));
        let mut moved = 0;
        for identity in &identities {
            let (before, after) = (owner_of(&three, *identity), owner_of(&four, *identity));
            if before != after {
                assert_eq!(after, node(other).addr, "nothing moves among the others");
                moved += 1;
            }
        }
        assert!((2_000..=3_000).contains(&moved), "{moved}");
    }
}

#[test]
fn every_node_sees_the_same_owner_in_whatever_order_it_learned_of_the_others() {
    let mut seen = nodes(5);
    let ownerships: Vec<_> = (1..=5)
        .map(|me| {
            seen.rotate_left(2);
            Ownership::new(&seen, &node(me))
        })
        .collect();
    for identity in identities(1_000) {
        let owners: Vec<_> = ownerships.iter().map(|o| owner_of(o, identity)).collect();
        assert!(owners.iter().all(|owner| *owner == owners[0]));
        let own = ownerships
            .iter()
            .filter(|o| o.owner(identity) == Owner::Here);
        assert_eq!(own.count(), 1);
    }
}

#[test]
fn shares_are_even() {
    for count in [2, 3, 4, 5, 9] {
        let ownership = Ownership::new(&nodes(count), &node(1));
        let shares = nodes(count)
            .iter()
            .map(|n| ownership.slots_of(n).len())
            .collect::<Vec<_>>();
        let fair = SLOTS / usize::from(count);
        assert_eq!(shares.iter().sum::<usize>(), SLOTS);
        assert!(
            shares.iter().all(|n| n.abs_diff(fair) * 5 < fair),
            "{shares:?}"
        );
    }
}

#[test]
fn a_node_that_is_alone_owns_everything() {
    let alone = Ownership::new(&[], &node(3));
    assert!(alone.is_alone());
    assert!(
        identities(100)
            .iter()
            .all(|i| alone.owner(*i) == Owner::Here)
    );
    assert_eq!(alone.slots_of(&node(3)), SlotSet::ALL);
    assert_eq!(alone.slots_of(&node(4)), SlotSet::EMPTY);
}

#[test]
fn what_one_loses_another_gains() {
    let before: Vec<_> = (1..=3)
        .map(|me| Ownership::new(&nodes(3), &node(me)))
        .collect();
    let after: Vec<_> = (1..=4)
        .map(|me| Ownership::new(&nodes(4), &node(me)))
        .collect();
    let mut handed = SlotSet::EMPTY;
    for (old, new) in before.iter().zip(&after) {
        let moves = new.moves_since(old);
        assert!(moves.gained.is_empty());
        let [(to, slots)] = &moves.lost[..] else {
            panic!("one taker");
        };
        assert_eq!(*to, node(4));
        (0..SLOTS as u16)
            .filter(|s| slots.contains(*s))
            .for_each(|s| handed.insert(s));
    }
    assert_eq!(handed, after[3].slots_of(&node(4)));
    let joined = Ownership::new(&[], &node(4));
    // A node that was alone gives up what others own, and gains nothing.
    let moves = after[3].moves_since(&joined);
    assert!(moves.gained.is_empty() && moves.lost.len() == 3);
    // One that dies leaves to each of the others its part.
    let gained: usize = (0..3)
        .map(|n| before[n].moves_since(&after[n]).gained.len())
        .sum();
    assert_eq!(gained, handed.len());
}

#[test]
fn a_restart_moves_nothing() {
    let mut again = nodes(3);
    again[1].generation = 99;
    again[1].proxy_port = 1234;
    let (a, b) = (
        Ownership::new(&nodes(3), &node(1)),
        Ownership::new(&again, &node(1)),
    );
    let moves = b.moves_since(&a);
    assert!(moves.lost.is_empty() && moves.gained.is_empty());
    let there = identities(50).into_iter().find_map(|i| match b.owner(i) {
        Owner::There(node) if node.addr == again[1].addr => Some(*node),
        Owner::There(_) | Owner::Here => None,
    });
    assert_eq!(there.unwrap().proxy_port, 1234);
}

#[test]
fn ports_and_families_of_addresses_tell_nodes_apart() {
    let at = |ip: IpAddr, port| Node::at(SocketAddr::new(ip, port));
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let v6 = IpAddr::V6(Ipv6Addr::from_bits(u128::from(
        Ipv4Addr::LOCALHOST.to_bits(),
    )));
    let names = [at(local, 1), at(local, 2), at(mapped, 1), at(v6, 1)].map(|n| name(&n));
    assert!(
        names
            .iter()
            .enumerate()
            .all(|(i, a)| names[i + 1..].iter().all(|b| a != b))
    );
    // What versions of weir in one cluster must agree on.
    assert_eq!(name(&node(1)), 0x251e_20bb_e9e3_766c);
    assert_eq!(score(7, 9), 0x69b3_169f_e655_e3a4);
}

#[test]
fn more_nodes_than_a_byte_can_name_are_left_out() {
    let many: Vec<_> = (0..300_u16)
        .map(|n| {
            Node::at(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::new(10, 1, (n >> 8) as u8, n as u8)),
                1,
            ))
        })
        .collect();
    let mut many = many;
    many.insert(299, node(1));
    let ownership = Ownership::new(&many, &node(1));
    assert_eq!(ownership.nodes().len(), 255);
    assert_eq!(ownership.me(), &node(1));
}

#[test]
fn a_node_that_leaves_hands_everything_over_and_keeps_nothing() {
    let before = Ownership::new(&nodes(3), &node(2));
    let others: Vec<_> = nodes(3).into_iter().filter(|n| *n != node(2)).collect();
    let after = Ownership::leaving(&others, &node(2));
    assert!(
        identities(300)
            .iter()
            .all(|i| after.owner(*i) != Owner::Here)
    );
    let moves = after.moves_since(&before);
    let handed: usize = moves.lost.iter().map(|(_, slots)| slots.len()).sum();
    assert_eq!(handed, before.slots_of(&node(2)).len());
    // The others see the same.
    let theirs = Ownership::new(&others, &node(1));
    for identity in identities(300) {
        assert_eq!(owner_of(&theirs, identity), owner_of(&after, identity));
    }
}

#[test]
fn a_node_that_leaves_takes_nothing_back_from_another_that_goes_while_there_is_a_third() {
    let leaves = Ownership::leaving(&nodes(3), &node(2));
    let one = leaves.without(&node(3));
    assert_eq!(one.slots_of(&node(1)), SlotSet::ALL);
    assert_eq!(one.without(&node(1)).slots_of(&node(2)), SlotSet::ALL);
    // One that stays has its part of it.
    let stays = Ownership::new(&nodes(3), &node(2)).without(&node(3));
    assert_eq!(stays, Ownership::new(&nodes(2), &node(2)));
}

#[test]
fn a_request_goes_to_who_is_known_to_own_it_until_it_has_been_relayed_three_times() {
    assert_eq!(Course::<u8>::of(None, 0), Course::Here);
    assert_eq!(Course::<u8>::of(None, RELAYS_MAX), Course::Here);
    for relays in 0..3 {
        assert_eq!(Course::of(Some(7), relays), Course::There(7));
    }
    assert_eq!(Course::of(Some(7), 3), Course::HereWithCare);
    assert_eq!(Course::of(Some(7), u8::MAX), Course::HereWithCare);
}

#[test]
fn nodes_that_know_different_things_for_ever_relay_no_request_for_ever() {
    // Each knows the other alone, so that it is whoever has the request that does not own it.
    let one = Ownership::leaving(&[node(2)], &node(1));
    let other = Ownership::leaving(&[node(1)], &node(2));
    for identity in identities(100) {
        let (mut at, mut relays) = (&one, 0);
        while let Course::There(_) = Course::of(owner_of_other(at, identity), relays) {
            at = if at == &one { &other } else { &one };
            relays += 1;
        }
        assert_eq!(relays, RELAYS_MAX);
    }
}

fn owner_of_other(ownership: &Ownership, identity: u64) -> Option<Node> {
    match ownership.owner(identity) {
        Owner::Here => None,
        Owner::There(node) => Some(*node),
    }
}
