//! Any records as what a limiter learned before a restart. The input is three digits, for the shards
//! of the limiter that is taught, the time between and whether it was the last word, and then the
//! records as they stand in a file; what stands around them, checksum included, is put there, since
//! no damage gets past that. The same bytes are also read as a whole file.
//!
//! - Nothing that is read makes the limiter break its invariants, promise a wait beyond
//!   [`WAIT_MAX`], or let anybody wait for ever.
//! - What was restored can be taken again and read again, whether it was asked for or not, by a
//!   limiter of another number of shards, which then knows as many routes.
//! - Nothing that is not sealed with the same hash is read.

#![no_main]

mod limiter_answer;

use libfuzzer_sys::arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use limiter_answer::Reply;
use std::collections::BTreeMap;
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::snapshot::{Broken, Copying, Seal, Snapshot};
use weir::limit::{
    Ask, BucketKey, ClientClass, Decision, Limiter, Output, Outputs, PAUSE_MAX, Permit, Refusal,
    Settings, Ticket, Unlocked,
};

const BASE: Instant = Instant::from_millis(3_600_000);
const SAVED_UNIX_MS: u64 = 1_700_000_000_000;
const PROBE: u64 = 77;
/// Ticks within which all have a verdict.
const TICKS_MAX: usize = 100_000;
/// Requests of one bucket, of which each may wait for the one before: keys of two majors or routes.
const ASKS: u32 = 6 * 2 * 4;
/// Twice the longest pause is what a file can say of anything; and a bucket may hand out one slot in
/// the longest window.
const WAIT_MAX: Duration = Duration::from_secs(2 * PAUSE_MAX.as_secs() * (ASKS as u64 + 1));

type Local = Limiter<Unlocked>;

fuzz_target!(|data: &[u8]| {
    assert!(Snapshot::open(data, |_| PROBE).is_err() || data.len() > 80);
    let [shards, between, complete, records @ ..] = data else {
        return;
    };
    let file = file(records, complete & 1 != 0);
    let other = Snapshot::open(&file, |_| PROBE + 1);
    assert_eq!(other.err(), Some(Broken::OtherHash));
    let Ok(snapshot) = Snapshot::open(&file, |_| PROBE) else {
        return;
    };
    // Minutes, or the clock was set back.
    let between = [0, 5, 100, 60_000, 700_000, 100_000_000][usize::from(between % 6)];
    let unix_ms = match shards & 8 {
        0 => SAVED_UNIX_MS + between,
        _ => SAVED_UNIX_MS - between,
    };
    let limiter = limiter(usize::from(shards % 3) + 1);
    let counts = snapshot.restore(&limiter, BASE, unix_ms);

    let untouched = again(&limiter, BASE);
    let second = self::limiter(2);
    let taught = untouched.restore(&second, BASE, SAVED_UNIX_MS);
    assert!(taught.buckets <= counts.buckets && taught.routes <= counts.routes);

    let mut world = World::new(limiter);
    world.ask_all();
    world.come_to_rest();
    again(&world.limiter, world.now).restore(&self::limiter(1), BASE, SAVED_UNIX_MS);
    world.limiter.sweep_restored(world.now, || ());
    let later = world.now + Duration::from_secs(100_000);
    world.limiter.sweep_restored(later, || ());
    again(&world.limiter, later);
});

fn limiter(shards: usize) -> Local {
    Limiter::new(&Settings::default(), shards)
}

/// The records with a head and a checksum.
fn file(records: &[u8], complete: bool) -> Vec<u8> {
    let mut file = Vec::new();
    Copying::begin(BASE, &seal(complete), &mut file);
    file.extend_from_slice(records);
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    file
}

fn seal(complete: bool) -> Seal {
    Seal {
        seeds: [1, 2, 3, 4],
        probe: PROBE,
        saved_unix_ms: SAVED_UNIX_MS,
        complete,
    }
}

/// What is taken of `limiter` is read again.
fn again(limiter: &Local, now: Instant) -> Snapshot {
    let mut bytes = Vec::new();
    let mut copying = Copying::begin(now, &seal(true), &mut bytes);
    while copying.next(limiter, &mut bytes) {}
    let snapshot = Snapshot::open(&bytes, |_| PROBE).expect("what weir writes");
    assert_eq!(snapshot.seal(), &seal(true));
    snapshot
}

struct World {
    limiter: Local,
    out: Outputs,
    now: Instant,
    waiting: BTreeMap<u32, ()>,
    under_way: Vec<Permit>,
    armed: Vec<Instant>,
}

impl World {
    fn new(limiter: Local) -> Self {
        let armed = vec![BASE; limiter.shards()];
        Self {
            limiter,
            out: Outputs::new(),
            now: BASE,
            waiting: BTreeMap::new(),
            under_way: Vec::new(),
            armed,
        }
    }

    /// One request of each key that a record of the seeds may speak of.
    fn ask_all(&mut self) {
        for slot in 0..ASKS {
            let (identity, rest) = (slot % 6, slot / 6);
            let (major, route) = (rest % 2, rest / 2);
            let client = match identity {
                0 | 1 => ClientClass::Bot {
                    user_id: Some(identity.into()),
                },
                2 => ClientClass::Bearer,
                3 => ClientClass::Anonymous,
                4 => ClientClass::Webhook { id: None },
                _ => ClientClass::Interaction,
            };
            let ask = Ask {
                ticket: Ticket {
                    worker: 0,
                    slot,
                    generation: 0,
                },
                key: BucketKey {
                    identity: identity.into(),
                    major: major.into(),
                    route: route.into(),
                },
                client,
                counts_globally: identity < 4,
                serial: slot % 5 == 0,
                max_wait: (slot % 7 == 0).then_some(Duration::ZERO),
            };
            match self.limiter.acquire(self.now, &ask, &mut self.out) {
                Decision::Go(permit) => self.under_way.push(permit),
                Decision::Wait => drop(self.waiting.insert(slot, ())),
                Decision::Refuse(refusal) => check_refusal(&refusal),
            }
            self.deliver();
        }
    }

    fn deliver(&mut self) {
        while let Some(output) = self.out.pop() {
            match output {
                Output::Go { ticket, permit } => {
                    assert!(self.waiting.remove(&ticket.slot).is_some(), "it waits");
                    self.under_way.push(permit);
                }
                Output::Refuse { ticket, refusal } => {
                    assert!(self.waiting.remove(&ticket.slot).is_some(), "it waits");
                    check_refusal(&refusal);
                }
                Output::Deadline { shard, at } => self.armed[shard] = self.armed[shard].min(at),
                Output::Confirm { .. } => {}
            }
        }
    }

    /// All are answered, and time goes on until nobody waits.
    fn come_to_rest(&mut self) {
        let reply = Reply::arbitrary(&mut Unstructured::new(b"013340")).expect("six digits");
        for _ in 0..TICKS_MAX {
            while let Some(permit) = self.under_way.pop() {
                let answer = reply.answer(self.now);
                self.limiter
                    .report(self.now, permit, &answer, &mut self.out);
                self.deliver();
            }
            if self.waiting.is_empty() {
                break;
            }
            let (shard, &at) = (self.armed.iter().enumerate())
                .min_by_key(|&(_, at)| at)
                .expect("a shard");
            assert!(at < Instant::FAR, "nobody will wake who waits");
            self.now = self.now.max(at);
            self.limiter.tick(self.now, shard, &mut self.out);
            self.deliver();
            let next = self.limiter.next_deadline(shard);
            assert!(
                next.is_none_or(|at| at > self.now),
                "a deadline in the past"
            );
            self.armed[shard] = next.unwrap_or(Instant::FAR);
        }
        assert!(self.waiting.is_empty(), "nobody waits for ever");
        assert!(self.now <= BASE + WAIT_MAX, "longer than anybody was told");
        let census = self.limiter.census(self.now);
        let waiting = (census.waiting_for_bucket, census.waiting_for_global);
        assert_eq!((waiting, census.under_way), ((0, 0), 0));
    }
}

fn check_refusal(refusal: &Refusal) {
    assert!(refusal.retry_after <= WAIT_MAX, "{refusal:?}");
}
