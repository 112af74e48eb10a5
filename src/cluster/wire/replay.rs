//! Numbers that were used: each is good once, within a minute around now.

use super::{Ignored, Stamp};
use std::collections::HashSet;
use std::time::Duration;

/// How far the clocks of two nodes may be apart.
pub const SKEW_MAX: Duration = Duration::from_secs(30);
/// Numbers remembered of each minute: a node gets some 20 datagrams a second, and only nodes that
/// know the secret can fill this. 2.2 MB at most, of two minutes.
pub const NONCES_MAX: usize = 32_768;

const SKEW_MS: u64 = SKEW_MAX.as_millis() as u64;
/// A stamp is acceptable for so long, from a clock that is ahead to one that is behind.
const SPAN_MS: u64 = 2 * SKEW_MS;

/// See the module's documentation. Two halves take turns, so that forgetting costs nothing.
#[derive(Debug)]
pub struct Replays {
    /// Numbers remembered of each minute.
    max: usize,
    current: HashSet<Stamp>,
    before: HashSet<Stamp>,
    /// When the halves changed last.
    turned_unix_ms: u64,
}

impl std::hash::Hash for Stamp {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_u64(self.unix_ms);
        state.write_u64(self.nonce);
    }
}

impl Default for Replays {
    fn default() -> Self {
        Self::of(NONCES_MAX)
    }
}

impl Replays {
    /// Remembers this many numbers of each minute.
    pub fn of(max: usize) -> Self {
        Self {
            max,
            current: HashSet::new(),
            before: HashSet::new(),
            turned_unix_ms: 0,
        }
    }

    /// Takes a stamp whose tag was right, unless it is too old, too new, or came before.
    ///
    /// # Errors
    /// Which of them.
    pub fn admit(&mut self, stamp: Stamp, unix_ms: u64) -> Result<(), Ignored> {
        if stamp.unix_ms.abs_diff(unix_ms) > SKEW_MS {
            return Err(Ignored::Stale);
        }
        // A half that is forgotten holds nothing that would still be taken: it was filled before the
        // half that was filled for a whole span. A clock that jumps turns them, too.
        if unix_ms.abs_diff(self.turned_unix_ms) > SPAN_MS {
            self.before = std::mem::take(&mut self.current);
            self.turned_unix_ms = unix_ms;
        }
        if self.current.contains(&stamp) || self.before.contains(&stamp) {
            return Err(Ignored::Replayed);
        }
        if self.current.len() >= self.max {
            return Err(Ignored::TooMany);
        }
        self.current.insert(stamp);
        Ok(())
    }
}
