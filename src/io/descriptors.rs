//! How many descriptors the process may have open.

use std::io;

/// Raises the process's limit of open descriptors to the most it may set itself, and returns that.
/// Shells start programs with 1,024, which is fewer than a fleet has connections.
///
/// # Errors
/// The kernel refuses, and the limit is as it was.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer names `limit`, which outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_most_there_is() {
        let first = raise_limit().unwrap();
        assert_eq!(raise_limit().unwrap(), first);
        assert!(first >= 1024);
    }
}
