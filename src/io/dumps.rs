//! Whether the process may leave a core dump. Its memory holds tokens.

use std::io;

/// Forbids core dumps of this process, wherever the kernel would put them.
///
/// `PR_SET_DUMPABLE` rather than `RLIMIT_CORE`, since a handler behind a pipe (`core_pattern`, core(5))
/// is started whatever that limit is, and one behind a socket as well. It also keeps other processes of
/// the same user from reading this one's memory. `/proc/PID` belongs to root then: `stat` and `status`
/// are still there for everybody, `fd`, `maps` and profilers for root alone.
///
/// # Errors
/// The kernel refuses.
pub fn forbid() -> io::Result<()> {
    // SAFETY: takes two numbers, and the last is allowed.
    match unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0_u64, 0_u64, 0_u64, 0_u64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumpable() -> i32 {
        // SAFETY: takes no arguments.
        unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
    }

    #[test]
    fn a_process_that_forbids_it_leaves_no_dump() {
        let before = dumpable();
        forbid().unwrap();
        assert_eq!(dumpable(), 0);
        // As it was, for the other tests.
        // SAFETY: takes two numbers, and the last is what the kernel said.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, before as u64, 0_u64, 0_u64, 0_u64) };
    }
}
