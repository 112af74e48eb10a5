//! What a process costs: CPU time and memory, read from `/proc`.

use std::time::Duration;
use std::{fs, io};

/// Clock ticks a second in `/proc/PID/stat`; Linux shows 100 to user space on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of a process so far, user and system.
///
/// # Errors
/// When there is no such process.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    cpu_times(pid).map(|(user, system)| user + system)
}

/// CPU time of a process so far, in user space and in the kernel, all its threads together, in
/// steps of 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu_times(pid: u32) -> io::Result<(Duration, Duration)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; the fields after it are numbers.
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let mut times = fields.skip(11).map(|field| {
        let ticks = field.parse::<u64>().unwrap_or(0);
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    });
    let mut next = || times.next().unwrap_or_default();
    Ok((next(), next()))
}

/// CPU time of a process so far, as [`cpu_time`], but in nanoseconds: the same count of the
/// scheduler's, before it is cut into ticks.
///
/// # Errors
/// When there is no such process.
pub fn cpu_clock(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: the pointer names `clock`, which outlives the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    read_clock(clock)
}

/// CPU time of the calling thread so far.
///
/// # Errors
/// When the kernel has no such clock.
pub fn thread_clock() -> io::Result<Duration> {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer names `time`, which outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Ok(Duration::new(
        seconds,
        u32::try_from(time.tv_nsec).unwrap_or(0),
    ))
}

/// Resident memory of a process now and at its highest, in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> io::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kb = |name: &str| -> u64 {
        let line = status.lines().find_map(|l| l.strip_prefix(name));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok((kb("VmRSS:") * 1024, kb("VmHWM:") * 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_time_and_memory() {
        let pid = std::process::id();
        let (now, highest) = resident_bytes(pid).unwrap();
        assert!(now > 100_000 && highest >= now);
        let mut x = 1u64;
        while cpu_time(pid).unwrap().is_zero() {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(cpu_time(0).is_err());
        let (ticks, clock) = (cpu_time(pid).unwrap(), cpu_clock(pid).unwrap());
        assert!(
            clock + Duration::from_millis(20) >= ticks,
            "{clock:?} {ticks:?}"
        );
        assert!(thread_clock().unwrap() <= clock);
        assert!(cpu_clock(u32::MAX / 2 - 1).is_err());
    }
}
