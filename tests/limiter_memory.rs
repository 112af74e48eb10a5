//! What the limiter holds, counted by the allocator: bytes for each tracked bucket and identity.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weir::clock::Instant;
use weir::limit::{
    Answer, Ask, BucketKey, ClientClass, Decision, Limiter, Outputs, Settings, Ticket, Unlocked,
};

/// Bytes allocated and not freed; a block counts as it was asked for.
struct Counting(AtomicUsize);

#[global_allocator]
static ALLOCATOR: Counting = Counting(AtomicUsize::new(0));

// SAFETY: every call is handed to the system's allocator as it came; only sizes are counted beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.0.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from `alloc` above, which is the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

fn held() -> usize {
    ALLOCATOR.0.load(Ordering::Relaxed)
}

fn ask(identity: u64, major: u64) -> Ask {
    Ask {
        ticket: Ticket {
            worker: 0,
            slot: 0,
            generation: 0,
        },
        key: BucketKey {
            // Keys are hashes where they come from.
            identity: (identity + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            major: (major + 1).wrapping_mul(0xd6e8_feb8_6659_fd93),
            route: 1,
        },
        client: ClientClass::Bot { user_id: None },
        counts_globally: true,
        serial: true,
        max_wait: None,
    }
}

fn answer() -> Answer {
    let mut answer = Answer::new(200);
    for (name, value) in [
        ("x-ratelimit-bucket", "80c17d2f203122d936070c88c8d10f33"),
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "4"),
        ("x-ratelimit-reset", "1700000000.000"),
        ("x-ratelimit-reset-after", "5.000"),
        ("via", "1.1 google"),
    ] {
        answer.header(name.as_bytes(), value.as_bytes());
    }
    answer
}

/// Bytes for each of `count` asks of different buckets, once all are answered.
fn bytes_each(shards: usize, count: u64, key: impl Fn(u64) -> (u64, u64)) -> usize {
    let settings = Settings {
        global_default: 60_000,
        identities_max: 1_000_000,
        ..Settings::default()
    };
    let mut now = Instant::from_millis(1_000_000);
    let (mut out, answer) = (Outputs::new(), answer());
    let before = held();
    let limiter = Limiter::<Unlocked>::new(&settings, shards);
    for n in 0..count {
        let (identity, major) = key(n);
        let Decision::Go(permit) = limiter.acquire(now, &ask(identity, major), &mut out) else {
            panic!("nobody is before it");
        };
        limiter.report(now, permit, &answer, &mut out);
        while out.pop().is_some() {}
        now += Duration::from_micros(20);
    }
    assert!(limiter.census(now).buckets as u64 >= count);
    (held() - before) / count as usize
}

/// One test, for the counter counts the whole process.
#[test]
fn a_bucket_takes_160_bytes_and_an_identity_4_kib() {
    for count in [950_000, 1_000_000] {
        let bucket = bytes_each(8, count, |n| (n % 64, n));
        println!("{bucket} bytes a bucket, of {count}");
        assert!(bucket <= 160, "{bucket}");
    }
    let identity = bytes_each(8, 20_000, |n| (n, 1));
    println!("{identity} bytes an identity, its lane or bucket included");
    assert!(identity <= 4_096, "{identity}");
}
