use super::*;
use crate::route::slot::SlotSet;
use proptest::prelude::*;
use std::net::SocketAddr;

const NOW: u64 = 1_700_000_000_000;

/// A stand-in that is as sensitive to every byte as a real one, and no secret at all.
struct Toy(u64);

impl Mac for Toy {
    fn tag(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut state = u128::from(self.0) | 1 << 100;
        for byte in parts.iter().flat_map(|part| part.iter()) {
            state = (state ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
            state ^= state >> 67;
        }
        state.to_le_bytes()
    }
}

fn stamp(nonce: u64) -> Stamp {
    Stamp {
        unix_ms: NOW,
        nonce,
    }
}

fn sealed(body: &Body<'_>, key: u64, stamp: Stamp) -> Vec<u8> {
    let mut out = Vec::new();
    seal(body, Some((&Toy(key), stamp)), &mut out);
    out
}

fn opened(bytes: &[u8], replays: &mut Replays, unix_ms: u64) -> Result<Vec<u8>, Ignored> {
    match open(bytes, Some((&Toy(7), replays)), unix_ms)? {
        Body::Gossip(bytes) => Ok(bytes.to_vec()),
        Body::HandOver(_) => Err(Ignored::Foreign),
    }
}

const GOSSIP: Body<'static> = Body::Gossip(b"hello");

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 7654))
}

fn hand_over(records: &[u8]) -> HandOver<'_> {
    HandOver {
        to: addr(1),
        from: addr(2),
        generation: 99,
        probe: 1 << 63,
        part: 3,
        last: false,
        complete: true,
        slots: [1, 77, 4_095].into_iter().collect(),
        records,
    }
}

#[test]
fn what_is_sealed_opens_with_the_same_secret_once() {
    let mut replays = Replays::default();
    let envelope = sealed(&GOSSIP, 7, stamp(1));
    assert_eq!(envelope.len(), 5 + ENVELOPE_BYTES_MAX);
    assert_eq!(opened(&envelope, &mut replays, NOW).unwrap(), b"hello");
    assert_eq!(opened(&envelope, &mut replays, NOW), Err(Ignored::Replayed));
    let other = sealed(&GOSSIP, 7, stamp(2));
    assert!(opened(&other, &mut replays, NOW).is_ok());
}

#[test]
fn another_secret_a_missing_one_and_a_needless_one_are_told_apart() {
    let mut replays = Replays::default();
    let wrong = sealed(&GOSSIP, 8, stamp(1));
    assert_eq!(opened(&wrong, &mut replays, NOW), Err(Ignored::WrongTag));
    let mut plain = Vec::new();
    seal(&GOSSIP, None, &mut plain);
    assert_eq!(opened(&plain, &mut replays, NOW), Err(Ignored::Unsealed));
    assert_eq!(open(&plain, None, NOW), Ok(GOSSIP));
    assert_eq!(open(&wrong, None, NOW), Err(Ignored::NoSecret));
    // The flag is under the tag as well.
    let mut stripped = sealed(&GOSSIP, 7, stamp(3));
    stripped[3] &= !SEALED;
    assert_eq!(opened(&stripped, &mut replays, NOW), Err(Ignored::Unsealed));
}

#[test]
fn every_changed_byte_is_noticed() {
    let envelope = sealed(&GOSSIP, 7, stamp(1));
    for place in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[place] ^= 1;
        let result = opened(&changed, &mut Replays::default(), NOW);
        let expected = match place {
            0 | 1 => Ignored::Foreign,
            2 => Ignored::Version,
            _ => Ignored::WrongTag,
        };
        assert_eq!(result, Err(expected), "{place}");
    }
}

#[test]
fn an_envelope_is_good_for_as_long_as_clocks_may_differ() {
    let skew = SKEW_MAX.as_millis() as u64;
    for (at, good) in [
        (NOW + skew, true),
        (NOW - skew, true),
        (NOW + skew + 1, false),
        (NOW - skew - 1, false),
    ] {
        let result = opened(&sealed(&GOSSIP, 7, stamp(1)), &mut Replays::default(), at);
        assert_eq!(result.is_ok(), good);
        assert!(good || result == Err(Ignored::Stale));
    }
}

#[test]
fn nothing_that_is_still_good_is_forgotten() {
    let skew = SKEW_MAX.as_millis() as u64;
    // Sent by a clock that is ahead, repeated when ours has caught up and passed it.
    for begin in [NOW - 90_000, NOW - skew, NOW - 1, NOW] {
        let mut replays = Replays::default();
        let _ = opened(
            &sealed(
                &GOSSIP,
                7,
                Stamp {
                    unix_ms: begin,
                    nonce: 5,
                },
            ),
            &mut replays,
            begin,
        );
        let envelope = sealed(&GOSSIP, 7, stamp(1));
        assert!(
            opened(&envelope, &mut replays, NOW - skew).is_ok(),
            "{begin}"
        );
        for at in (NOW - skew..=NOW + skew).step_by(997) {
            let nonce = at;
            let _ = opened(
                &sealed(&GOSSIP, 7, Stamp { unix_ms: at, nonce }),
                &mut replays,
                at,
            );
            assert_eq!(
                opened(&envelope, &mut replays, at),
                Err(Ignored::Replayed),
                "{at}"
            );
        }
    }
}

#[test]
fn numbers_are_bounded_and_room_comes_back() {
    let mut replays = Replays::default();
    (0..NONCES_MAX as u64).for_each(|n| replays.admit(stamp(n), NOW).unwrap());
    assert_eq!(replays.admit(stamp(1 << 40), NOW), Err(Ignored::TooMany));
    let later = Stamp {
        unix_ms: NOW + 61_000,
        nonce: 1,
    };
    assert_eq!(replays.admit(later, NOW + 61_000), Ok(()));
}

#[test]
fn what_is_no_envelope_is_ignored() {
    for (bytes, why) in [
        (&b""[..], Ignored::Foreign),
        (b"\xc3w\x01", Ignored::Foreign),
        (b"GET / HTTP/1.1\r\n", Ignored::Foreign),
        (b"\xc3w\x02\x01hello", Ignored::Version),
        (b"\xc3w\x01\x03hello", Ignored::Version),
        (b"\xc3w\x01\x02hello", Ignored::Malformed),
        (b"\xc3w\x01\x02", Ignored::Malformed),
    ] {
        assert_eq!(open(bytes, None, NOW), Err(why), "{bytes:?}");
    }
    assert_eq!(
        opened(b"\xc3w\x01\x81", &mut Replays::default(), NOW),
        Err(Ignored::Malformed)
    );
}

#[test]
fn a_hand_over_comes_out_as_it_went_in() {
    let message = hand_over(b"some records");
    let envelope = sealed(&Body::HandOver(Box::new(message.clone())), 7, stamp(4));
    let mut replays = Replays::default();
    let body = open(&envelope, Some((&Toy(7), &mut replays)), NOW);
    assert_eq!(body, Ok(Body::HandOver(Box::new(message))));
}

#[test]
fn a_hand_over_is_bounded_and_whole() {
    let records = vec![0; RECORDS_BYTES_MAX + 1];
    let mut out = Vec::new();
    seal(
        &Body::HandOver(Box::new(hand_over(&records))),
        None,
        &mut out,
    );
    assert_eq!(open(&out, None, NOW), Err(Ignored::Malformed));
    out.clear();
    seal(
        &Body::HandOver(Box::new(hand_over(&records[1..]))),
        None,
        &mut out,
    );
    assert!(open(&out, None, NOW).is_ok());
    assert!(out.len() < RECORDS_BYTES_MAX + 600);
    for cut in [4, 5, 20, 100, out.len() - 1] {
        assert_eq!(
            open(&out[..cut], None, NOW),
            Err(Ignored::Malformed),
            "{cut}"
        );
    }
    out.push(0);
    assert_eq!(open(&out, None, NOW), Err(Ignored::Malformed));
}

#[test]
fn a_pass_holds_for_one_request() {
    let parts: [&[u8]; 2] = [b"GET", b"/api/v10/users/@me"];
    let pass = make_pass(&Toy(7), stamp(1), &parts);
    assert!(pass.iter().all(u8::is_ascii_hexdigit));
    let check = |pass: &[u8], parts: &[&[u8]], key, at| {
        check_pass(&Toy(key), &mut Replays::default(), at, pass, parts)
    };
    assert_eq!(check(&pass, &parts, 7, NOW), Ok(()));
    assert_eq!(check(&pass, &parts, 8, NOW), Err(Ignored::WrongTag));
    assert_eq!(
        check(&pass, &[b"GE", b"T/api/v10/users/@me"], 7, NOW),
        Err(Ignored::WrongTag)
    );
    assert_eq!(check(&pass, &parts, 7, NOW + 31_000), Err(Ignored::Stale));
    assert_eq!(check(&pass[1..], &parts, 7, NOW), Err(Ignored::Malformed));
    assert_eq!(
        check(&[b'x'; PASS_BYTES], &parts, 7, NOW),
        Err(Ignored::Malformed)
    );
    let mut replays = Replays::default();
    assert_eq!(
        check_pass(&Toy(7), &mut replays, NOW, &pass, &parts),
        Ok(())
    );
    let again = check_pass(&Toy(7), &mut replays, NOW, &pass, &parts);
    assert_eq!(again, Err(Ignored::Replayed));
}

#[test]
fn reasons_have_labels_of_their_own() {
    let labels: std::collections::HashSet<_> = Ignored::ALL.iter().map(|i| i.label()).collect();
    assert_eq!(labels.len(), Ignored::ALL.len());
}

proptest! {
    #[test]
    fn no_bytes_are_taken_for_a_sealed_envelope(bytes: Vec<u8>) {
        prop_assert!(opened(&bytes, &mut Replays::default(), NOW).is_err());
    }

    #[test]
    fn what_opens_is_what_was_sealed(
        words in prop::collection::vec(any::<u64>(), 64),
        records in prop::collection::vec(any::<u8>(), 0..300),
        part: u32, last: bool, complete: bool, generation: u64, probe: u64, port: u16, ip: u128,
    ) {
        let message = HandOver {
            to: SocketAddr::new(std::net::IpAddr::V6(ip.into()), port),
            generation, probe, part, last, complete,
            slots: SlotSet::from_words(words.try_into().unwrap()),
            ..hand_over(&records)
        };
        let mut out = Vec::new();
        seal(&Body::HandOver(Box::new(message.clone())), None, &mut out);
        prop_assert_eq!(open(&out, None, NOW), Ok(Body::HandOver(Box::new(message))));
    }

    #[test]
    fn a_body_of_any_bytes_is_read_or_ignored(bytes: Vec<u8>) {
        let mut envelope = b"\xc3w\x01\x02".to_vec();
        envelope.extend(&bytes);
        if let Ok(Body::HandOver(message)) = open(&envelope, None, NOW) {
            let mut again = Vec::new();
            seal(&Body::HandOver(message.clone()), None, &mut again);
            prop_assert_eq!(open(&again, None, NOW), Ok(Body::HandOver(message)));
        }
    }
}
