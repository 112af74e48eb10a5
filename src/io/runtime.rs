//! The runtime of a worker thread: io_uring set up for one thread, or epoll where that is refused.
//!
//! monoio's default flags cost an inter-processor interrupt for each completion; with
//! `SINGLE_ISSUER | DEFER_TASKRUN` completions are run when the worker asks for them, which
//! measured 17 µs of CPU a request instead of 27. `DEFER_TASKRUN` needs kernel 6.1; an older one,
//! a container's seccomp filter or `kernel.io_uring_disabled` refuse, and then epoll serves.

use std::future::Future;
use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::config::IoDriver;

/// Entries of a worker's submission queue. 64 such rings fit in the 8 MiB of locked memory that a
/// service gets by default.
const RING_ENTRIES: u32 = 1024;

/// Entries of the ring that only shows whether one can be had.
const PROBE_ENTRIES: u32 = 8;

/// Which driver a worker runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chosen {
    /// io_uring with `SINGLE_ISSUER | DEFER_TASKRUN`.
    IoUring,
    /// epoll.
    Epoll,
}

/// A runtime, built on the thread that will run it (`SINGLE_ISSUER` binds the ring to it).
pub enum WorkerRuntime {
    /// On io_uring.
    IoUring(Runtime<TimeDriver<IoUringDriver>>),
    /// On epoll.
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

fn ring() -> io::Result<Runtime<TimeDriver<IoUringDriver>>> {
    let mut flags = io_uring::IoUring::builder();
    flags.setup_single_issuer().setup_defer_taskrun();
    RuntimeBuilder::<TimeDriver<IoUringDriver>>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(flags)
        .build()
}

impl WorkerRuntime {
    /// Builds the runtime `chosen` by [`choose`] for the calling thread.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn build(chosen: Chosen) -> io::Result<Self> {
        match chosen {
            Chosen::IoUring => ring().map(Self::IoUring),
            Chosen::Epoll => RuntimeBuilder::<TimeDriver<LegacyDriver>>::new()
                .build()
                .map(Self::Epoll),
        }
    }

    /// Runs `future` to its end.
    pub fn block_on<F: Future>(&mut self, future: F) -> F::Output {
        match self {
            Self::IoUring(runtime) => runtime.block_on(future),
            Self::Epoll(runtime) => runtime.block_on(future),
        }
    }
}

/// Decides the driver once for all workers, by trying: `auto` falls back to epoll and returns the
/// reason beside it.
///
/// # Errors
/// The kernel's refusal, where io_uring was asked for by name.
pub fn choose(wanted: IoDriver) -> io::Result<(Chosen, Option<io::Error>)> {
    match wanted {
        IoDriver::Epoll => Ok((Chosen::Epoll, None)),
        IoDriver::IoUring => probe().map(|()| (Chosen::IoUring, None)),
        IoDriver::Auto => match probe() {
            Ok(()) => Ok((Chosen::IoUring, None)),
            Err(refusal) => Ok((Chosen::Epoll, Some(refusal))),
        },
    }
}

/// Sets up a ring on a thread of its own, since `SINGLE_ISSUER` would bind it to this one.
fn probe() -> io::Result<()> {
    std::thread::spawn(|| {
        let ring: io::Result<io_uring::IoUring> = io_uring::IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(PROBE_ENTRIES);
        ring.map(drop)
    })
    .join()
    .unwrap_or_else(|_| Err(io::Error::other("probing io_uring panicked")))
}

/// Pins the calling thread to one processor of those the process may use, chosen round robin.
/// A refusal is no harm: the thread then runs wherever the kernel puts it.
pub fn pin(worker: usize) {
    let allowed = allowed_processors();
    if let Some(&processor) = allowed.get(worker % allowed.len().max(1)) {
        let _ = monoio::utils::bind_to_cpu_set([processor]);
    }
}

/// The processors that the process may run on.
fn allowed_processors() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and size name `set`, which outlives the call; 0 is this thread.
    let failed = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0;
    if failed {
        return Vec::new();
    }
    (0..libc::CPU_SETSIZE.unsigned_abs() as usize)
        // SAFETY: the index lies below CPU_SETSIZE.
        .filter(|&processor| unsafe { libc::CPU_ISSET(processor, &set) })
        .collect()
}
