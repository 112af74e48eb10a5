//! Counting with valgrind, which runs a program on a processor of its own making and counts what
//! it executes: the same number every time, in a container and under load, where hardware counters
//! are not to be had or not to be trusted.

use std::env;
use std::io;
use std::process::Command;

use crate::parts::{OPERATIONS, Part};

/// Why there is no count.
#[derive(Debug)]
pub(crate) enum Error {
    /// valgrind could not be started.
    Valgrind(io::Error),
    /// valgrind ran, and what it said holds no count.
    NoCount(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Valgrind(error) => {
                write!(
                    f,
                    "valgrind cannot be run ({error}); apt-get install valgrind"
                )
            }
            Self::NoCount(said) => write!(f, "valgrind did not count:\n{said}"),
        }
    }
}

/// Instructions of one operation of `part`, to the nearest.
pub(crate) fn per_operation(part: &Part) -> Result<u64, Error> {
    let once = run(part, OPERATIONS)?;
    let twice = run(part, 2 * OPERATIONS)?;
    let operations = OPERATIONS as u64;
    Ok((twice.saturating_sub(once) + operations / 2) / operations)
}

/// Instructions of a whole run of this program with so many operations.
fn run(part: &Part, operations: usize) -> Result<u64, Error> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().map_err(Error::Valgrind)?)
        .args(["run", part.name, &operations.to_string()])
        // The environment lies on the stack and shifts what is behind it.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .output()
        .map_err(Error::Valgrind)?;
    let said = String::from_utf8_lossy(&output.stderr);
    match collected(&said) {
        Some(count) if output.status.success() => Ok(count),
        Some(_) | None => Err(Error::NoCount(said.into_owned())),
    }
}

/// The number behind `Collected :`.
fn collected(said: &str) -> Option<u64> {
    let (_, rest) = said.split_once("Collected : ")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_among_what_valgrind_says() {
        let said = "==7== Callgrind, …\n==7== \n==7== Events    : Ir\n==7== Collected : 482913\n";
        assert_eq!(collected(said), Some(482_913));
        assert_eq!(collected("==7== Collected : \n"), None);
        assert_eq!(collected("valgrind: no such tool"), None);
    }
}
