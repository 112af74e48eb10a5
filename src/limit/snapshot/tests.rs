use proptest::prelude::*;

use super::codec::{Encoder, open, records};
use super::*;
use crate::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Outputs, Permit, Reason, Settings, Ticket,
    Unlocked, Which,
};

pub(super) const T0: Instant = Instant::from_millis(3_600_000);
const SEEDS: [u64; 4] = [1, 2, 3, 4];
const PROBE: u64 = 77;
const SAVED_MS: u64 = 1_700_000_000_000;

pub(super) type One = Limiter<Unlocked>;

pub(super) fn at(ms: u64) -> Instant {
    T0 + Duration::from_millis(ms)
}

fn seal(complete: bool) -> Seal {
    Seal {
        seeds: SEEDS,
        probe: PROBE,
        saved_unix_ms: SAVED_MS,
        complete,
    }
}

fn saved(limiter: &One, base: Instant, complete: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut copying = Copying::begin(base, &seal(complete), &mut bytes);
    while copying.next(limiter, &mut bytes) {}
    bytes
}

fn snapshot(bytes: &[u8]) -> Result<Snapshot, Broken> {
    Snapshot::open(bytes, |_| PROBE)
}

/// A limiter of a process that starts `down_ms` after the snapshot; its clock shows [`T0`] then.
fn restarted(bytes: &[u8], down_ms: u64, shards: usize) -> One {
    let limiter = One::new(&Settings::default(), shards);
    let snapshot = snapshot(bytes).expect("whole");
    snapshot.restore(&limiter, T0, SAVED_MS + down_ms);
    limiter
}

fn ask(major: u64, route: u64) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot: 0,
            generation: 0,
        },
        key: BucketKey {
            identity: 5,
            major,
            route,
        },
        client: ClientClass::Bot { user_id: Some(9) },
        counts_globally: true,
        serial: false,
        max_wait: Some(Duration::ZERO),
    }
}

pub(super) fn acquire(
    limiter: &One,
    now: Instant,
    ask: &Ask,
) -> Result<Permit, (Reason, Duration)> {
    match limiter.acquire(now, ask, &mut Outputs::new()) {
        Decision::Go(permit) => Ok(permit),
        Decision::Wait => panic!("nobody waits here"),
        Decision::Refuse(refusal) => Err((refusal.reason, refusal.retry_after)),
    }
}

/// An answer of a fixed bucket of five.
pub(super) fn answer(remaining: u16, reset_ms: u64, after_ms: u64) -> Answer {
    let mut answer = Answer::new(200);
    let seconds = |ms: u64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    for (name, value) in [
        ("via", "1.1 google".to_owned()),
        ("x-ratelimit-bucket", "abcd".to_owned()),
        ("x-ratelimit-limit", "5".to_owned()),
        ("x-ratelimit-remaining", remaining.to_string()),
        ("x-ratelimit-reset", seconds(reset_ms)),
        ("x-ratelimit-reset-after", seconds(after_ms)),
    ] {
        answer.header(name.as_bytes(), value.as_bytes());
    }
    answer
}

pub(super) fn answered(limiter: &One, now: Instant, ask: &Ask, answer: &Answer) {
    let permit = acquire(limiter, now, ask).expect("a slot");
    limiter.report(now, permit, answer, &mut Outputs::new());
}

pub(super) fn wait_ms(outcome: &Result<Permit, (Reason, Duration)>) -> u64 {
    match outcome {
        Ok(_) => 0,
        Err((_, wait)) => wait.as_millis() as u64,
    }
}

/// One bucket that is closed until 10 s, of a limiter that knows route 1.
fn exhausted() -> One {
    let limiter = One::new(&Settings::default(), 2);
    answered(&limiter, at(0), &ask(7, 1), &answer(0, 50_000, 10_000));
    limiter
}

#[test]
fn an_exhausted_bucket_is_closed_for_as_long_as_it_was_whatever_the_number_of_shards() {
    let bytes = saved(&exhausted(), at(1_000), true);
    for shards in [1, 2, 3, 64] {
        let limiter = restarted(&bytes, 4_000, shards);
        let wait = wait_ms(&acquire(&limiter, T0, &ask(7, 1)));
        assert!((5_000..5_010).contains(&wait), "{shards}: {wait}");
        // Another channel's bucket is another one, of which the name is known.
        assert!(acquire(&limiter, T0, &ask(8, 1)).is_ok());
    }
}

#[test]
fn once_its_window_is_over_a_restored_bucket_gives_its_limit() {
    let bytes = saved(&exhausted(), at(1_000), true);
    let limiter = restarted(&bytes, 20_000, 2);
    let permits: Vec<_> = std::iter::from_fn(|| acquire(&limiter, T0, &ask(7, 1)).ok()).collect();
    assert_eq!(permits.len(), 5);
}

#[test]
fn of_an_incomplete_snapshot_one_request_asks_how_full_a_bucket_is() {
    let bytes = saved(&exhausted(), at(1_000), false);
    let limiter = restarted(&bytes, 20_000, 2);
    // The first second is waited out: nobody knows what was sent in it.
    let wait = wait_ms(&acquire(&limiter, T0, &ask(7, 1)));
    assert!((1_000..1_010).contains(&wait), "{wait}");
    let permit = acquire(&limiter, at(1_300), &ask(7, 1));
    assert!(permit.is_ok() && acquire(&limiter, at(1_300), &ask(7, 1)).is_err());
    // What is closed stays closed.
    let limiter = restarted(&bytes, 4_000, 2);
    let wait = wait_ms(&acquire(&limiter, at(1_300), &ask(7, 1)));
    assert!((3_700..3_710).contains(&wait), "{wait}");
}

#[test]
fn a_snapshot_from_the_future_keeps_what_is_timeless_alone() {
    let bytes = saved(&exhausted(), at(1_000), true);
    let limiter = One::new(&Settings::default(), 2);
    let counts = snapshot(&bytes)
        .unwrap()
        .restore(&limiter, T0, SAVED_MS - 60_000);
    assert_eq!((counts.age, counts.buckets), (Duration::MAX, 0));
    assert_eq!(counts.routes, 1);
    assert!(acquire(&limiter, T0, &ask(7, 1)).is_ok());
}

#[test]
fn what_is_asked_for_by_another_route_of_its_name_is_found_as_well() {
    let limiter = exhausted();
    answered(&limiter, at(0), &ask(8, 2), &answer(0, 50_000, 10_000));
    let limiter = restarted(&saved(&limiter, at(1_000), true), 0, 3);
    // Route 2 was seen in channel 8 only; the bucket of channel 7 has its name.
    let wait = wait_ms(&acquire(&limiter, T0, &ask(7, 2)));
    assert!((9_000..9_010).contains(&wait), "{wait}");
    let wait = wait_ms(&acquire(&limiter, T0, &ask(7, 1)));
    assert!((9_000..9_010).contains(&wait), "{wait}");
}

#[test]
fn the_global_second_goes_on_after_a_restart() {
    let limiter = One::new(&Settings::default(), 2);
    for major in 0..50 {
        let permit = acquire(&limiter, at(0), &ask(major, 1)).expect("a slot");
        let mut sent = Answer::new(200);
        sent.header(b"via", b"1.1 google");
        limiter.report(at(100), permit, &sent, &mut Outputs::new());
    }
    let bytes = saved(&limiter, at(200), true);
    for (down_ms, least) in [(0, 900), (500, 400)] {
        let limiter = restarted(&bytes, down_ms, 1);
        let wait = wait_ms(&acquire(&limiter, T0, &ask(99, 1)));
        assert!((least..least + 20).contains(&wait), "{down_ms}: {wait}");
    }
    assert!(acquire(&restarted(&bytes, 1_000, 1), T0, &ask(99, 1)).is_ok());
}

#[test]
fn locks_and_guards_outlive_the_process() {
    let limiter = One::new(&Settings::default(), 2);
    answered(&limiter, at(0), &ask(7, 1), &Answer::new(401));
    limiter.confirmed(at(0), 5, false);
    let webhook = Ask {
        client: ClientClass::Webhook { id: None },
        counts_globally: false,
        key: BucketKey {
            identity: 6,
            major: 6,
            route: 2,
        },
        ..ask(7, 1)
    };
    let mut dead = Answer::new(404);
    dead.header(b"via", b"1.1 google");
    dead.error_body(br#"{"message": "Unknown Webhook", "code": 10015}"#);
    answered(&limiter, at(0), &webhook, &dead);
    let invalid = limiter.census(at(0)).invalid;
    assert_eq!(invalid, 2);

    let bytes = saved(&limiter, at(0), true);
    // Opened by hand before anybody met it, it is let go as any other.
    let opened = restarted(&bytes, 60_000, 3);
    assert_eq!(opened.unlock_tokens(T0, Which::All), 1);
    assert_eq!(opened.guarded(T0).tokens.released, 1);
    let _permit = acquire(&opened, T0, &ask(7, 1)).expect("it is believed again");

    let limiter = restarted(&bytes, 60_000, 3);
    let (reason, wait) = acquire(&limiter, T0, &ask(7, 1)).expect_err("locked");
    assert_eq!((reason, wait.as_secs()), (Reason::Unauthorized, 240));
    let (reason, wait) = acquire(&limiter, T0, &webhook).expect_err("dead");
    assert_eq!((reason, wait.as_secs()), (Reason::DeadWebhook, 3_540));
    assert_eq!(limiter.census(T0).invalid, invalid);
    assert_eq!(limiter.census(at(560_000)).invalid, 0);

    let mut blocked = Answer::new(429);
    blocked.header(b"retry-after", b"300");
    let limiter = One::new(&Settings::default(), 2);
    answered(&limiter, at(0), &ask(7, 1), &blocked);
    let limiter = restarted(&saved(&limiter, at(0), true), 60_000, 3);
    let (reason, wait) = acquire(&limiter, T0, &ask(8, 1)).expect_err("blocked");
    assert_eq!((reason, wait.as_secs()), (Reason::Breaker, 240));
}

#[test]
fn what_nobody_asked_for_goes_into_the_next_snapshot_and_is_forgotten_in_time() {
    let first = restarted(&saved(&exhausted(), at(1_000), true), 1_000, 2);
    let again = saved(&first, at(2_000), true);
    let second = restarted(&again, 1_000, 5);
    let wait = wait_ms(&acquire(&second, T0, &ask(7, 1)));
    assert!((5_000..5_015).contains(&wait), "{wait}");

    first.sweep_restored(at(500_000), || ());
    assert!(first.restoring.load(Ordering::Acquire));
    first.sweep_restored(at(700_000), || ());
    assert!(!first.restoring.load(Ordering::Acquire));
    assert_eq!(saved(&first, at(700_000), true).len(), saved_hint().len());
}

/// A snapshot of the one hint of [`exhausted`] alone.
fn saved_hint() -> Vec<u8> {
    let limiter = One::new(&Settings::default(), 1);
    let snapshot = snapshot(&saved(&exhausted(), at(0), true)).unwrap();
    snapshot.restore(&limiter, T0, SAVED_MS + 86_400_000);
    saved(&limiter, T0, true)
}

#[test]
fn what_was_sent_and_not_answered_counts_as_sent() {
    let limiter = One::new(&Settings::default(), 2);
    answered(&limiter, at(0), &ask(7, 1), &answer(4, 50_000, 10_000));
    let under_way: Vec<_> = (0..4)
        .map(|_| acquire(&limiter, at(10), &ask(7, 1)))
        .collect();
    assert!(under_way.iter().all(Result::is_ok));
    let limiter = restarted(&saved(&limiter, at(100), true), 0, 1);
    assert!(wait_ms(&acquire(&limiter, T0, &ask(7, 1))) >= 9_900);
}

#[test]
fn a_file_that_is_not_whole_is_told_apart() {
    let whole = saved(&exhausted(), at(1_000), true);
    assert!(snapshot(&whole).is_ok());
    for len in 0..whole.len() {
        assert_eq!(
            snapshot(&whole[..len]).err(),
            Some(Broken::Damaged),
            "{len}"
        );
    }
    for place in 11..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        assert!(snapshot(&bytes).is_err(), "{place}");
    }
    assert_eq!(snapshot(b"{\"json\": true}").err(), Some(Broken::Foreign));
    let mut newer = whole.clone();
    for version in [0, 3] {
        newer[11] = version;
        let broken = Broken::Version(version.into());
        assert_eq!(snapshot(&newer).err(), Some(broken));
    }
    let other = Snapshot::open(&whole, |_| PROBE + 1).err();
    assert_eq!(other, Some(Broken::OtherHash));
    let mut longer = whole;
    longer.push(0);
    assert_eq!(snapshot(&longer).err(), Some(Broken::Damaged));
}

#[test]
fn records_that_no_weir_writes_are_refused_though_their_checksum_is_right() {
    let sealed = |body: &[u8]| {
        let mut bytes = Vec::new();
        let _ = Encoder::begin(&seal(true), &mut bytes);
        bytes.extend_from_slice(body);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        snapshot(&bytes).err()
    };
    let end = postcard::to_allocvec(&Record::End { records: 0 }).unwrap();
    assert_eq!(sealed(&end), None);
    let count = postcard::to_allocvec(&Record::End { records: 1 }).unwrap();
    let twice = [end.as_slice(), end.as_slice()].concat();
    for body in [&[][..], &[99], &count, &twice, &[0xff; 40]] {
        assert_eq!(sealed(body), Some(Broken::Malformed), "{body:?}");
    }
}

fn times() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_000_000_u64, any::<u64>()]
}

fn codes() -> impl Strategy<Value = Code> {
    (0_u8..6).prop_map(|byte| Code::try_from(byte).expect("one of six"))
}

prop_compose! {
    fn buckets()(
        keys in any::<(u64, u64, u32)>(),
        left in (times(), times(), times()),
        (slot_us, window_ms, reset_server_ms) in any::<(u32, u32, u32)>(),
        (limit, remaining, lost, flags) in any::<(u16, u16, u16, u8)>(),
        (kind, hinted) in (codes(), codes()),
        routes in prop::collection::vec(any::<u64>(), 0..4),
        suspects in prop::collection::vec(any::<(u64, bool)>(), 0..4),
    ) -> BucketRecord {
        let is_lane = kind.0 == Kind::Lane;
        let plain = |key: u64| key & !1;
        let suspects = suspects.into_iter().filter(|_| is_lane);
        let more = More {
            routes: routes.into_iter().filter(|_| !is_lane).map(plain).collect(),
            suspects: suspects.map(|(name, shared)| (plain(name), shared)).collect(),
        };
        BucketRecord {
            name_key: if is_lane { 0 } else { plain(keys.0) },
            route_key: plain(keys.1) | u64::from(is_lane),
            reset_left_us: left.0,
            paused_left_us: left.1,
            used_ago_us: left.2,
            slot_us,
            window_ms,
            reset_server_ms,
            newest_route: keys.2,
            limit,
            remaining,
            lost,
            kind,
            hinted,
            flags,
            more: Some(Box::new(more)),
        }
    }
}

prop_compose! {
    fn identities()(
        key: u64,
        returns in prop::collection::vec((times(), any::<u16>()), 0..9),
        (margin_us, margin_ago_us) in (any::<u32>(), times()),
        (paused_left_us, used_ago_us) in (times(), times()),
        token in prop_oneof![
            Just(TokenRecord::Good),
            times().prop_map(|left_us| TokenRecord::Trusted { left_us }),
            (times(), any::<u8>()).prop_map(|(ask_left_us, refused)| {
                TokenRecord::Doubtful { ask_left_us, refused }
            }),
            (times(), any::<u32>(), any::<bool>()).prop_map(|(left_us, times, confirmed)| {
                TokenRecord::Locked { left_us, times, confirmed }
            }),
        ],
        proven: bool,
    ) -> IdentityRecord {
        let window = WindowRecord { returns, margin_us, margin_ago_us };
        IdentityRecord { key, window, paused_left_us, used_ago_us, token, proven }
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (any::<(u64, Option<u64>, bool)>(), codes()).prop_map(|((key, name, alone), kind)| {
            Record::Hint(HintRecord {
                key,
                name,
                kind,
                alone,
            })
        }),
        any::<(u64, u32)>().prop_map(|(identity, limit)| Record::Limit { identity, limit }),
        identities().prop_map(Record::Identity),
        (times(), any::<u32>()).prop_map(|(left_us, blocks)| Record::Breaker { left_us, blocks }),
        (times(), any::<u32>()).prop_map(|(ago_us, count)| Record::Invalid { ago_us, count }),
        any::<(u64, u64)>()
            .prop_map(|(identity, left_us)| { Record::DeadWebhook { identity, left_us } }),
        (any::<(u64, f32, u32, bool, bool)>(), times(), times()).prop_map(
            |((key, weight, streak, unauthorized, whole), at_ago_us, since_ago_us)| {
                Record::Offence(OffenceRecord {
                    key,
                    weight,
                    streak,
                    unauthorized,
                    whole,
                    at_ago_us,
                    since_ago_us,
                })
            }
        ),
        buckets().prop_map(Record::Bucket),
    ]
}

fn written(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::begin(&seal(true), &mut bytes);
    assert!(encoder.add(records.iter().cloned(), &mut bytes));
    encoder.end(&mut bytes);
    bytes
}

#[test]
fn a_bucket_that_poses_as_a_lane_or_a_lane_as_a_bucket_is_malformed() {
    let limiter = exhausted();
    let lane = learn::lane_key(&ask(7, 1).key);
    let mut all = Vec::new();
    records(open(&saved(&limiter, at(1_000), true)).unwrap().1, |r| {
        all.push(r);
    })
    .unwrap();
    let at_bucket = all
        .iter()
        .position(|r| matches!(r, Record::Bucket(b) if b.kind.0 != Kind::Lane))
        .unwrap();
    let changes: [fn(&mut BucketRecord, u64); 5] = [
        |b, _| b.kind = Code(Kind::Lane),
        |b, lane| b.route_key = lane,
        |b, lane| b.name_key = lane,
        |b, lane| b.more.get_or_insert_default().routes.push(lane),
        |b, _| b.more.get_or_insert_default().suspects.push((2, true)),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut all = all.clone();
        if let Record::Bucket(bucket) = &mut all[at_bucket] {
            change(bucket, lane);
        }
        assert_eq!(
            snapshot(&written(&all)).err(),
            Some(Broken::Malformed),
            "{number}"
        );
    }
    assert!(snapshot(&written(&all)).is_ok());
}

proptest! {
    #[test]
    fn what_is_written_is_read(all in prop::collection::vec(any_record(), 0..40)) {
        let bytes = written(&all);
        let (read_seal, rest) = open(&bytes).expect("whole");
        let mut read = Vec::new();
        records(rest, |record| read.push(record)).expect("sound");
        prop_assert_eq!(read_seal, seal(true));
        prop_assert_eq!(format!("{read:?}"), format!("{all:?}"));
    }

    /// Whoever can write the file can make no limiter panic, nor hold anything back for ever.
    #[test]
    fn made_up_records_harm_nobody(
        all in prop::collection::vec(any_record(), 0..40),
        down_ms in 0..100_000_u64,
        complete: bool,
    ) {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&seal(complete), &mut bytes);
        encoder.add(all.iter().cloned(), &mut bytes);
        encoder.end(&mut bytes);
        let limiter = restarted(&bytes, down_ms, 3);
        for record in &all {
            if let Record::Bucket(record) = record {
                let times = Times::new(T0, Duration::from_millis(down_ms), complete);
                let shard = &limiter.shards[0];
                shard.with(|shard| shard.adopt(T0, record, times, &mut Outputs::new()));
            }
        }
        for major in 0..20 {
            let mut now = T0;
            for _ in 0..20 {
                match acquire(&limiter, now, &ask(major, 1)) {
                    Ok(permit) => limiter.report(now, permit, &Answer::new(200), &mut Outputs::new()),
                    Err((_, wait)) => now += wait + Duration::from_millis(1),
                }
            }
            prop_assert!(now < at(4 * 86_400_000 * 20));
        }
        let again = saved(&limiter, at(1_000), true);
        prop_assert!(snapshot(&again).is_ok());
    }

    #[test]
    fn bytes_of_any_kind_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(snapshot(&bytes).is_err());
        let mut sealed = Vec::new();
        let _ = Encoder::begin(&seal(true), &mut sealed);
        sealed.extend_from_slice(&bytes);
        let crc = crc32fast::hash(&sealed);
        sealed.extend_from_slice(&crc.to_le_bytes());
        if let Ok(snapshot) = snapshot(&sealed) {
            snapshot.restore(&One::new(&Settings::default(), 2), T0, SAVED_MS);
        }
    }
}

#[test]
fn a_file_of_version_1_is_still_read() {
    let mut bytes = saved(&exhausted(), at(1_000), true);
    bytes[11] = 1;
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
    assert!(snapshot(&bytes).is_ok());
}

#[test]
fn what_the_identify_queue_keeps_comes_back_as_it_was() {
    let mut bytes = Vec::new();
    let mut copying = Copying::begin(T0, &seal(true), &mut bytes);
    let starts = Starts {
        bot: 7,
        max_concurrency: 16,
        total: 1_000,
        remaining: 3,
        reset_at: Some(T0 + Duration::from_secs(100)),
        taken: vec![(5, T0 + Duration::from_secs(4))],
    };
    copying.starts(std::slice::from_ref(&starts), &mut bytes);
    while copying.next(&exhausted(), &mut bytes) {}
    let (all, complete) = snapshot(&bytes).unwrap().starts(T0, SAVED_MS);
    assert!(complete);
    let [back] = &all[..] else {
        panic!("{all:?}");
    };
    assert_eq!((back.bot, back.max_concurrency), (7, 16));
    assert_eq!((back.total, back.remaining), (1_000, 3));
    let late = |at: Instant, was: Instant| at >= was && at <= was + Duration::from_millis(100);
    assert!(late(back.reset_at.unwrap(), starts.reset_at.unwrap()));
    assert_eq!(back.taken[0].0, 5);
    assert!(late(back.taken[0].1, starts.taken[0].1));
}

/// Whoever changes a record changes [`codec::VERSION`] and this number.
#[test]
fn version_2_is_written_as_it_always_was() {
    let bucket = BucketRecord {
        name_key: 1,
        route_key: 2,
        reset_left_us: 3,
        paused_left_us: 4,
        used_ago_us: 5,
        slot_us: 6,
        window_ms: 7,
        reset_server_ms: 8,
        newest_route: 9,
        limit: 10,
        remaining: 11,
        lost: 12,
        kind: Code(Kind::Fixed),
        hinted: Code(Kind::Sliding),
        flags: 13,
        more: Some(Box::new(More {
            routes: vec![14],
            suspects: vec![(15, true)],
        })),
    };
    let identity = IdentityRecord {
        key: 1,
        window: WindowRecord {
            returns: vec![(2, 3)],
            margin_us: 4,
            margin_ago_us: 5,
        },
        paused_left_us: 6,
        used_ago_us: 7,
        token: TokenRecord::Locked {
            left_us: 8,
            times: 9,
            confirmed: true,
        },
        proven: true,
    };
    let offence = OffenceRecord {
        key: 1,
        weight: 2.0,
        streak: 3,
        unauthorized: true,
        whole: false,
        at_ago_us: 4,
        since_ago_us: 5,
    };
    let hint = HintRecord {
        key: 1,
        name: Some(2),
        kind: Code(Kind::Free),
        alone: true,
    };
    let all = [
        Record::Hint(hint),
        Record::Limit {
            identity: 1,
            limit: 2,
        },
        Record::Identity(identity),
        Record::Breaker {
            left_us: 1,
            blocks: 2,
        },
        Record::Invalid {
            ago_us: 1,
            count: 2,
        },
        Record::DeadWebhook {
            identity: 1,
            left_us: 2,
        },
        Record::Offence(offence),
        Record::Bucket(bucket),
        Record::Starts {
            bot: 1,
            max_concurrency: 2,
            total: 3,
            remaining: 4,
            reset_left_us: Some(5),
        },
        Record::Started {
            bot: 1,
            shard: 2,
            left_us: 3,
        },
    ];
    let bytes = written(&all);
    // Without the checksum behind them, together with which all bytes have the same.
    let body = &bytes[..bytes.len() - 4];
    assert_eq!((codec::VERSION, crc32fast::hash(body)), (2, 761_552_189));
}
