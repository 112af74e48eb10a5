//! Any sequence of operations on a pool of idle connections, beside an obvious model of it.
//!
//! - The connection that went idle last goes out first, and none that has idled too long.
//! - At the bound the oldest leaves; there are never more than the bound.
//! - A connection is in one place: handed out, given back, or in the pool, and never forgotten
//!   there once it is too old to be of use.
//! - The deadline is that of the oldest, and behind it there is nothing to expire.
//!
//! # Input
//! Text: two digits for the bound and the idle timeout, then letters, each with its digit: `p`ut,
//! `t`ake, `e`xpire, `c`lear, and any other for time that passes. A blank is skipped.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::rc::Rc;
use std::time::Duration;
use weir::clock::Instant;
use weir::upstream::pool::Pool;

/// More operations find nothing that these do not, and cost time.
const OPS_MAX: usize = 512;
/// Steps of time: below, at and above the timeouts.
const STEPS_MS: [u64; 8] = [0, 1, 9, 10, 11, 500, 1_000, 100_000];

type Connection = Rc<u32>;

struct World {
    pool: Pool<Connection>,
    /// What has to be in it, oldest first.
    model: Vec<(Instant, Connection)>,
    timeout: Duration,
    max: usize,
    now: Instant,
    opened: u32,
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.iter().filter(|&&byte| byte != b' ');
    let mut next = || bytes.next().map(|byte| usize::from(byte & 15));
    let (Some(max), Some(timeout)) = (next(), next()) else {
        return;
    };
    let max = max % 6;
    let timeout = Duration::from_millis([0, 10, 1_000][timeout % 3]);
    let mut world = World {
        pool: Pool::new(max, timeout),
        model: Vec::new(),
        timeout,
        max,
        now: Instant::from_millis(1),
        opened: 0,
    };
    for _ in 0..OPS_MAX {
        match next() {
            // The low half of a letter, so that every byte is an operation.
            Some(0) => world.put(),
            Some(4) => world.take(),
            Some(5) => world.expire(),
            Some(3) => world.clear(),
            Some(_) => {
                let step = next().unwrap_or_default();
                world.now += Duration::from_millis(STEPS_MS[step % STEPS_MS.len()]);
            }
            None => break,
        }
        world.check();
    }
});

impl World {
    fn stale(&self, since: Instant) -> bool {
        since + self.timeout <= self.now
    }

    fn put(&mut self) {
        self.opened += 1;
        let connection = Rc::new(self.opened);
        let evicted = self.pool.put(self.now, connection.clone());
        self.model.push((self.now, connection));
        let expected = (self.model.len() > self.max).then(|| self.model.remove(0).1);
        assert_eq!(evicted, expected);
    }

    fn take(&mut self) {
        let taken = self.pool.take(self.now);
        let expected = self.model.pop().filter(|(since, _)| !self.stale(*since));
        assert_eq!(
            taken,
            expected.map(|(since, connection)| (connection, since))
        );
    }

    fn expire(&mut self) {
        while let Some(expired) = self.pool.expire(self.now) {
            let (since, connection) = self.model.remove(0);
            assert!(self.stale(since), "it was still good");
            assert_eq!(expired, connection);
        }
        let next = self.pool.next_deadline();
        assert!(next.is_none_or(|at| at > self.now), "one is left behind");
    }

    fn clear(&mut self) {
        self.pool.clear();
        self.model.clear();
    }

    fn check(&self) {
        assert_eq!(self.pool.len(), self.model.len());
        assert_eq!(self.pool.is_empty(), self.model.is_empty());
        assert!(self.pool.len() <= self.max);
        let oldest = self.model.first().map(|(since, _)| *since + self.timeout);
        assert_eq!(self.pool.next_deadline(), oldest);
        for (_, connection) in &self.model {
            assert_eq!(
                Rc::strong_count(connection),
                2,
                "the pool's and the model's"
            );
        }
    }
}
