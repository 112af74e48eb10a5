//! What the kernel counts of this process (`proc(5)`), for a scrape.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::descriptors;
use super::memory;
use crate::metrics::{System, WorkerUse};

/// Reads what a process with so many workers uses. Some 20 system calls and as many again for each
/// thread: for a scrape, not for a request.
pub fn used(workers: usize) -> System {
    let [size, resident] = pages();
    System {
        arch: std::env::consts::ARCH,
        cpu: cpu(),
        memory_held: memory::held(),
        memory_resident: resident,
        memory_virtual: size,
        open_fds: open_fds(),
        max_fds: descriptors::limit().ok(),
        workers: threads(workers),
        ..System::default()
    }
}

/// Bytes of this process that are resident.
pub fn resident() -> Option<u64> {
    pages()[1]
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Neither is ever negative.
    Duration::new(
        time.tv_sec.cast_unsigned(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Bytes of address space and resident ones.
fn pages() -> [Option<u64>; 2] {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace();
    std::array::from_fn(|_| {
        let pages: u64 = pages.next()?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    })
}

/// Since Linux 6.2 the folder's size is their number; before, they are counted one by one.
fn open_fds() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        // One of them is the folder's own.
        0 => fs::read_dir(FOLDER)
            .ok()
            .map(|all| (all.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// Processor time of each worker, which is found by its thread's name. Of several weirs in one process
/// all count together.
fn threads(workers: usize) -> Vec<WorkerUse> {
    let mut all = vec![WorkerUse::default(); workers];
    let tasks = fs::read_dir("/proc/self/task").ok();
    for task in tasks.into_iter().flatten().flatten() {
        let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let name = read("comm");
        let number = name.trim_end().strip_prefix("weir-");
        let number = number.and_then(|number| number.parse::<usize>().ok());
        let Some(worker) = number.and_then(|number| all.get_mut(number)) else {
            continue;
        };
        // Time on a processor comes first, in nanoseconds.
        let used = read("schedstat");
        let used = used.split_ascii_whitespace().next();
        if let Some(nanos) = used.and_then(|nanos| nanos.parse().ok()) {
            let so_far = worker.cpu.unwrap_or_default();
            worker.cpu = Some(so_far + Duration::from_nanos(nanos));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_read() {
        let before = used(0);
        let files: Vec<_> = (0..5)
            .map(|_| fs::File::open("/proc/self/statm").unwrap())
            .collect();
        let sum = (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        std::hint::black_box(sum);
        let after = used(0);
        assert!(after.cpu > before.cpu);
        assert!(after.memory_resident > Some(1 << 20));
        assert!(after.memory_virtual > after.memory_resident);
        assert!(after.open_fds >= Some(files.len() as u64));
        assert!(after.open_fds < after.max_fds);
    }

    #[test]
    fn a_workers_time_is_found_by_its_threads_name() {
        // Other tests of this process may run workers, too, but none with such a number.
        const WORKER: usize = 777;
        let work = move || {
            let sum = (0..20_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
            std::hint::black_box(sum);
            threads(WORKER + 1)
        };
        let thread = std::thread::Builder::new().name(format!("weir-{WORKER}"));
        let all = thread.spawn(work).unwrap().join().unwrap();
        assert!(
            all[WORKER]
                .cpu
                .is_some_and(|cpu| cpu > Duration::from_millis(1))
        );
        assert_eq!(all[WORKER - 1].cpu, None);
    }
}
