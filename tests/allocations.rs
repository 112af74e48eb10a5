//! What requests and idle connections cost the allocator, counted in weir's own threads: those of
//! the mock and of the client, which run in this process too, are told apart by their names.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use loadtest::mock::MockConfig;
use loadtest::mock::settings::Settings;
use loadtest::mock::tls::Tls;
use support::http::Client;
use support::{Pair, SHAPES, Shape, TOKEN};

/// Threads that can be told apart: several times what all tests of this file start.
const THREADS_MAX: usize = 512;

/// What one thread has asked of the allocator.
struct Thread {
    /// As the kernel calls it.
    id: AtomicI32,
    /// Blocks asked for or made larger.
    calls: AtomicU64,
    /// Bytes taken and not given back.
    held: AtomicI64,
}

struct Counting {
    threads: [Thread; THREADS_MAX],
    used: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting {
    threads: [const {
        Thread {
            id: AtomicI32::new(0),
            calls: AtomicU64::new(0),
            held: AtomicI64::new(0),
        }
    }; THREADS_MAX],
    used: AtomicUsize::new(0),
};

thread_local! {
    /// The thread's place among [`Counting::threads`]. Neither built at first use nor dropped, so
    /// that an allocator may use it.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

impl Counting {
    fn note(&self, calls: u64, bytes: i64) {
        let place = PLACE.get().unwrap_or_else(|| {
            let place = self.used.fetch_add(1, Ordering::Relaxed) % THREADS_MAX;
            // SAFETY: takes nothing and cannot fail.
            let id = unsafe { libc::gettid() };
            self.threads[place].id.store(id, Ordering::Relaxed);
            PLACE.set(Some(place));
            place
        });
        self.threads[place]
            .calls
            .fetch_add(calls, Ordering::Relaxed);
        self.threads[place].held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Calls and bytes held of the workers that run now.
    fn of_workers(&self) -> (u64, i64) {
        let (mut calls, mut held) = (0, 0);
        for thread in &self.threads {
            let id = thread.id.load(Ordering::Relaxed);
            let name = std::fs::read_to_string(format!("/proc/self/task/{id}/comm"));
            // Workers are `weir-0`, `weir-1` and so on; `weir-dns` and its like are none.
            let index = name
                .as_ref()
                .ok()
                .and_then(|name| name.strip_prefix("weir-"));
            if index.is_some_and(|index| index.trim().parse::<u8>().is_ok()) {
                calls += thread.calls.load(Ordering::Relaxed);
                held += thread.held.load(Ordering::Relaxed);
            }
        }
        (calls, held)
    }
}

// SAFETY: every call is handed to the system's allocator as it came; it is only counted beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note(1, layout.size() as i64);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.note(1, size as i64 - layout.size() as i64);
        // SAFETY: the block came from `alloc` above, which is the system's.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.note(0, -(layout.size() as i64));
        // SAFETY: the block came from `alloc` above, which is the system's.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Held by each test: the workers of two would be counted together.
static ALONE: Mutex<()> = Mutex::new(());

const CHANNEL: u64 = 203_039_963_636_301_824;

/// Bytes of an answer's or a request's body.
const BODY_BYTES: usize = 1024;

/// A weir that never lets a request wait.
fn unlimited(shape: Shape, tls: Tls) -> Pair {
    let mock = MockConfig {
        tls,
        settings: Settings::unlimited(),
        ..MockConfig::default()
    };
    Pair::with(shape, mock, |config| {
        config.bot_ratelimit_overrides.insert(CHANNEL, 100_000);
    })
}

fn get(client: &mut Client, channel: u64) {
    let answer = client.ask(&format!(
        "GET /api/v10/echo/{channel}?bytes={BODY_BYTES} HTTP/1.1\r\n\
         Host: weir\r\nAuthorization: {TOKEN}\r\n\r\n"
    ));
    assert_eq!((answer.status, answer.body.len()), (200, BODY_BYTES));
}

fn post(client: &mut Client, channel: u64) {
    let answer = client.ask(&format!(
        "POST /api/v10/channels/{channel}/messages HTTP/1.1\r\nHost: weir\r\n\
         Authorization: {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: {BODY_BYTES}\r\n\r\n{{\"content\":\"{:x<1$}\"}}",
        "",
        BODY_BYTES - 14
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Calls of the allocator in 2000 requests of each kind, over 4 connections and 50 channels, once
/// all of them have been used.
fn calls(pair: &Pair, ask: fn(&mut Client, u64)) -> u64 {
    const WARM_UP: usize = 400;
    const REQUESTS: usize = 2000;
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(pair.addr())).collect();
    let mut run = |count: usize| {
        for n in 0..count {
            ask(&mut clients[n % 4], CHANNEL + n as u64 % 50);
        }
    };
    run(WARM_UP);
    let (before, _) = ALLOCATOR.of_workers();
    run(REQUESTS);
    ALLOCATOR.of_workers().0 - before
}

#[test]
fn a_request_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for shape in SHAPES {
        for tls in [Tls::Plain, Tls::Valid] {
            let pair = unlimited(shape, tls);
            let made = (calls(&pair, get), calls(&pair, post));
            assert_eq!(made, (0, 0), "{shape:?} {tls:?}: GET, POST");
        }
    }
}

#[test]
fn an_idle_connection_holds_less_than_a_kib_and_a_half() {
    const CONNECTIONS: usize = 1000;
    /// Measured: 1,150 to 1,370 bytes, of them 512 that the next request is read to and 500 of the
    /// connection's task; what grows in steps with all connections together, monoio's records and
    /// the deadlines, is in it.
    const EACH_MAX: i64 = 1536;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for shape in SHAPES {
        let pair = unlimited(shape, Tls::Valid);
        let open = || {
            let mut client = Client::connect(pair.addr());
            get(&mut client, CHANNEL);
            client
        };
        let warm: Vec<_> = (0..100).map(|_| open()).collect();
        thread::sleep(Duration::from_millis(100));
        let (_, before) = ALLOCATOR.of_workers();
        let idle: Vec<_> = (0..CONNECTIONS).map(|_| open()).collect();
        thread::sleep(Duration::from_millis(100));
        let each = (ALLOCATOR.of_workers().1 - before) / CONNECTIONS as i64;
        println!("{shape:?}: {each} bytes each");
        assert!(each < EACH_MAX, "{shape:?}: {each} bytes each");
        drop((warm, idle));
    }
}
