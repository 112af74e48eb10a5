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
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; the fields after it are numbers.
    let fields = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|f| f.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
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
    }
}
