//! How slow a client may be with a body, and who goes first when connections to the upstream run out.
//!
//! ```text
//! credit  CLIENT_IDLE_TIMEOUT ┐    ┌─ bytes win it back, 1 s for every CLIENT_MIN_RATE
//!                              ╲  ╱╲      ╱
//!                   waiting for ╲╱  ╲    ╱
//!                   the client uses  ╲  ╱
//!                   it up             ╲╱
//!                           0 ─────────────────── cut off
//! ```
//! Only the time counts that weir spends waiting for the client: not that of a limit, nor of a slow
//! upstream. A body of N bytes thus takes a client no longer than the timeout and N/rate together,
//! and a pause in a fast one costs what any pause may.
//!
//! While a body streams, its exchange holds one of the worker's connections to the upstream. When all
//! are held and a request needs one, the client with the least credit left is cut off
//! ([`Laggards::press`]), if it is behind at all.

use std::cell::RefCell;
use std::future::Future;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use slab::Slab;

use super::Worker;
use crate::clock::{self, Instant};
use crate::config::Config;
use crate::io::socket::{Half, shut};

/// How far behind a client must be before it can be cut off for others' sake: longer than a lost
/// packet holds a connection up (RFC 6298: 1 s), shorter than requests wait for a connection (4 s).
const BEHIND: Duration = Duration::from_secs(2);

/// The credit of one client with one body.
pub(super) struct Pace {
    left: Duration,
    full: Duration,
    /// Bytes that win back a second; 0: each wins back everything.
    rate: u64,
    /// Its exchange holds a connection to the upstream.
    holds: bool,
}

impl Pace {
    /// Of a client whose exchange holds no connection to the upstream yet.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            left: config.client_idle_timeout,
            full: config.client_idle_timeout,
            rate: config.client_min_rate,
            holds: false,
        }
    }

    /// Of a client that keeps a connection to the upstream from others.
    pub(super) fn holding(config: &Config) -> Self {
        Self {
            holds: true,
            ..Self::new(config)
        }
    }

    /// Waits for the client: `work` is something that ends when `half` of its socket is shut. Says
    /// what came of it, and whether the client was too slow.
    pub(super) async fn wait<F: Future>(
        &mut self,
        worker: &Worker,
        client: RawFd,
        half: Half,
        work: F,
    ) -> (F::Output, bool) {
        let now = clock::now();
        let until = now + self.left;
        let armed = worker.deadlines.arm(&client, half, until);
        let lagging = self.holds.then(|| worker.laggards.enter(client, until));
        let output = work.await;
        let pressed = lagging.is_some_and(|lagging| lagging.is_cut());
        let expired = armed.expired();
        self.waited(clock::now().saturating_duration_since(now));
        (output, expired || pressed)
    }

    /// The client has used up this much.
    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// The client has sent, or taken, so many bytes.
    pub(super) fn moved(&mut self, bytes: usize) {
        let won = (bytes as u64)
            .saturating_mul(1_000_000_000)
            .checked_div(self.rate)
            .map_or(self.full, Duration::from_nanos);
        self.left = self.left.saturating_add(won).min(self.full);
    }
}

/// The clients of one worker that are waited for while they hold a connection to the upstream.
#[derive(Default)]
pub(super) struct Laggards {
    entries: Rc<RefCell<Slab<Laggard>>>,
}

struct Laggard {
    client: RawFd,
    /// When its credit is used up.
    until: Instant,
    cut: bool,
}

/// One client's entry, struck off when dropped. Must be dropped before its socket.
struct Lagging {
    entries: Rc<RefCell<Slab<Laggard>>>,
    key: usize,
}

impl Laggards {
    fn enter(&self, client: RawFd, until: Instant) -> Lagging {
        let key = self.entries.borrow_mut().insert(Laggard {
            client,
            until,
            cut: false,
        });
        Lagging {
            entries: self.entries.clone(),
            key,
        }
    }

    /// A request needs a connection and there is none: cuts off the client with the least left of its
    /// `full` credit, if one is [`BEHIND`]. Looks through all of them, of which there are no more than connections.
    pub(super) fn press(&self, now: Instant, full: Duration) {
        let mut entries = self.entries.borrow_mut();
        let candidates = entries.iter_mut().map(|(_, entry)| entry);
        let slowest = candidates
            .filter(|entry| !entry.cut)
            .min_by_key(|entry| entry.until);
        if let Some(slowest) = slowest
            && slowest.until + BEHIND.min(full) <= now + full
        {
            slowest.cut = true;
            shut(&slowest.client, Half::Both);
        }
    }
}

impl Lagging {
    fn is_cut(&self) -> bool {
        self.entries.borrow()[self.key].cut
    }
}

impl Drop for Lagging {
    fn drop(&mut self) {
        self.entries.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Duration = Duration::from_secs(75);

    fn pace(rate: u64) -> Pace {
        Pace::new(&Config {
            client_idle_timeout: FULL,
            client_min_rate: rate,
            ..Config::default()
        })
    }

    /// How long a client lasts that pauses for `pause` and then moves `bytes`, again and again; at the
    /// most a day.
    fn lasts(rate: u64, pause: Duration, bytes: usize) -> Duration {
        let (mut pace, mut lasted) = (pace(rate), Duration::ZERO);
        while lasted < Duration::from_secs(86_400) {
            let waited = pause.min(pace.left);
            lasted += waited;
            if waited < pause {
                break;
            }
            pace.waited(pause);
            pace.moved(bytes);
        }
        lasted
    }

    #[test]
    fn a_client_below_the_rate_is_cut_off_after_its_credit_and_one_above_it_never() {
        let second = Duration::from_secs(1);
        let day = Duration::from_secs(86_400);
        assert!(lasts(1_000, second, 1_000) >= day);
        assert!(lasts(1_000, 70 * second, 70_000) >= day, "with pauses");
        assert_eq!(
            lasts(1_000, 76 * second, usize::MAX),
            FULL,
            "no pause longer than all of it"
        );
        assert!(lasts(1_000, second, 500) <= 2 * FULL);
        assert!(lasts(1_000, second, 1) < FULL + second);
        assert!(lasts(1_000, second / 1_000, 0) <= FULL, "nothing at all");
        assert!(lasts(0, 74 * second, 1) >= day, "without a rate");
    }

    #[test]
    fn what_came_at_once_is_no_credit_for_later() {
        let mut pace = pace(1_000);
        pace.moved(100_000_000);
        assert_eq!(pace.left, FULL);
    }

    #[test]
    fn the_one_furthest_behind_goes_first_and_who_keeps_up_stays() {
        use std::os::fd::AsRawFd;
        use std::os::unix::net::UnixStream;
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let now = Instant::from_nanos(1_000_000_000_000);
        let laggards = Laggards::default();
        // 1 s, 40 s and 3 s behind.
        let entries = [74, 35, 72].map(Duration::from_secs);
        let entries: Vec<_> = pairs
            .iter()
            .zip(entries)
            .map(|((ours, _), left)| laggards.enter(ours.as_raw_fd(), now + left))
            .collect();
        let cut = || -> Vec<bool> { entries.iter().map(Lagging::is_cut).collect() };
        laggards.press(now, FULL);
        assert_eq!(cut(), [false, true, false]);
        laggards.press(now, FULL);
        assert_eq!(cut(), [false, true, true]);
        laggards.press(now, FULL);
        assert_eq!(cut(), [false, true, true], "1 s is not behind");
        laggards.press(now + Duration::from_secs(1), FULL);
        assert_eq!(cut(), [true, true, true]);
        drop(entries);
        assert!(laggards.entries.borrow().is_empty());
    }
}
