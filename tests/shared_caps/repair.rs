//! What is not right in Redis becomes right again.

use std::thread;
use std::time::Duration;

use weir::config::{RedisFail, RedisSettings};
use weir::egress::shared::{Fleet, Standing, Verdict};

use crate::redis_server::Redis;
use crate::stage::{ask, ask_all, eventually, fleet, granted, host, stands};

#[test]
fn fleets_share_a_cap_and_give_back_what_they_took() {
    let redis = Redis::start(&[]);
    let (a, b) = (fleet(&redis.settings()), fleet(&redis.settings()));
    let host = host("api.example.com");
    assert_eq!(granted(&ask_all(&a, &host, 5, 3)), 3);
    assert_eq!(granted(&ask_all(&b, &host, 5, 3)), 2);
    assert_eq!(ask(&a, &host, 5), Verdict::Full);
    assert_eq!((a.active(&host), b.active(&host)), (5, 5));
    let expected = format!("proxy_rate_limiter:api.example.com:{}", a.worker());
    assert!(redis.counters().contains(&(expected, 3)));
    a.give_back(&host);
    eventually("a place is free", || redis.total() == 4);
    assert_eq!(ask(&b, &host, 5), Verdict::Granted);
    assert_eq!(ask(&b, &host, 5), Verdict::Full);
    (0..2).for_each(|_| a.give_back(&host));
    (0..3).for_each(|_| b.give_back(&host));
    eventually("no counter is left", || redis.counters().is_empty());
    assert_eq!(ask(&a, &host, 0), Verdict::Granted, "without a cap");
    eventually("Redis is told of it", || redis.total() == 1);
}

#[test]
fn hosts_are_counted_by_themselves_and_databases_too() {
    let redis = Redis::start(&[]);
    let a = fleet(&redis.settings());
    let elsewhere = fleet(&RedisSettings {
        db: 3,
        ..redis.settings()
    });
    for name in ["a.b", "a.b:8443", "[::1]:8443", "::1"] {
        assert_eq!(ask(&a, &host(name), 1), Verdict::Granted, "{name}");
        assert_eq!(ask(&a, &host(name), 1), Verdict::Full, "{name}");
        assert_eq!(ask(&elsewhere, &host(name), 1), Verdict::Granted, "{name}");
    }
}

#[test]
fn a_cap_that_was_lowered_takes_no_place_away_but_gives_none_before_enough_are_back() {
    let redis = Redis::start(&[]);
    let a = fleet(&redis.settings());
    let host = host("a");
    assert_eq!(granted(&ask_all(&a, &host, 10, 10)), 10);
    assert_eq!(ask(&a, &host, 4), Verdict::Full);
    (0..6).for_each(|_| a.give_back(&host));
    assert_eq!(ask(&a, &host, 4), Verdict::Full);
    a.give_back(&host);
    assert_eq!(ask(&a, &host, 4), Verdict::Granted);
}

#[test]
fn counters_that_vanish_are_written_anew_and_nobody_gets_the_places_meanwhile() {
    let redis = Redis::start(&[]);
    let settings = RedisSettings {
        // Strict, so that nothing but Redis grants.
        fail: RedisFail::Closed,
        max_lifetime: Duration::from_secs(2),
        ..redis.settings()
    };
    let (a, b) = (fleet(&settings), fleet(&settings));
    let host = host("a");
    assert_eq!(granted(&ask_all(&a, &host, 10, 7)), 7);
    redis::cmd("FLUSHALL").exec(&mut redis.connect()).unwrap();
    let mut got = 0;
    eventually("both have noticed, and share again", || {
        got += granted(&ask_all(&b, &host, 10, 4));
        assert!(got <= 3, "{got}");
        let is_back = |fleet: &Fleet| {
            let counters = fleet.counters();
            counters.forgotten >= 1 && counters.standing == Standing::Shared
        };
        is_back(&a) && is_back(&b)
    });
    eventually("all is there again", || redis.total() == 7 + got as i64);
    // One counter alone is missed at the next renewal.
    let key = format!("proxy_rate_limiter:a:{}", a.worker());
    redis::cmd("DEL")
        .arg(&key)
        .exec(&mut redis.connect())
        .unwrap();
    eventually("it is there again", || {
        redis.counters().contains(&(key.clone(), 7))
    });
}

#[test]
fn scripts_that_vanish_are_loaded_again() {
    let redis = Redis::start(&[]);
    let a = fleet(&redis.settings());
    let host = host("a");
    for _ in 0..3 {
        redis::cmd("SCRIPT")
            .arg("FLUSH")
            .exec(&mut redis.connect())
            .unwrap();
        assert_eq!(ask(&a, &host, 5), Verdict::Granted);
    }
    eventually("three are counted", || redis.total() == 3);
    assert_eq!(a.counters().lost, 0);
    assert_eq!(a.counters().alone_granted, 0);
}

#[test]
fn what_is_open_stays_counted_beyond_the_life_of_a_counter() {
    let redis = Redis::start(&[]);
    let settings = RedisSettings {
        max_lifetime: Duration::from_secs(1),
        ..redis.settings()
    };
    let a = fleet(&settings);
    assert_eq!(ask(&a, &host("a"), 5), Verdict::Granted);
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(50));
        assert_eq!(redis.total(), 1);
    }
}

#[test]
fn a_fleet_that_stops_takes_its_traces_away_and_refuses() {
    let redis = Redis::start(&[]);
    let a = fleet(&redis.settings());
    let b = fleet(&redis.settings());
    for name in ["a", "b:8443"] {
        assert_eq!(granted(&ask_all(&a, &host(name), 5, 2)), 2);
    }
    assert!(a.stop(Duration::from_secs(10)));
    assert!(redis.counters().is_empty());
    let left: Vec<String> = redis::cmd("KEYS")
        .arg(format!("*{}*", a.worker()))
        .query(&mut redis.connect())
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(ask(&a, &host("a"), 5), Verdict::Refused);
    a.give_back(&host("a"));
    assert_eq!(ask(&b, &host("a"), 5), Verdict::Granted);
    eventually("it is alone", || b.counters().fleet == 1);
}

#[test]
fn a_first_fleet_on_a_first_redis_need_not_wait() {
    let redis = Redis::start_fresh(&[]);
    let fleets: Vec<Fleet> = (0..3)
        .map(|_| Fleet::start(&redis.settings()).unwrap())
        .collect();
    let host = host("a");
    let got = fleets
        .iter()
        .map(|fleet| granted(&ask_all(fleet, &host, 25, 25)));
    let got: usize = got.sum();
    assert!(
        fleets
            .iter()
            .any(|fleet| fleet.counters().standing == Standing::Settling)
    );
    assert!((9..=25).contains(&got), "{got}");
}

#[test]
fn a_redis_that_starts_anew_gives_nobody_what_others_hold() {
    let mut redis = Redis::start(&[]);
    let settings = RedisSettings {
        fail: RedisFail::Closed,
        ..redis.settings()
    };
    let fleets: Vec<Fleet> = (0..3).map(|_| fleet(&settings)).collect();
    let host = host("a");
    assert_eq!(granted(&ask_all(&fleets[0], &host, 25, 10)), 10);
    assert_eq!(granted(&ask_all(&fleets[1], &host, 25, 10)), 10);
    for round in 0..2 {
        redis.kill();
        stands(&fleets[0], Standing::Away);
        // Given back while nobody can be told.
        fleets[0].give_back(&host);
        redis.run();
        // The one that holds nothing asks all the time, and is the first to be back as often as not.
        let mut got = 0;
        while fleets[2].counters().standing != Standing::Shared {
            got += granted(&ask_all(&fleets[2], &host, 25, 20));
            thread::sleep(Duration::from_millis(5));
        }
        got += granted(&ask_all(&fleets[2], &host, 25, 20));
        assert!(got <= 6 + round, "{got} in round {round}");
        (0..got).for_each(|_| fleets[2].give_back(&host));
        for fleet in &fleets {
            stands(fleet, Standing::Shared);
        }
        let left = 19 - i64::try_from(round).unwrap();
        eventually("all that is open stands in Redis", || redis.total() == left);
    }
    let got = granted(&ask_all(&fleets[2], &host, 25, 20));
    assert_eq!(got, 7, "the cap holds as before, and nothing is lost");
}
