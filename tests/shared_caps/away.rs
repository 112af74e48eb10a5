//! Redis is away, does not answer, or does not let us in.

use std::time::{Duration, Instant};

use weir::config::{RedisAddress, RedisFail, RedisSettings};
use weir::egress::shared::{Fleet, LinkError, Standing, Verdict};

use crate::redis_server::Redis;
use crate::stage::{ask, ask_all, eventually, fleet, granted, host, stands};
use crate::support::program::Program;

#[test]
fn while_redis_is_away_the_policy_holds_and_afterwards_the_cap() {
    let mut redis = Redis::start(&[]);
    let host = host("a");
    let with = |fail| RedisSettings {
        fail,
        ..redis.settings()
    };
    let policies = [RedisFail::Closed, RedisFail::Open, RedisFail::Local];
    let fleets = policies.map(|fail| fleet(&with(fail)));
    for each in &fleets {
        eventually("all see three", || each.counters().fleet == 3);
    }
    redis.kill();
    for each in &fleets {
        stands(each, Standing::Away);
        assert_eq!(each.counters().lost, 1);
    }
    let [closed, open, local] = &fleets;
    assert_eq!(ask_all(closed, &host, 25, 2), [Verdict::Refused; 2]);
    assert_eq!(ask(closed, &host, 0), Verdict::Granted, "without a cap");
    assert_eq!(granted(&ask_all(open, &host, 25, 40)), 40);
    let part = granted(&ask_all(local, &host, 25, 40));
    assert!(part == 8 || part == 9, "a third of 25, not {part}");
    assert_eq!(ask(local, &host, 25), Verdict::Full);
    assert_eq!(local.counters().alone_granted, part as u64);
    local.give_back(&host);
    assert_eq!(ask(local, &host, 25), Verdict::Granted, "one is free again");
    (0..40).for_each(|_| open.give_back(&host));
    redis.run();
    for each in &fleets {
        stands(each, Standing::Shared);
    }
    let left = part as i64 + 1;
    eventually("what was granted is told", || redis.total() == left);
    assert_eq!(ask_all(closed, &host, 25, 40).len(), 40);
    eventually("the cap is met", || redis.total() == 25);
    assert_eq!(ask(open, &host, 25), Verdict::Full);
}

#[test]
fn a_redis_that_cannot_be_reached_at_the_start_is_found_later() {
    let mut redis = Redis::start(&[]);
    redis.kill();
    let alone = Fleet::start(&redis.settings()).unwrap();
    assert_eq!(
        granted(&ask_all(&alone, &host("a"), 3, 5)),
        3,
        "all is its own"
    );
    redis.run();
    stands(&alone, Standing::Shared);
    eventually("it is told", || redis.total() == 3);
    assert_eq!(ask(&alone, &host("a"), 3), Verdict::Full);
}

#[test]
fn a_redis_that_hangs_is_not_waited_for_and_what_it_does_later_has_no_effect() {
    let redis = Redis::start(&[]);
    let settings = RedisSettings {
        timeout: Duration::from_millis(200),
        fail: RedisFail::Closed,
        ..redis.settings()
    };
    let a = fleet(&settings);
    let host = host("a");
    assert_eq!(granted(&ask_all(&a, &host, 25, 2)), 2);
    redis.signal("STOP");
    let began = Instant::now();
    assert_eq!(ask_all(&a, &host, 25, 10), [Verdict::Refused; 10]);
    // Twice the timeout; the rest is for a machine that is busy.
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    assert_eq!(ask(&a, &host, 25), Verdict::Refused);
    a.give_back(&host);
    assert!(began.elapsed() < Duration::from_secs(1));
    redis.signal("CONT");
    stands(&a, Standing::Shared);
    // Redis has carried out by now what it had in its sockets: ten more, for nobody.
    eventually("only what is open is counted", || redis.total() == 1);
    assert_eq!(granted(&ask_all(&a, &host, 25, 40)), 24);
}

#[test]
fn a_setting_that_cannot_ever_do_is_an_error_at_the_start() {
    let redis = Redis::start(&["--requirepass", "right"]);
    let refused = |settings: &RedisSettings| Fleet::start(settings).unwrap_err().to_string();
    let with = |password: &str| RedisSettings {
        password: Some(password.into()),
        ..redis.settings()
    };
    let missing = refused(&redis.settings());
    assert!(missing.contains("REDIS_PASSWORD"), "{missing}");
    let wrong = refused(&with("wrong"));
    assert!(wrong.contains("REDIS_PASSWORD"), "{wrong}");
    assert!(!wrong.contains("wrong;") && !missing.contains("right"));
    let database = refused(&RedisSettings {
        db: 99,
        ..with("right")
    });
    assert!(database.contains("REDIS_DB"), "{database}");
    let a = fleet(&with("right"));
    assert_eq!(ask(&a, &host("a"), 1), Verdict::Granted);

    let cluster = Redis::start(&["--cluster-enabled", "yes"]);
    let cluster = refused(&cluster.settings());
    assert!(cluster.contains("cluster"), "{cluster}");

    let rights = "--user default on nopass ~* +ping +info";
    let limited = Redis::start(&rights.split(' ').collect::<Vec<_>>());
    let limited = refused(&limited.settings());
    assert!(limited.contains("proxy_rate_limiter:*"), "{limited}");
}

#[test]
fn a_user_of_redis_acl_needs_no_more_than_what_is_documented() {
    let rights = "--user weir on >secret ~proxy_rate_limiter:* ~weir:forward:* \
                  +evalsha +script|load +info +scan +get +mget +set +del +exists +time \
                  +zadd +zrange +zrangebyscore +zscore +zrem +zremrangebyscore +zremrangebyrank";
    let redis = Redis::start(&rights.split(' ').collect::<Vec<_>>());
    let settings = RedisSettings {
        username: Some("weir".to_owned()),
        password: Some("secret".into()),
        ..redis.settings()
    };
    let a = fleet(&settings);
    assert_eq!(ask_all(&a, &host("a"), 1, 2)[0], Verdict::Granted);
    assert!(a.stop(Duration::from_secs(10)));
    assert!(redis.counters().is_empty());
}

#[test]
fn redis_over_tcp_serves_as_well() {
    // Somebody may take the port between its choice and its use.
    let (redis, port) = (0..10)
        .find_map(|_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let redis = Redis::start(&["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            let listens = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
            listens.then_some((redis, port))
        })
        .expect("a port");
    let a = fleet(&RedisSettings::new(RedisAddress::Tcp(
        "127.0.0.1".to_owned(),
        port,
    )));
    assert_eq!(ask(&a, &host("a"), 1), Verdict::Granted);
    assert_eq!(redis.total(), 1);
}

#[test]
fn what_cannot_be_a_mistake_is_tried_again() {
    assert!(LinkError::Cluster.is_a_mistake());
    assert!(!LinkError::Timeout.is_a_mistake());
    assert!(!LinkError::Nonsense.is_a_mistake());
}

#[test]
fn a_password_that_is_wanted_later_is_said_though_it_was_said_before_that_redis_is_away() {
    let mut redis = Redis::start(&[]);
    let mock = loadtest::mock::start(loadtest::mock::MockConfig {
        tls: loadtest::mock::tls::Tls::Plain,
        ..loadtest::mock::MockConfig::default()
    });
    let address = format!("unix://{}", redis.socket().display());
    let settings = [("FORWARD_PORT", "0"), ("REDIS_ADDR", address.as_str())];
    let weir = Program::start(&mock.unwrap(), &settings);
    let mut lines = Vec::new();
    let mut said = |what: &str| {
        eventually(what, || {
            lines.extend(weir.log_lines());
            lines.iter().any(|line| line.contains(what))
        });
        lines
            .iter()
            .filter(|line| line.contains("Redis is away"))
            .count()
    };
    redis.kill();
    assert_eq!(said("Redis is away"), 1);
    redis.add("--requirepass");
    redis.add("secret");
    redis.run();
    let times = said("REDIS_PASSWORD");
    assert_eq!(times, 2, "{lines:#?}");
}
