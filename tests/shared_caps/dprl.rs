//! A fleet in which some proxies are dprl: one that follows dprl's description of its keys, against
//! the same Redis.

use std::time::Duration;

use weir::config::RedisSettings;
use weir::egress::shared::Verdict;

use crate::redis_server::Redis;
use crate::stage::{ask, ask_all, eventually, fleet, granted, host};

/// What dprl does to Redis: all counters of a host are found by pattern and added up; its own is one
/// more if the sum is below the limit, and lives for a while from then on.
const TAKE: &str = "
local sum = 0
for _, counter in ipairs(redis.call('KEYS', 'proxy_rate_limiter:' .. ARGV[1] .. ':*')) do
    sum = sum + (tonumber(redis.call('GET', counter)) or 0)
end
if sum >= tonumber(ARGV[2]) then return 0 end
redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
";

/// A proxy of dprl's.
struct Dprl {
    connection: redis::Connection,
    worker: String,
}

impl Dprl {
    fn start(redis: &Redis, number: u32) -> Self {
        Self {
            connection: redis.connect(),
            worker: format!("worker-17000000000000000{number:02}-1"),
        }
    }

    fn key(&self, host: &str) -> String {
        format!("proxy_rate_limiter:{host}:{}", self.worker)
    }

    fn take(&mut self, host: &str, cap: u32) -> bool {
        let key = self.key(host);
        let taken: i64 = redis::cmd("EVAL")
            .arg(TAKE)
            .arg(1)
            .arg(key)
            .arg(host)
            .arg(cap)
            .arg(300)
            .query(&mut self.connection)
            .unwrap();
        taken == 1
    }

    fn give_back(&mut self, host: &str) {
        let key = self.key(host);
        let left: i64 = redis::cmd("DECR")
            .arg(&key)
            .query(&mut self.connection)
            .unwrap();
        if left <= 0 {
            redis::cmd("DEL")
                .arg(&key)
                .exec(&mut self.connection)
                .unwrap();
        }
    }
}

fn scanning(redis: &Redis, interval: Duration) -> RedisSettings {
    RedisSettings {
        scan_interval: Some(interval),
        ..redis.settings()
    }
}

#[test]
fn a_mixed_fleet_shares_one_cap() {
    let redis = Redis::start(&[]);
    let mut dprl = Dprl::start(&redis, 1);
    assert!(dprl.take("a.b", 10));
    // Who was there before is found before the first place is given.
    let weir = fleet(&scanning(&redis, Duration::from_secs(3_600)));
    let host = host("a.b");
    assert_eq!(weir.counters().foreign, 1);
    assert_eq!(granted(&ask_all(&weir, &host, 10, 4)), 4);
    for _ in 0..5 {
        assert!(dprl.take("a.b", 10));
    }
    assert!(!dprl.take("a.b", 10), "dprl sees weir's");
    assert_eq!(ask(&weir, &host, 10), Verdict::Full, "weir sees dprl's");
    assert_eq!(weir.active(&host), 10);
    dprl.give_back("a.b");
    assert_eq!(ask(&weir, &host, 10), Verdict::Granted);
    weir.give_back(&host);
    eventually("dprl gets what weir gave back", || dprl.take("a.b", 10));
    // Having had nothing for a while, it is still known.
    (0..6).for_each(|_| dprl.give_back("a.b"));
    assert!(
        !redis
            .counters()
            .iter()
            .any(|(key, _)| *key == dprl.key("a.b"))
    );
    (0..6).for_each(|_| assert!(dprl.take("a.b", 10)));
    assert_eq!(ask(&weir, &host, 10), Verdict::Full);
    // Other hosts of the same worker need not be looked for.
    (0..3).for_each(|_| assert!(dprl.take("c.d:8443", 3)));
    assert_eq!(
        ask(&weir, &crate::stage::host("c.d:8443"), 3),
        Verdict::Full
    );
}

#[test]
fn a_mixed_fleet_in_a_hurry_never_exceeds_the_cap() {
    const CAP: u32 = 12;
    let redis = Redis::start(&[]);
    let mut dprls: Vec<Dprl> = (0..2).map(|number| Dprl::start(&redis, number)).collect();
    dprls
        .iter_mut()
        .for_each(|dprl| assert!(dprl.take("a", CAP)));
    let weir = fleet(&redis.settings());
    let host = host("a");
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| (0..400).map(|_| redis.total()).max());
        for dprl in &mut dprls {
            scope.spawn(move || {
                for turn in 0..300 {
                    // The one that it keeps, by turns, or one more.
                    if turn % 7 == 6 || dprl.take("a", CAP) {
                        dprl.give_back("a");
                    }
                    if turn % 7 == 6 {
                        while !dprl.take("a", CAP) {}
                    }
                }
            });
        }
        for _ in 0..60 {
            let got = granted(&ask_all(&weir, &host, CAP, 20));
            (0..got).for_each(|_| weir.give_back(&host));
        }
        let most = watch.join().unwrap().unwrap();
        assert!(most <= i64::from(CAP), "{most} at once");
    });
    eventually("only what dprl holds is left", || redis.total() == 2);
}

#[test]
fn a_new_dprl_is_seen_within_a_scan_and_one_of_the_fleet_looks_for_all() {
    let redis = Redis::start(&[]);
    let settings = scanning(&redis, Duration::from_millis(100));
    let fleets = [fleet(&settings), fleet(&settings)];
    for number in 0..3 {
        let mut dprl = Dprl::start(&redis, number);
        assert!(dprl.take("a", 100));
        for each in &fleets {
            eventually("it is seen", || each.counters().foreign > number as usize);
        }
    }
    assert_eq!(granted(&ask_all(&fleets[0], &host("a"), 10, 20)), 7);
    // Nobody looks where there is nobody to be found.
    let alone = fleet(&RedisSettings {
        scan_interval: None,
        ..redis.settings()
    });
    assert_eq!(granted(&ask_all(&alone, &host("b"), 1, 2)), 1);
}

#[test]
fn a_counter_that_dprl_left_below_zero_makes_no_room() {
    let redis = Redis::start(&[]);
    let mut dprl = Dprl::start(&redis, 1);
    let key = dprl.key("a");
    redis::cmd("DECR")
        .arg(&key)
        .exec(&mut dprl.connection)
        .unwrap();
    let weir = fleet(&redis.settings());
    assert_eq!(granted(&ask_all(&weir, &host("a"), 5, 9)), 5);
    // Nor does something that is no number.
    redis::cmd("SET")
        .arg(&key)
        .arg("x")
        .exec(&mut dprl.connection)
        .unwrap();
    assert_eq!(ask(&weir, &host("a"), 6), Verdict::Granted);
    redis::cmd("DEL")
        .arg(&key)
        .exec(&mut dprl.connection)
        .unwrap();
    redis::cmd("HSET")
        .arg(&key)
        .arg("x")
        .arg("y")
        .exec(&mut dprl.connection)
        .unwrap();
    assert_eq!(ask(&weir, &host("a"), 7), Verdict::Granted);
}
